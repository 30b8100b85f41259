"""The files that pages load: each under the hash of its bytes, so that none ever changes.

A page names the file with its integrity (W3C Subresource Integrity), so a browser runs the
script that this release was built with, or none.
"""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cms.faces.cardholder.page.messages import LANGUAGES

ASSETS_PATH: Final = "/pin-assets"
_HERE: Final = Path(__file__).parent
MEDIA_TYPES: Final = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """A file as it is served."""

    path: str
    """As in a URL, with the hash."""
    body: bytes
    media_type: str
    integrity: str

    @property
    def headers(self) -> dict[str, str]:
        """Return every header of the answer but its length."""
        return {
            "Content-Type": self.media_type,
            "Cache-Control": "public, max-age=31536000, immutable",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }


def _asset(file: Path) -> Asset:
    body = file.read_bytes()
    digest = hashlib.sha384(body).digest()
    return Asset(
        path=f"{ASSETS_PATH}/{digest[:16].hex()}/{file.name}",
        body=body,
        media_type=MEDIA_TYPES[file.suffix],
        integrity=f"sha384-{base64.b64encode(digest).decode()}",
    )


def _text(name: str) -> str:
    return (_HERE / "assets" / name).read_text(encoding="utf-8")


def _script(name: str) -> Asset:
    return _asset(_HERE / "assets" / f"{name}.js")


PARTS, JWE, PIN_SLOTS = map(_script, ("parts", "jwe", "pin_slots"))
PIN_ENTRY, SET_FLOW = map(_script, ("pin_entry", "set_flow"))
SET_PIN: Final = _script("set_pin")
PIN_CONTROL, SHOW_PIN = map(_script, ("pin_control", "show_pin"))
SCRIPTS: Final = (PARTS, JWE, PIN_SLOTS, PIN_ENTRY, SET_FLOW, SET_PIN, PIN_CONTROL, SHOW_PIN)
APP_LINK: Final = _text("app_link.js")
"""Part of a page, not loaded by it: what tells an app that a page did not load must be there."""
STYLESHEET: Final = _asset(_HERE / "assets" / "page.css")
TEXTS: Final = {name: _asset(_HERE / "messages" / f"{name}.json") for name in LANGUAGES}

ASSETS: Final[Mapping[str, Asset]] = {
    asset.path: asset for asset in (*SCRIPTS, STYLESHEET, *TEXTS.values())
}
"""Every file by its path: what is not here does not exist."""

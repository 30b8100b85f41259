"""A client that plays an app of the hosted face, and the script of the page that it opens.

It imports nothing of the service and has its own ISO 9564-1 format-1 block, so that a mistake in
the service is not repeated, and hidden, here. An app holds no PIN; the page's script does, on the
cardholder's device.
"""

import base64
import hashlib
import json
import re
import secrets
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import httpx

from cms.sandbox.partners.d1_client import encrypt

PIN: Final = re.compile(r"[0-9]{4,12}")
BLOCK_NIBBLES: Final = 16
TIMEOUT_S: Final = 10
#: What a HostedError says when an answer has the right status and cannot be used.
UNREADABLE: Final = "unreadable answer"


class HostedError(Exception):
    """The service refused a call, or gave an answer that an app cannot use."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status} {message}")
        self.status = status


@dataclass(frozen=True)
class HostedConfig:
    """What an app holds, and the access token of its cardholder, in a file."""

    base_url: str
    ca: Path
    client_key: str
    access_token_file: Path
    issuer_id: str
    card_id: str

    def access_token(self) -> str:
        """Read the token; it is another one after each start of the demo."""
        return self.access_token_file.read_text().strip()


@dataclass(frozen=True)
class Control:
    """A control token, and the address that it is good for."""

    token: str
    url: str


@dataclass(frozen=True)
class PageSession:
    """What the script of an open page holds."""

    session: str
    key: Mapping[str, str]


def load(sandbox: Path) -> HostedConfig:
    """Read *sandbox*; its paths start at the repository's root."""
    content = json.loads(sandbox.read_text())
    root = sandbox.absolute().parent.parent
    hosted = content["hosted"]
    return HostedConfig(
        base_url=hosted["baseUrl"],
        ca=root / content["ca"],
        client_key=hosted["clientKey"],
        access_token_file=root / hosted["accessTokenFile"],
        issuer_id=hosted["issuerId"],
        card_id=hosted["cardId"],
    )


def iso1_block(pin: str) -> str:
    """Build the clear ISO 9564-1 format-1 block: 1, length, PIN, random; 16 hexadecimal digits.

    Raises:
        ValueError: *pin* is not 4 to 12 digits.
    """
    if not PIN.fullmatch(pin):
        raise ValueError("a PIN is 4 to 12 digits")
    field = f"1{len(pin):X}{pin}"
    fill = (f"{secrets.randbelow(16):X}" for _ in range(BLOCK_NIBBLES - len(field)))
    return field + "".join(fill)


def sid(session: str) -> str:
    """Name a page session to the vault: SHA-256 of its secret in base64url, unpadded."""
    digest = hashlib.sha256(session.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


class HostedClient:
    """An app's calls for one cardholder, over one kept-alive connection.

    Not for several threads. ``last_status`` and ``last_ms`` tell of the newest answer.
    """

    def __init__(self, config: HostedConfig, transport: httpx.BaseTransport | None = None) -> None:
        self._config = config
        tls = ssl.create_default_context(cafile=config.ca)
        self._http = httpx.Client(
            base_url=config.base_url,
            transport=transport or httpx.HTTPTransport(verify=tls),
            timeout=TIMEOUT_S,
        )
        self.last_status = 0
        self.last_ms = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def card(self) -> dict[str, Any]:
        """Return the cardholder's card."""
        return _json(_expect(self._call("GET", "/v1/card/status"), 200))

    def view_token(self) -> Control:
        """Ask for an image of the PIN."""
        return self._control("/v1/card/pin/token", "imageUrl")

    def set_token(self) -> Control:
        """Ask for a page to set the PIN on."""
        return self._control("/v1/card/set-pin/token", "hostedPageUrl")

    def image(self, control: Control) -> httpx.Response:
        """Fetch the image as a browser does, without a bearer, whatever becomes of it."""
        return self._send("GET", control.url)

    def page(self, control: Control) -> httpx.Response:
        """Load the page."""
        return _expect(self._send("GET", control.url), 200)

    def open(self, control: Control) -> PageSession:
        """Consume the token for a session, as the page's script does."""
        response = self._send("POST", "/pin-direct/session", json={"token": control.token})
        answer = _json(_expect(response, 200))
        try:
            return PageSession(answer["session"], answer["key"])
        except KeyError:
            raise HostedError(200, UNREADABLE) from None

    def submit(self, opened: PageSession, pin: str) -> None:
        """Send the PIN as the page's script does: only the vault can open it."""
        jwe = encrypt({"sid": sid(opened.session), "block": iso1_block(pin)}, opened.key)
        body = {"session": opened.session, "jwe": jwe}
        _expect(self._send("POST", "/pin-direct/submit", json=body), 204)

    def _control(self, path: str, member: str) -> Control:
        answer = _json(_expect(self._call("POST", path), 200))
        try:
            return Control(answer["token"], answer[member])
        except KeyError:
            raise HostedError(200, UNREADABLE) from None

    def _call(self, method: str, path: str) -> httpx.Response:
        bearer = f"Bearer {self._config.access_token()}"
        headers = {"x-client-key": self._config.client_key, "authorization": bearer}
        return self._send(method, path, headers=headers)

    def _send(self, method: str, path: str, **kwargs: Any) -> httpx.Response:  # noqa: ANN401 - httpx's
        started_s = time.perf_counter()
        response = self._http.request(method, path, **kwargs)
        self.last_ms = (time.perf_counter() - started_s) * 1000
        self.last_status = response.status_code
        return response


def _expect(response: httpx.Response, status: int) -> httpx.Response:
    if response.status_code != status:
        raise HostedError(response.status_code, str(_json(response).get("message", UNREADABLE)))
    return response


def _json(response: httpx.Response) -> dict[str, Any]:
    try:
        answer = response.json()
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise HostedError(response.status_code, UNREADABLE)
    return answer

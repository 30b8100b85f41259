"""A PKCS#11 URI that names an HSM token, its module and the file of its user PIN (RFC 7512).

``pkcs11:token=pins;serial=7971141c951158b8?module-path=/opt/vendor/libpkcs11.so&pin-source=file:/run/pin``
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self
from urllib.parse import unquote, urlsplit

SCHEME: Final = "pkcs11:"
#: Attributes of the path that name a token, its slot or its library (RFC 7512, 2.3).
NAMES: Final = (
    *("token", "manufacturer", "serial", "model"),
    *("slot-id", "slot-description", "slot-manufacturer"),
    *("library-manufacturer", "library-description", "library-version"),
)
#: Those of the query (2.4) that are taken.
QUERY: Final = ("module-path", "pin-source")
_CHARS: Final = re.compile(r"[A-Za-z0-9\-._~:\[\]@!$'()*+,=&/?|%]*")
_ESCAPE: Final = re.compile("%(?![0-9A-Fa-f]{2})")


class TokenUriError(ValueError):
    """It is no URI of a token; the message says why and shows nothing of it."""


@dataclass(frozen=True, slots=True)
class TokenUri:
    """What the URI says; what it does not say is absent."""

    names: tuple[tuple[str, str], ...]
    """Attribute and value, by which the token is told from others."""
    module: Path | None
    pin_file: Path | None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a URI.

        Raises:
            TokenUriError: it is none, names an object or nothing, has an attribute twice or one
                that RFC 7512 does not know, or holds a PIN itself.
        """
        if not text.startswith(SCHEME):
            raise TokenUriError("not a URI that begins with pkcs11:")
        path, _, query = text.removeprefix(SCHEME).partition("?")
        attributes = _attributes(path, ";")
        if not attributes.keys() <= {*NAMES}:
            raise TokenUriError("the path names what no HSM token is found by")
        if not attributes.get("slot-id", "0").isdecimal():
            raise TokenUriError("slot-id is no number")
        asked = _attributes(query, "&")
        if "pin-value" in asked:
            raise TokenUriError("a PIN does not stand in a URI: name its file as pin-source")
        if not asked.keys() <= {*QUERY}:
            raise TokenUriError("the query has more than module-path and pin-source")
        return cls(tuple(attributes.items()), _path(asked, QUERY[0]), _path(asked, QUERY[1]))

    @property
    def label(self) -> str | None:
        """The label of the token."""
        return dict(self.names).get("token")


def _attributes(text: str, separator: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in text.split(separator) if text else ():
        name, is_given, value = part.partition("=")
        if not is_given or name in found or not _CHARS.fullmatch(value) or _ESCAPE.search(value):
            raise TokenUriError("an attribute is malformed, or there twice")
        try:
            found[name] = unquote(value, errors="strict")
        except UnicodeDecodeError:
            raise TokenUriError("an attribute is not UTF-8") from None
    return found


def _path(asked: dict[str, str], name: str) -> Path | None:
    """Read a path, or a URI ``file:``; a command (``|``) is not run."""
    if name not in asked:
        return None
    value = asked[name]
    if value.startswith("file:"):
        split = urlsplit(value)
        value = "" if split.netloc not in {"", "localhost"} else split.path
    if not value.startswith("/"):
        raise TokenUriError("module-path and pin-source are absolute paths of files")
    return Path(value)

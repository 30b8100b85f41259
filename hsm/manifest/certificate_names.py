"""By what a client's certificate is known: its subject, a name of its SAN, or its SHA-256.

Each is text that stands in a manifest as it is compared::

    CN=d1,O=Example,C=DE     the subject, as hsm.manifest.distinguished_name writes it
    dns:d1.example           a DNS name: lower case, each label as DNS has it (A-label)
    uri:spiffe://bank/d1     a URI: scheme and host in lower case, the rest as it is
    sha256:0123…             of the whole certificate, 64 hexadecimal digits in lower case
"""

import base64
import re
from typing import Final

import idna

from hsm.manifest import distinguished_name
from hsm.manifest.distinguished_name import NameRefused

NAME_CHARS_MAX: Final = 4096
"""Of a name as it is written; to put a text of combining marks in order takes their square."""
_KIND: Final = re.compile("(dns|uri|sha256):(.*)", re.IGNORECASE | re.DOTALL)
_DNS: Final = re.compile(r"(?:\*\.)?(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_-]{1,63}")
_DNS_CHARS_MAX: Final = 253
_URI: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(?://([^/?#]*))?(.*)", re.DOTALL)
_AUTHORITY: Final = re.compile(r"(.*@)?(\[[^\]]*\]|[^:@]*)(:[0-9]*)?")
_VISIBLE: Final = re.compile("[!-~]+")
_SHA256_HEX: Final = re.compile("(?:[0-9a-fA-F]{2}:?){31}[0-9a-fA-F]{2}")
_SHA256_BASE64URL: Final = re.compile("[A-Za-z0-9_-]{43}=?")


def dns(name: str) -> str:
    """Write a DNS name of a certificate."""
    return f"dns:{name.lower().removesuffix('.')}"


def uri(name: str) -> str:
    """Write a URI of a certificate (RFC 5280, section 7.4)."""
    found = _URI.fullmatch(name)
    if found is None:
        return f"uri:{name}"
    scheme, authority, rest = found.groups()
    if authority is None:
        return f"uri:{scheme.lower()}:{rest}"
    user, at, host = authority.rpartition("@")
    return f"uri:{scheme.lower()}://{user}{at}{host.lower()}{rest}"


def sha256(digest: bytes) -> str:
    """Write the SHA-256 of a certificate."""
    return f"sha256:{digest.hex()}"


def parse_name(text: str) -> str:
    """Read what an operator writes to register a certificate.

    Raises:
        NameRefused: it cannot be the name of a certificate, or not for sure.
    """
    if len(text) > NAME_CHARS_MAX:
        raise NameRefused("the name of a certificate has at most 4096 characters")
    found = _KIND.fullmatch(text)
    if found is None:
        return distinguished_name.parse(text)
    kind, name = found[1].lower(), found[2]
    if kind == "sha256":
        return sha256(_digest(name))
    return dns(_host(name)) if kind == "dns" else uri(_with_ascii_host(name))


def is_canonical(text: str) -> bool:
    """Tell whether *text* is the name of a certificate as it is compared."""
    if len(text) > NAME_CHARS_MAX:
        return False
    if _KIND.fullmatch(text) is None:
        return distinguished_name.is_canonical(text)
    try:
        return parse_name(text) == text
    except NameRefused:
        return False


def _host(name: str) -> str:
    """Return a DNS name in ASCII; an asterisk may stand for its first label, as it does in SANs."""
    try:
        ascii_name = name if name.isascii() else idna.encode(name, uts46=True).decode()
    except idna.IDNAError:
        raise NameRefused("not a DNS name") from None
    bare = ascii_name.lower().removesuffix(".")
    if len(bare) > _DNS_CHARS_MAX or not _DNS.fullmatch(bare):
        raise NameRefused("not a DNS name")
    return bare


def _with_ascii_host(name: str) -> str:
    found = _URI.fullmatch(name)
    authority = found[2] if found else None
    if found and authority and not authority.isascii():
        parts = _AUTHORITY.fullmatch(authority)
        if parts is None:
            raise NameRefused("not a URI")
        host = f"{parts[1] or ''}{_host(parts[2])}{parts[3] or ''}"
        name = f"{found[1]}://{host}{found[3]}"
    if not found:
        raise NameRefused("not a URI")
    if not _VISIBLE.fullmatch(name):
        raise NameRefused("not a URI: what is not ASCII in its path is written with %")
    return name


def _digest(text: str) -> bytes:
    if _SHA256_HEX.fullmatch(text):
        return bytes.fromhex(text.replace(":", ""))
    if _SHA256_BASE64URL.fullmatch(text):
        return base64.urlsafe_b64decode(text[:43] + "=")
    raise NameRefused("a SHA-256 is 64 hexadecimal digits, or 43 characters of base64url")

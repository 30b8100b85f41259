"""Base64url in which each value has one spelling only (RFC 7515, section 2; RFC 4648, 5).

There is no padding, and unused bits are zero.
"""

import binascii
from typing import Final

from crypto.errors import JoseError

TO_STANDARD: Final = bytes.maketrans(b"-_", b"+/")
FROM_STANDARD: Final = bytes.maketrans(b"+/", b"-_")


def encode(data: bytes) -> str:
    r"""Return *data* as base64url without padding.

    >>> encode(b"\xff\xfe")
    '__4'
    """
    return _encode(data).decode("ascii")


def decode(text: str) -> bytes:
    """Return the bytes of which :func:`encode` makes exactly *text*.

    >>> decode("__4").hex()
    'fffe'
    >>> decode("__5")
    Traceback (most recent call last):
    crypto.errors.JoseError

    Raises:
        JoseError: *text* has padding, a character of another alphabet, an impossible length, or
            unused bits that are not zero.
    """
    try:
        ascii_text = text.encode("ascii")
        standard = ascii_text.translate(TO_STANDARD) + b"=" * (-len(ascii_text) % 4)
        data = binascii.a2b_base64(standard)
    except ValueError:
        raise JoseError from None
    # The library ignores characters that it does not know: encoding again shows if there were any.
    if _encode(data) != ascii_text:
        raise JoseError
    return data


def _encode(data: bytes) -> bytes:
    return binascii.b2a_base64(data, newline=False).rstrip(b"=").translate(FROM_STANDARD)

"""Base64url in which each value has one spelling only (RFC 7515, section 2; RFC 4648, 5).

There is no padding, and unused bits are zero.
"""

import base64

from crypto.errors import JoseError


def encode(data: bytes) -> str:
    r"""Return *data* as base64url without padding.

    >>> encode(b"\xff\xfe")
    '__4'
    """
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


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
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        raise JoseError from None
    # The library ignores characters that it does not know: encoding again shows if there were any.
    if encode(data) != text:
        raise JoseError
    return data

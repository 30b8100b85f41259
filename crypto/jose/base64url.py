"""Base64url with one spelling a value: no padding, no stray bits (RFC 7515, section 2)."""

import base64

from crypto.errors import JoseError


def encode(data: bytes) -> str:
    """Return *data* as unpadded base64url."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decode(text: str) -> bytes:
    """Return the bytes that :func:`encode` turns into exactly *text*.

    Raises:
        JoseError: there are none: padding, another alphabet, an impossible
            length, or unused bits that are not zero.
    """
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        raise JoseError from None
    # The library skips what it does not know; going back shows whether it did.
    if encode(data) != text:
        raise JoseError
    return data

"""HMAC-SHA-256 over several values at once (FIPS 198-1)."""

import hashlib
import hmac
from typing import Final

from crypto.secret import Secret

KEY_BYTES_MIN: Final = 32
_LENGTH_BYTES: Final = 4


def keyed_hash(key: Secret[bytes], *values: bytes) -> bytes:
    """Return 32 bytes that only the holder of *key* can compute.

    The HMAC runs over each value after its length, in 4 bytes, big-endian: no two lists of values
    are the same input.

    Raises:
        ValueError: the key has less than 32 bytes.
    """
    if len(key.reveal()) < KEY_BYTES_MIN:
        raise ValueError("the key is too short")
    message = b"".join(len(value).to_bytes(_LENGTH_BYTES, "big") + value for value in values)
    return hmac.digest(key.reveal(), message, hashlib.sha256)

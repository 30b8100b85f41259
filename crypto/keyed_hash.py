"""HMAC-SHA-256 over several values at once.

Source: FIPS 198-1. The input of the HMAC, each length in 4 bytes, big-endian::

    length ‖ value ‖ length ‖ value …
"""

import hashlib
import hmac
from typing import Final

from crypto.secret import Secret

KEY_BYTES_MIN: Final = 32
_LENGTH_BYTES: Final = 4


def keyed_hash(key: Secret[bytes], *values: bytes) -> bytes:
    """Return the HMAC of *values*, 32 bytes: only the holder of *key* can compute it.

    The lengths keep values apart: ``b"ab", b"c"`` and ``b"a", b"bc"`` have different hashes.

    >>> key = Secret(bytes(32))
    >>> keyed_hash(key, b"ab", b"c") == keyed_hash(key, b"a", b"bc")
    False

    Raises:
        ValueError: *key* is shorter than 32 bytes.
    """
    if len(key.reveal()) < KEY_BYTES_MIN:
        raise ValueError("the key is too short")
    message = b"".join(len(value).to_bytes(_LENGTH_BYTES, "big") + value for value in values)
    return hmac.digest(key.reveal(), message, hashlib.sha256)

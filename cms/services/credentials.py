"""Secrets of clients: 256 random bits that we made, of which only SHA-256 is stored.

Nobody guesses such a secret, so its hash need not be slow: a slow one costs the service only, and
whoever may send wrong secrets could have it spend its cores on them.
"""

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from typing import Final

SECRET_BYTES: Final = 32


def new_secret() -> str:
    """Make a secret: 256 random bits as base64url, 43 characters."""
    return secrets.token_urlsafe(SECRET_BYTES)


def hash_secret(secret: str) -> bytes:
    """Return what is stored of a secret: SHA-256 over its text, 32 bytes."""
    return hashlib.sha256(secret.encode(errors="surrogatepass")).digest()


def is_secret(secret: str, hashes: Sequence[bytes]) -> bool:
    """Compare a secret with each of *hashes*, in constant time; with none it is wrong."""
    presented = hash_secret(secret)
    matches = [hmac.compare_digest(presented, stored) for stored in hashes]
    return any(matches)

"""Secrets of clients: 256 random bits that we made, of which only SHA-256 is stored.

Nobody guesses such a secret, so its hash need not be slow: a slow one costs the service only, and
whoever may send wrong secrets could have it use its cores for them.
"""

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from typing import Final

from crypto.secret import Secret
from hsm.manifest.clients import SecretHash

SECRET_BYTES: Final = 32


def new_secret() -> str:
    """Make a secret: 256 random bits as base64url, 43 characters."""
    return secrets.token_urlsafe(SECRET_BYTES)


def hash_secret(secret: str) -> str:
    """Return what a manifest holds of a secret: SHA-256 over its text, in hexadecimal."""
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()


def is_secret(secret: Secret[str], registered: Sequence[SecretHash], now: float) -> bool:
    """Compare a secret with each that is valid now, in constant time; without any it is wrong.

    Args:
        secret: what was presented.
        registered: those of the client.
        now: seconds since 1970.
    """
    presented = hash_secret(secret.reveal())
    valid = (
        one.sha256
        for one in registered
        if one.valid_until is None or now < one.valid_until.timestamp()
    )
    matches = [hmac.compare_digest(presented, sha256) for sha256 in valid]
    return any(matches)

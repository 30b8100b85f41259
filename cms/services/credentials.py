"""Secrets of clients: only argon2id hashes are stored; which secret fits one is cached a while."""

import asyncio
import hmac
import secrets
from collections.abc import Callable
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from cms.domain.records import Client
from cms.services.cache import TtlCache

TTL_SECONDS: Final = 300.0
ARGON2_AT_ONCE_MAX: Final = 2
#: OWASP's second profile: 19 MiB, two passes, one lane; the default takes 64 MiB and 175 ms.
HASHER: Final = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
#: Verified in place of the hash of a client that does not exist, so that both take as long.
NOBODY: Final = HASHER.hash(secrets.token_hex())


class Credentials:
    """Verifies secrets; one that fits is cached by a keyed hash of itself, never in clear."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._cache = TtlCache[bytes, bool](now)
        self._key = secrets.token_bytes(32)
        self._argon2 = asyncio.Semaphore(ARGON2_AT_ONCE_MAX)

    def knows(self, client: Client | None, secret: str) -> bool:
        """Tell whether this secret of *client* was verified less than 5 minutes ago."""
        return self._cache.get(self._name(_hash_of(client), secret)) is not None

    async def verify(self, client: Client | None, secret: str) -> bool:
        """Verify a secret; None, a client that does not exist, takes as long as any other."""
        if self.knows(client, secret):
            return True
        secret_hash = _hash_of(client)
        async with self._argon2:
            verified = await asyncio.to_thread(_verify, secret_hash, secret)
        if verified and secret_hash is not NOBODY:
            self._cache.put(self._name(secret_hash, secret), True, self._now() + TTL_SECONDS)
        return verified

    def _name(self, secret_hash: str, secret: str) -> bytes:
        credential = f"{secret_hash}\0{secret}".encode(errors="surrogatepass")
        return hmac.digest(self._key, credential, "sha256")


def _hash_of(client: Client | None) -> str:
    return client.secret_hash if client and client.secret_hash else NOBODY


def _verify(secret_hash: str, secret: str) -> bool:
    try:
        return HASHER.verify(secret_hash, secret)
    except (Argon2Error, InvalidHashError):
        return False

"""The keys that sign access tokens, as the vault names them.

One reading at a time serves everyone who waits for it. An access token may be there before its key
was read: whoever brings one waits for a reading that begins after it came.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from cms.domain.errors import ServiceUnavailable
from cms.services.vault import called
from crypto.jose.jwk import EcPublicKey, parse_public
from hsm.client import VaultCalls
from hsm.messages import PublicJwks
from hsm.port import PublicKeyRole

KEYS_SECONDS: Final = 1.0
"""So soon a process of the web follows when keys come or go."""
READING_SECONDS: Final = 0.05
"""So long after one reading began the next does: strangers can name keys that nobody has."""


class SigningKeys:
    """The keys by ``kid``; *now* is a clock in seconds."""

    def __init__(self, vault: VaultCalls, now: Callable[[], float]) -> None:
        self._vault = vault
        self._now = now
        self._keys: Mapping[str, EcPublicKey] = {}
        self._begun_at = 0.0
        self._reading = asyncio.Lock()
        self._next: asyncio.Task[bool] | None = None

    async def current(self) -> Mapping[str, EcPublicKey]:
        """Return the keys as the vault named them a second ago.

        When it does not answer, those that it named last are good until it does.

        Raises:
            ServiceUnavailable: it never named any, and does not answer.
        """
        if not self._keys:
            return await self.newer()
        # Who waits for the vault is one: others need no new key.
        if self._age_seconds() >= KEYS_SECONDS and not self._reading.locked():
            await self._read_anew()
        return self._keys

    async def newer(self) -> Mapping[str, EcPublicKey]:
        """Return the keys as the vault names them after this was called.

        Raises:
            ServiceUnavailable: it does not answer.
        """
        if not await self._read_anew():
            raise ServiceUnavailable
        return self._keys

    async def _read_anew(self) -> bool:
        if self._next is None:
            # A task of its own: a caller who goes away must not end the reading of others.
            self._next = asyncio.create_task(self._read())
        return await asyncio.shield(self._next)

    async def _read(self) -> bool:
        """Read the keys; tell whether the vault answered."""
        async with self._reading:
            await asyncio.sleep(READING_SECONDS - self._age_seconds())
            # Who comes from now on waits for another.
            self._next, self._begun_at = None, self._now()
            try:
                jwks = await called(self._vault, PublicJwks(PublicKeyRole.TOKEN_SIGN))
            except ServiceUnavailable:
                return False
            keys = [parse_public(jwk, "sig") for jwk in jwks["keys"]]
            self._keys = {key.kid: key for key in keys}
            return True

    def _age_seconds(self) -> float:
        """Count since the last reading began; infinite where the clock was set back."""
        age_seconds = self._now() - self._begun_at
        return age_seconds if age_seconds >= 0 else float("inf")

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
ANSWER_SECONDS: Final = 0.25
"""So long who has a known key waits for a vault that is slow."""


class SigningKeys:
    """The keys by ``kid``; *now* is a clock in seconds."""

    def __init__(self, vault: VaultCalls, now: Callable[[], float]) -> None:
        self._vault = vault
        self._now = now
        self._keys: Mapping[str, EcPublicKey] = {}
        self._named_at = 0.0
        """When the reading began that found them."""
        self._begun_at = 0.0
        """When the last reading began."""
        self._one_at_a_time = asyncio.Lock()
        self._reading: asyncio.Task[bool] | None = None
        """The last that began."""
        self._next: asyncio.Task[bool] | None = None
        """One that has not begun: who comes now is in time for it."""

    async def current(self) -> Mapping[str, EcPublicKey]:
        """Return the keys as the vault named them a second ago.

        When it does not answer in 0.25 s, those that it named last are good until it does.

        Raises:
            ServiceUnavailable: it never named any, and does not answer.
        """
        if not self._keys:
            return await self.newer()
        if self._seconds_since(self._named_at) >= KEYS_SECONDS:
            reading = self._reading
            if self._seconds_since(self._begun_at) >= KEYS_SECONDS or reading is None:
                reading = self._begin_next()
            await asyncio.wait({reading}, timeout=ANSWER_SECONDS)
        return self._keys

    async def newer(self) -> Mapping[str, EcPublicKey]:
        """Return the keys as the vault names them after this was called.

        Raises:
            ServiceUnavailable: it does not answer.
        """
        # A caller who goes away must not end the reading of others.
        if not await asyncio.shield(self._begin_next()):
            raise ServiceUnavailable
        return self._keys

    def _begin_next(self) -> asyncio.Task[bool]:
        if self._next is None:
            self._next = asyncio.create_task(self._read())
        return self._next

    async def _read(self) -> bool:
        """Read the keys; tell whether the vault answered."""
        async with self._one_at_a_time:
            await asyncio.sleep(READING_SECONDS - self._seconds_since(self._begun_at))
            self._reading, self._next = self._next, None
            begun_at = self._begun_at = self._now()
            try:
                jwks = await called(self._vault, PublicJwks(PublicKeyRole.TOKEN_SIGN))
            except ServiceUnavailable:
                return False
            keys = [parse_public(jwk, "sig") for jwk in jwks["keys"]]
            self._keys = {key.kid: key for key in keys}
            self._named_at = begun_at
            return True

    def _seconds_since(self, moment: float) -> float:
        """Count the seconds since *moment*; infinite where the clock was set back."""
        seconds = self._now() - moment
        return seconds if seconds >= 0 else float("inf")

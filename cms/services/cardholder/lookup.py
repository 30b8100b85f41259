"""Look at control tokens without spending them; whoever sends ones that never were is made to wait.

A live token is always found: at an address that many people share, somebody else's guesses must
not shut its holder out.
"""

from cms.domain.control import Face, Grant
from cms.domain.errors import ControlEnded
from cms.services.cardholder.apps import App, Apps
from cms.services.cardholder.control_tokens import ControlTokens
from cms.services.cardholder.rate_limit import RateLimiter


class Lookup:
    """The tokens of one face."""

    def __init__(
        self, face: Face, tokens: ControlTokens, apps: Apps, rate_limiter: RateLimiter
    ) -> None:
        self._face = face
        self._tokens = tokens
        self._apps = apps
        self._rate_limiter = rate_limiter

    async def live(self, token: str, address: str) -> tuple[Grant, App]:
        """Read what a live token of this face is good for.

        Raises:
            ControlEnded: it is none, or its client is out of service.
            TooManyFailures: it never was one, or is one no longer, like too many from this address
                (at this client).
            ServiceUnavailable: the database is unavailable.
        """
        grant = await self._tokens.peek(token)
        if grant is None:
            dead, _ = await self.known(token, address)
            self._rate_limiter.failed(address, dead.client_id)
            raise ControlEnded
        return await self._ours(grant)

    async def known(self, token: str, address: str) -> tuple[Grant, App]:
        """Read what a token of this face was issued for, whatever became of it.

        Raises:
            ControlEnded, TooManyFailures, ServiceUnavailable: as for :meth:`live`.
        """
        grant = await self._tokens.known(token)
        if grant is None:
            self._rate_limiter.failed(address)
            raise ControlEnded
        return await self._ours(grant)

    async def issued(self, token: str) -> Grant | None:
        """Read what a token of this face was issued for; None: it never was one.

        Raises:
            ServiceUnavailable: the database is unavailable.
        """
        grant = await self._tokens.known(token)
        return grant if grant is not None and grant.face is self._face else None

    async def _ours(self, grant: Grant) -> tuple[Grant, App]:
        if grant.face is not self._face:
            raise ControlEnded
        return grant, await self._apps.of(grant)

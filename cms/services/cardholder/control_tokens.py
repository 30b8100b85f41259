"""Control tokens of one face: look at them without consuming any.

Whoever sends control tokens that never were is made to wait. A live one is always found: at an
address that many people share, somebody else's guesses must not shut its holder out.
"""

import secrets
from typing import Final, Generic

from cms import metrics
from cms.domain.control import Grant, canonical
from cms.domain.errors import ControlEnded
from cms.persistence.control_store import ControlStore
from cms.services.cardholder.apps import App, C, Clients
from cms.services.cardholder.rate_limit import RateLimiter
from crypto.control_tokens import PREFIX_CHARS
from hsm.port import Face

SESSION_BYTES: Final = 32


class ControlTokens(Generic[C]):
    """The control tokens of one face."""

    def __init__(
        self, face: Face, store: ControlStore, clients: Clients[C], rate_limiter: RateLimiter
    ) -> None:
        self._face = face
        self._store = store
        self._clients = clients
        self._rate_limiter = rate_limiter

    async def read_live(self, control_token: str, address: str) -> tuple[Grant, App[C]]:
        """Read what a live control token of this face is good for.

        Raises:
            ControlEnded: it is not live, or its client is out of service.
            TooManyFailures: it is not live, like too many before from this address: of those that
                never were, or of those of the same client.
            ServiceUnavailable: database or vault are unavailable.
        """
        grant = await self._store.read_live(control_token)
        if grant is None:
            metrics.control_token(metrics.ControlToken.REFUSED)
            dead, _ = await self.read_issued(control_token, address)
            self._rate_limiter.failed(address, dead.client_id)
            raise ControlEnded
        return await self._of_this_face(grant)

    async def read_issued(self, control_token: str, address: str) -> tuple[Grant, App[C]]:
        """Read what a control token of this face was issued for, whatever became of it.

        Raises:
            ControlEnded: it never was one of this face, or its client is out of service.
            TooManyFailures: it never was one, like too many before from this address.
            ServiceUnavailable: database or vault are unavailable.
        """
        grant = await self._store.read_issued(control_token)
        if grant is None:
            self._rate_limiter.failed(address)
            raise ControlEnded
        return await self._of_this_face(grant)

    async def _of_this_face(self, grant: Grant) -> tuple[Grant, App[C]]:
        if grant.face is not self._face:
            raise ControlEnded
        return grant, await self._clients.of(grant)


def new_session(control_token: str) -> str:
    """Make the secret of a page session: the control token's prefix, and 256 random bits."""
    return canonical(control_token)[:PREFIX_CHARS] + secrets.token_urlsafe(SESSION_BYTES)

"""Who calls the pincontrol face: an issuer's own server, by user name and password (RFC 7617)."""

import asyncio
import time
from collections.abc import Callable
from typing import Final
from weakref import WeakValueDictionary

from cms.domain.errors import ServiceUnavailable, Unauthorized
from cms.domain.records import Client
from cms.services.cardholder.apps import App, Apps
from cms.services.cardholder.rate_limit import RateLimiter, who
from cms.services.credentials import Credentials

WAITING_MAX: Final = 20
"""Passwords that wait to be verified; a hash takes 40 ms of a core."""


class Backends:
    """Verifies passwords, and has an address wait that failed too often at a client.

    Whoever was verified lately passes all the same, and without waiting for others.
    """

    def __init__(
        self, apps: Apps, rate_limiter: RateLimiter, now: Callable[[], float] = time.time
    ) -> None:
        self._apps = apps
        self._rate_limiter = rate_limiter
        self._credentials = Credentials(now)
        # An address takes turns: its guesses at once must not all be made before one counts.
        self._turns = WeakValueDictionary[str, asyncio.Lock]()
        self._waiting = 0

    async def caller(self, user: str, password: str, address: str) -> App:
        """Return the server that has this password.

        Raises:
            Unauthorized: there is no such server, or the password is wrong.
            TooManyFailures: too many passwords from this address, for this server, were wrong.
            ServiceUnavailable: the database is unavailable, or too many passwords wait to be
                verified.
        """
        app = await self._apps.by_user(user)
        client = None if app is None else app.client
        if not self._credentials.knows(client, password):
            await self._verify(client, password, address)
        if app is None:
            raise Unauthorized
        return app

    async def _verify(self, client: Client | None, password: str, address: str) -> None:
        client_id = "" if client is None else client.client_id
        self._rate_limiter.check(address, client_id)
        if self._waiting >= WAITING_MAX:
            raise ServiceUnavailable
        self._waiting += 1
        try:
            async with self._turns.setdefault(who(address), asyncio.Lock()):
                self._rate_limiter.check(address, client_id)
                if not await self._credentials.verify(client, password):
                    self._rate_limiter.failed(address, client_id)
                    raise Unauthorized
        finally:
            self._waiting -= 1

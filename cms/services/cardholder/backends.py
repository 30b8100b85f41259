"""Who calls the pincontrol face: an issuer's own server, by user name and password (RFC 7617)."""

import time
from collections.abc import Callable

from cms.domain.errors import Unauthorized
from cms.services.cardholder.apps import ServerApp, Servers
from cms.services.cardholder.rate_limit import RateLimiter
from crypto.secret import Secret
from hsm.manifest.client_secrets import is_secret


class Backends:
    """Verifies passwords, and has an address wait that failed too often at a server.

    The right password always passes: at an address that many share, the failures of one must not
    shut out the others.
    """

    def __init__(
        self, servers: Servers, rate_limiter: RateLimiter, now: Callable[[], float] = time.time
    ) -> None:
        self._servers = servers
        self._rate_limiter = rate_limiter
        self._now = now

    async def caller(self, user: str, password: Secret[str], address: str) -> ServerApp:
        """Return the server that has this password.

        Raises:
            Unauthorized: there is no such server, or the password is wrong.
            TooManyFailures: too many passwords from this address, for this server, were wrong.
            ServiceUnavailable: database or vault are unavailable.
        """
        app = await self._servers.find(user)
        if app is None or not is_secret(password, app.client.secrets, self._now()):
            self._rate_limiter.failed(address, "" if app is None else app.client.client_id)
            raise Unauthorized
        return app

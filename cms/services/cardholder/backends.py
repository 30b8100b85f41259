"""Who calls the pincontrol face: an issuer's own server, by user name and password (RFC 7617)."""

from cms.domain.errors import Unauthorized
from cms.services.cardholder.apps import App, Apps
from cms.services.cardholder.rate_limit import RateLimiter
from cms.services.credentials import is_secret


class Backends:
    """Verifies passwords, and has an address wait that failed too often at a server.

    The right password always passes: at an address that many share, the failures of one must not
    shut out the others.
    """

    def __init__(self, apps: Apps, rate_limiter: RateLimiter) -> None:
        self._apps = apps
        self._rate_limiter = rate_limiter

    async def caller(self, user: str, password: str, address: str) -> App:
        """Return the server that has this password.

        Raises:
            Unauthorized: there is no such server, or the password is wrong.
            TooManyFailures: too many passwords from this address, for this server, were wrong.
            ServiceUnavailable: the database is unavailable.
        """
        app = await self._apps.by_user(user)
        if app is None or not is_secret(password, app.client.secret_hashes):
            self._rate_limiter.failed(address, "" if app is None else app.client.client_id)
            raise Unauthorized
        return app

"""Which web pages may read the answers of ``/v1/card/*``: those at their app's origins.

A preflight and an answer that knows no app go by the origins of all apps: they say nothing of any.
"""

from dataclasses import dataclass
from typing import Final

from starlette.requests import Request

from cms.faces.answer import Headers, encoded
from cms.services.cardholder.apps import HostedApp
from cms.services.manifests import ManifestCarrier

PATH: Final = "/v1/card/"
MAX_AGE_SECONDS: Final = 600
_VARY: Final = encoded({"Vary": "Origin"})
_EXPOSED: Final = encoded(
    {"Access-Control-Expose-Headers": "X-Expires-At, Retry-After, X-Correlation-Id"}
)
_PREFLIGHT: Final = encoded(
    {
        "Access-Control-Allow-Methods": "GET, POST",
        "Access-Control-Allow-Headers": (
            "Authorization, Content-Type, X-Client-Key, X-Us-Env, X-Correlation-Id"
        ),
        "Access-Control-Max-Age": str(MAX_AGE_SECONDS),
    }
)


@dataclass(frozen=True, slots=True)
class Cors:
    """Adds what browsers ask for (Fetch standard, CORS protocol)."""

    manifests: ManifestCarrier

    def headers(self, request: Request) -> Headers:
        """Return the headers of an answer; none outside of ``/v1/card/``."""
        if not request.scope["path"].startswith(PATH):
            return ()
        origin = request.headers.get("origin")
        if origin is None or not self._may_read(origin, request):
            return _VARY
        allowed = b"access-control-allow-origin", origin.encode("latin-1")
        return (*_VARY, allowed, *_EXPOSED)

    def preflight(self, request: Request) -> Headers:
        """Return the headers of the answer to a preflight."""
        headers = self.headers(request)
        return headers if headers == _VARY else (*headers, *_PREFLIGHT)

    def _may_read(self, origin: str, request: Request) -> bool:
        app: HostedApp | None = request.scope.get("hosted_app")
        if app is not None:
            return origin in app.client.origins
        return self.manifests.is_origin(origin)

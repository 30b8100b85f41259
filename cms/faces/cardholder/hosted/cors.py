"""Which web pages may read the answers of ``/v1/card/*``: those at their app's origins.

A preflight and an answer that knows no app go by the origins of all apps: they say nothing of any.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request

from cms.services.cardholder.apps import HostedApp
from cms.services.manifests import ManifestFerry

PATH: Final = "/v1/card/"
MAX_AGE_SECONDS: Final = 600
_EXPOSED: Final = "X-Expires-At, Retry-After, X-Correlation-Id"
_PREFLIGHT: Final = {
    "Access-Control-Allow-Methods": "GET, POST",
    "Access-Control-Allow-Headers": (
        "Authorization, Content-Type, X-Client-Key, X-Us-Env, X-Correlation-Id"
    ),
    "Access-Control-Max-Age": str(MAX_AGE_SECONDS),
}


@dataclass(frozen=True, slots=True)
class Cors:
    """Adds what browsers ask for (Fetch standard, CORS protocol)."""

    manifests: ManifestFerry

    def headers(self, request: Request) -> dict[str, str]:
        """Return the headers of an answer; none outside of ``/v1/card/``."""
        if not request.url.path.startswith(PATH):
            return {}
        headers = {"Vary": "Origin"}
        origin = request.headers.get("origin")
        if origin is not None and self._may_read(origin, request):
            headers["Access-Control-Allow-Origin"] = origin
            headers["Access-Control-Expose-Headers"] = _EXPOSED
        return headers

    def preflight(self, request: Request) -> Mapping[str, str]:
        """Return the headers of the answer to a preflight."""
        headers = self.headers(request)
        return headers | _PREFLIGHT if "Access-Control-Allow-Origin" in headers else headers

    def _may_read(self, origin: str, request: Request) -> bool:
        app: HostedApp | None = getattr(request.state, "app", None)
        if app is not None:
            return origin in app.client.origins
        return self.manifests.is_origin(origin)

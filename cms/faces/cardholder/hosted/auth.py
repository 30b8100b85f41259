"""Who calls the hosted face: an app by its client key; and what else its headers say."""

from dataclasses import dataclass

from starlette.requests import Request

from cms.domain.errors import Invalid
from cms.services.cardholder.apps import Apps, HostedApp


@dataclass(frozen=True, slots=True)
class HostedAuth:
    """Names the app of a request."""

    apps: Apps

    async def app(self, request: Request) -> HostedApp:
        """Return the app, and note it for the log and for CORS.

        Raises:
            ClientKeyMissing: there is no client key.
            ClientKeyInvalid: no app in service has this client key.
            ServiceUnavailable: database or vault are unavailable.
        """
        app = await self.apps.by_key(request.headers.get("x-client-key"))
        request.scope["hosted_app"] = app
        request.scope["log"]["issuer_id"] = app.manifest.issuer_id
        request.scope["log"]["client_id"] = app.client.client_id
        return app


def wants_us(request: Request) -> bool:
    """Tell whether the request is for the second deployment.

    Raises:
        Invalid: the header is neither true nor false.
    """
    value = request.headers.get("x-us-env", "false").strip().lower()
    if value not in ("true", "false"):
        raise Invalid(("x-us-env", "Must be true or false"))
    return value == "true"

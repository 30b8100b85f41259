"""Who calls the hosted face: an app by its client key, a cardholder by a bearer token."""

from dataclasses import dataclass

from starlette.requests import Request

from cms.domain.control import Purpose
from cms.domain.errors import Invalid
from cms.domain.records import Actor
from cms.faces.request import bearer
from cms.services.cardholder.apps import App, Apps
from cms.services.cardholder.identity import IdentityProvider, Subject


@dataclass(frozen=True, slots=True)
class HostedAuth:
    """Names app and cardholder of a request."""

    apps: Apps
    identity: IdentityProvider

    async def app(self, request: Request) -> App:
        """Return the app, and note it for the log and for CORS.

        Raises:
            ClientKeyMissing, ClientKeyInvalid, ServiceUnavailable: as their names say.
        """
        app = await self.apps.by_key(request.headers.get("x-client-key"))
        request.state.app = app
        request.scope["log"]["issuer_id"] = app.issuer.issuer_id
        request.scope["log"]["client_id"] = app.client.client_id
        return app

    async def cardholder(self, request: Request, purpose: Purpose | None = None) -> Subject:
        """Return the cardholder; one who wants a token may have to step up.

        Raises:
            Unauthorized, StepUpRequired, ServiceUnavailable: as their names say.
        """
        subject = await self.identity.subject(bearer(request))
        if purpose is not None:
            self.identity.require_step_up(subject)
        return subject


def actor(request: Request, client_id: str) -> Actor:
    """Name for the audit who asks."""
    return Actor(client_id, request.scope["log"]["correlation_id"])


def wants_us(request: Request) -> bool:
    """Tell whether the request is for the second deployment.

    Raises:
        Invalid: the header is neither true nor false.
    """
    value = request.headers.get("x-us-env", "false").strip().lower()
    if value not in ("true", "false"):
        raise Invalid(("x-us-env", "Must be true or false"))
    return value == "true"

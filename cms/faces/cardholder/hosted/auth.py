"""Who calls the hosted face: an app by its client key, a cardholder by an access token."""

from dataclasses import dataclass

from starlette.requests import Request

from cms.domain.errors import Invalid
from cms.faces.request import bearer
from cms.services.cardholder.apps import Apps, HostedApp
from cms.services.cardholder.identity import IdentityProvider, Subject


@dataclass(frozen=True, slots=True)
class HostedAuth:
    """Names app and cardholder of a request."""

    apps: Apps
    identity: IdentityProvider

    async def app(self, request: Request) -> HostedApp:
        """Return the app, and note it for the log and for CORS.

        Raises:
            ClientKeyMissing: there is no client key.
            ClientKeyInvalid: no app in service has this client key.
            ServiceUnavailable: database or vault are unavailable.
        """
        app = await self.apps.by_key(request.headers.get("x-client-key"))
        request.state.app = app
        request.scope["log"]["issuer_id"] = app.manifest.issuer_id
        request.scope["log"]["client_id"] = app.client.client_id
        return app

    async def cardholder(self, request: Request, *, may_step_up: bool) -> Subject:
        """Return the cardholder, who with *may_step_up* may have to step up.

        Raises:
            Unauthorized: there is no access token, or it is wrong in any way.
            StepUpRequired: the cardholder must authenticate anew, or more strongly.
            ServiceUnavailable: the identity provider is unavailable and its keys are not known.
        """
        subject = await self.identity.subject(bearer(request))
        if may_step_up:
            self.identity.require_step_up(subject)
        return subject


def wants_us(request: Request) -> bool:
    """Tell whether the request is for the second deployment.

    Raises:
        Invalid: the header is neither true nor false.
    """
    value = request.headers.get("x-us-env", "false").strip().lower()
    if value not in ("true", "false"):
        raise Invalid(("x-us-env", "Must be true or false"))
    return value == "true"

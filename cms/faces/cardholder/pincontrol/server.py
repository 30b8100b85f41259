"""``/pincontrol/v2/plastic/{plasticId}``: a control id for an issuer's server.

Answers come in a fixed order: 401, 400, 404, 403.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fastapi import Request, Response

from cms.domain.errors import BadRequest, Invalid
from cms.domain.records import Actor
from cms.faces.answer import json_answer
from cms.faces.cardholder.page.answers import NO_STORE
from cms.faces.cardholder.pincontrol.models import ControlIdIssued
from cms.faces.cardholder.pincontrol.pages import FRAME_PATH, PIN_PATH
from cms.faces.cardholder.pincontrol.schemas import read_audit_user, read_control_request
from cms.faces.request import address, basic_credentials, read_body
from cms.faces.routes import Handler
from cms.services.cardholder.apps import ServerApp
from cms.services.cardholder.backends import Backends
from cms.services.cardholder.pincontrol import ControlIds, ControlRequest
from crypto.secret import Secret

ServerHandler = Callable[[ServerApp, Secret[str], Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Callers:
    """Finds out which issuer's server calls."""

    backends: Backends
    proxy_peers: frozenset[str]

    def by_password(self, answer: ServerHandler) -> Handler:
        """Let an issuer's server call *answer*, and note it for the log."""

        async def handler(request: Request) -> Response:
            user, password = _credentials(request)  # 401
            app = await self.backends.caller(user, password, address(request, self.proxy_peers))
            request.scope["log"] |= {
                "issuer_id": app.manifest.issuer_id,
                "client_id": app.client.client_id,
            }
            return await answer(app, password, request)  # 400, 404, 403

        return handler


@dataclass(frozen=True, slots=True)
class Server:
    """Answers an issuer's server; *public_url* is the base of the URLs in answers."""

    public_url: str
    control_ids: ControlIds

    async def issue(self, app: ServerApp, password: Secret[str], request: Request) -> Response:
        """Issue a control id."""
        actor = actor_of(app, request)
        asked = await _asked(request, actor.audit_user)
        control_id = await self.control_ids.issue(app, password, asked, actor)
        url = self.public_url
        issued = ControlIdIssued(control_id, url + PIN_PATH, url + FRAME_PATH)
        return json_answer(issued, NO_STORE, 201)


def actor_of(app: ServerApp, request: Request) -> Actor:
    """Name for the audit who asks, in the words of the client too if they can be read."""
    correlation_id = request.scope["log"]["correlation_id"]
    audit_user = read_audit_user(request)
    return Actor(app.client.client_id, correlation_id, audit_user, request.state.error_id)


def _credentials(request: Request) -> tuple[str, Secret[str]]:
    user, password = basic_credentials(request)
    return user, Secret(password)


async def _asked(request: Request, audit_user: str | None) -> ControlRequest | Invalid | BadRequest:
    """Read what is asked for, or why that cannot be read, which the use case audits."""
    plastic_id = request.path_params["plasticId"]
    try:
        return read_control_request(plastic_id, audit_user, await read_body(request))
    except (Invalid, BadRequest) as error:
        return error

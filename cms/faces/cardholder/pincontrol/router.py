"""``POST /pincontrol/v2/plastic/{plasticId}``: a control id for an issuer's server.

Answers come in a fixed order: 401, 400, 404, 403.
"""

from dataclasses import dataclass
from typing import Final

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from cms.domain.errors import BadRequest, Invalid
from cms.domain.records import Actor
from cms.faces.cardholder.page.answers import NO_STORE
from cms.faces.cardholder.pincontrol.pages import FRAME_PATH, PIN_PATH
from cms.faces.cardholder.pincontrol.problems import STATIC
from cms.faces.cardholder.pincontrol.schemas import read_ask, read_audit_user
from cms.faces.request import address, basic_credentials, read_body
from cms.services.cardholder.backends import Backends
from cms.services.cardholder.pincontrol import ControlIds

PATH: Final = "/pincontrol/v2/plastic/{plastic_id}"


@dataclass(frozen=True, slots=True)
class PlasticRoute:
    """Answers an issuer's server; *public_url* is the base of the URLs in answers."""

    public_url: str
    backends: Backends
    ids: ControlIds
    proxy_peers: frozenset[str]

    def add_to(self, app: FastAPI) -> None:
        """Add the route to *app*."""
        app.add_api_route(PATH, self.issue, methods=["POST"])

    async def issue(self, request: Request) -> JSONResponse:
        """Issue a control id."""
        user, password = basic_credentials(request)
        app = await self.backends.caller(user, password, address(request, self.proxy_peers))
        log = request.scope["log"]
        log |= {"issuer_id": app.issuer.issuer_id, "client_id": app.client.client_id}
        audit_user = read_audit_user(request)
        actor = Actor(
            *(app.client.client_id, log["correlation_id"]), audit_user, request.state.error_id
        )
        try:
            ask = read_ask(request.path_params["plastic_id"], audit_user, await read_body(request))
        except (Invalid, BadRequest):
            await self.ids.refuse_request(app, STATIC, actor)
            raise
        control_id = await self.ids.issue(app, ask.plastic_id, ask.purpose, actor)
        answer = {
            "id": control_id,
            "pinURL": self.public_url + PIN_PATH,
            "pinFrameURL": self.public_url + FRAME_PATH,
        }
        return JSONResponse(answer, 201, NO_STORE)

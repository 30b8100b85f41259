"""The routes of ``/v1/card/*``.

Answers come in a fixed order: 499, 498, 401, 403, 404, and only then the body's 422.
"""

from dataclasses import dataclass

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from cms.domain.control import CardOfHolder, Purpose
from cms.domain.errors import BadRequest, Invalid
from cms.faces.cardholder.hosted.auth import HostedAuth, actor, wants_us
from cms.faces.cardholder.hosted.cors import Cors
from cms.faces.cardholder.hosted.image import IMAGE_PATH
from cms.faces.cardholder.hosted.pages import PAGE_PATH
from cms.faces.cardholder.hosted.relay import Relay
from cms.faces.cardholder.hosted.schemas import card_answer, read_wish, rfc3339
from cms.faces.cardholder.page.answers import NO_STORE
from cms.faces.request import read_body
from cms.services.cardholder.apps import App
from cms.services.cardholder.hosted import HostedTokens
from cms.services.cardholder.permission import takes_pins


@dataclass(frozen=True, slots=True)
class CardRoutes:
    """What an app's own code calls; *public_url* is the base of the URLs in answers."""

    public_url: str
    auth: HostedAuth
    tokens: HostedTokens
    relay: Relay | None
    cors: Cors

    def add_to(self, app: FastAPI) -> None:
        """Add the routes to *app*."""
        for path, method, endpoint in (
            ("/v1/card/pin/token", "POST", self.view_token),
            ("/v1/card/set-pin/token", "POST", self.set_token),
            ("/v1/card/status", "GET", self.status),
        ):
            app.add_api_route(path, endpoint, methods=[method])
            app.add_api_route(path, self.preflight, methods=["OPTIONS"])

    async def view_token(self, request: Request) -> Response:
        """Issue a token for an image."""
        return await self._token(request, Purpose.VIEW, "imageUrl", IMAGE_PATH)

    async def set_token(self, request: Request) -> Response:
        """Issue a token for the set page."""
        return await self._token(request, Purpose.SET, "hostedPageUrl", PAGE_PATH)

    async def status(self, request: Request) -> Response:
        """Tell of the cardholder's card."""
        app = await self.auth.app(request)
        if (answer := await self._relayed(request)) is not None:
            return answer
        card = await self._card(request, app, None)
        _require_here(request)
        headers = {**NO_STORE, **await self.cors.headers(request)}
        answer_now = card_answer(card, takes_pins=takes_pins(app.issuer.config))
        return JSONResponse(answer_now, headers=headers)

    async def preflight(self, request: Request) -> Response:
        """Answer a browser that asks before it sends."""
        return Response(status_code=204, headers={**await self.cors.preflight(request)})

    async def _token(self, request: Request, purpose: Purpose, member: str, path: str) -> Response:
        app = await self.auth.app(request)
        if (answer := await self._relayed(request)) is not None:
            return answer
        who = actor(request, app.client.client_id)
        card = await self._card(request, app, purpose)
        await self.tokens.permit(app, card, purpose, who)
        _require_here(request)
        wish = read_wish(await _body(request), purpose, app.client)
        issued = await self.tokens.issue(card, purpose, wish, who)
        headers = {
            **NO_STORE,
            **await self.cors.headers(request),
            "X-Expires-At": rfc3339(issued.expires_at),
        }
        url = f"{self.public_url}{path}?token={issued.token}"
        return JSONResponse({"token": issued.token, member: url}, headers=headers)

    async def _card(self, request: Request, app: App, purpose: Purpose | None) -> CardOfHolder:
        subject = await self.auth.cardholder(request, purpose)
        card = await self.tokens.card(app, subject.value)
        request.scope["log"]["card_id"] = card.card_id
        return card

    async def _relayed(self, request: Request) -> Response | None:
        """Send on what is for the second deployment; an app that is not known here sends none."""
        if self.relay is None or request.headers.get("x-us-env", "").strip().lower() != "true":
            return None
        answer = await self.relay.send(request, await _body(request))
        answer.headers.update({**NO_STORE, **await self.cors.headers(request)})
        return answer


def _require_here(request: Request) -> None:
    if wants_us(request):
        raise Invalid(("x-us-env", "There is no such environment"))


async def _body(request: Request) -> bytes:
    try:
        return await read_body(request)
    except BadRequest:
        raise Invalid(("body", "Must be at most 16 KiB")) from None

"""``/v1/card/*``: control tokens for a cardholder's card, and what an app may know of it.

Answers come in a fixed order: 499, 498, 401, 403, 404, and only then the body's 422.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fastapi import Request, Response

from cms.domain.control import CardOfHolder
from cms.domain.errors import BadRequest, Invalid, Unauthorized
from cms.domain.records import Actor
from cms.faces.answer import json_answer, no_content
from cms.faces.cardholder.hosted.auth import HostedAuth, wants_us
from cms.faces.cardholder.hosted.cors import Cors
from cms.faces.cardholder.hosted.image import IMAGE_PATH
from cms.faces.cardholder.hosted.models import ImageToken, PageToken
from cms.faces.cardholder.hosted.pages import PAGE_PATH
from cms.faces.cardholder.hosted.relay import Relay
from cms.faces.cardholder.hosted.schemas import card_answer, read_wish, rfc3339
from cms.faces.cardholder.page.answers import NO_STORE
from cms.faces.request import bearer, read_body
from cms.faces.routes import Handler
from cms.services.cardholder.apps import HostedApp
from cms.services.cardholder.hosted import Asking, HostedCards
from crypto.secret import Secret
from hsm.port import Purpose

CardHandler = Callable[[Asking, CardOfHolder, Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Cards:
    """Answers an app; *public_url* is the base of the URLs in answers."""

    public_url: str
    auth: HostedAuth
    cards: HostedCards
    relay: Relay | None
    cors: Cors

    def by_cardholder(self, answer: CardHandler, purpose: Purpose | None) -> Handler:
        """Let an app call *answer* for the card of its cardholder.

        With a *purpose* the cardholder must have authenticated as the issuer configured it.
        """

        async def handler(request: Request) -> Response:
            app = await self.auth.app(request)  # 499, 498
            if self.relay is not None and _is_for_us(request):
                return await self._relayed(self.relay, request)
            asking = _asking(app, request)  # 401
            card = await self.cards.card(asking, purpose)  # 401, 403, 404
            request.scope["log"]["card_id"] = card.card_id
            try:
                return await answer(asking, card, request)  # 403, 422
            except Invalid as error:
                await self.cards.refused(asking, card.card_id, purpose, error)
                raise

        return handler

    async def view_token(self, asking: Asking, card: CardOfHolder, request: Request) -> Response:
        """Issue a control token for an image."""
        url = self.public_url + IMAGE_PATH
        return await self._issued(asking, card, request, Purpose.VIEW, ImageToken, url)

    async def set_token(self, asking: Asking, card: CardOfHolder, request: Request) -> Response:
        """Issue a control token for the set page."""
        url = self.public_url + PAGE_PATH
        return await self._issued(asking, card, request, Purpose.SET, PageToken, url)

    async def status(self, asking: Asking, card: CardOfHolder, request: Request) -> Response:
        """Tell of the cardholder's card."""
        _require_here(request)
        headers = (*NO_STORE, *self.cors.headers(request))
        return json_answer(card_answer(card, asking.app.manifest), headers)

    async def preflight(self, request: Request) -> Response:
        """Answer a browser that asks before it sends."""
        return no_content(self.cors.preflight(request))

    async def _issued(
        self,
        asking: Asking,
        card: CardOfHolder,
        request: Request,
        purpose: Purpose,
        answer: type[ImageToken | PageToken],
        url: str,
    ) -> Response:
        await self.cards.require_token_allowed(asking, card, purpose)
        _require_here(request)
        wish = read_wish(await _body(request), purpose, asking.app.client)
        issued = await self.cards.issue(asking, card, purpose, wish)
        headers = (
            *NO_STORE,
            *self.cors.headers(request),
            (b"x-expires-at", rfc3339(issued.expires_at).encode()),
        )
        token = issued.control_token
        return json_answer(answer(token, f"{url}?token={token}"), headers)

    async def _relayed(self, relay: Relay, request: Request) -> Response:
        """Send a request on; an app that is not known here sends none."""
        answer = await relay.send(request, await _body(request))
        for name, value in (*NO_STORE, *self.cors.headers(request)):
            answer.headers[name.decode()] = value.decode("latin-1")
        return answer


def _asking(app: HostedApp, request: Request) -> Asking:
    access_token = bearer(request)
    if access_token is None:
        raise Unauthorized
    actor = Actor(app.client.client_id, request.scope["log"]["correlation_id"])
    return Asking(app, Secret(access_token), actor)


def _is_for_us(request: Request) -> bool:
    return request.headers.get("x-us-env", "").strip().lower() == "true"


def _require_here(request: Request) -> None:
    if wants_us(request):
        raise Invalid(("x-us-env", "There is no such environment"))


async def _body(request: Request) -> bytes:
    try:
        return await read_body(request)
    except BadRequest:
        raise Invalid(("body", "Must be at most 16 KiB")) from None

"""``GET /details-image``: a PIN as an image, once; or an image that says why not."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from cms.domain.control import Grant
from cms.domain.errors import (
    ControlEnded,
    DomainError,
    ServiceUnavailable,
    StoredValueBroken,
    TooManyFailures,
)
from cms.domain.records import Actor
from cms.faces.answer import Answer, encoded
from cms.faces.cardholder.hosted.failure_images import FailureImages
from cms.faces.cardholder.hosted.schemas import image_style
from cms.faces.cardholder.page.answers import ENDS, retry_after
from cms.faces.request import address, only
from cms.services.cardholder.control_tokens import ControlTokens
from cms.services.cardholder.pin_view import PinView
from crypto.pin_image import ImageStyle, MessageKind
from hsm.manifest.clients import AppClient
from hsm.port import Purpose

IMAGE_PATH: Final = "/details-image"
METHODS: Final = ("GET", "HEAD", "OPTIONS")
HEADERS: Final = {
    "Content-Type": "image/png",
    # Every image of a PIN has one length: compressed, it would tell of its digits.
    "Cache-Control": "no-store, no-transform",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Accept-Ranges": "none",
}
SHOWN: Final = encoded({**HEADERS, "X-Pin-Result": "shown"})
#: How browsers say that nobody looks yet.
AHEAD: Final = ("sec-purpose", "purpose", "x-purpose", "x-moz")
#: Those that fetch a link in a message to show what is behind it, in lower case.
PREVIEWS: Final = (
    # The browsers inside chats' apps are no previews.
    *("bot/", "crawler", "spider", "preview", "externalhit", "facebookcatalog", "whatsapp"),
    *("slack-", "slack/", "skypeuri", "viber", "embedly", "iframely", "vkshare", "flipboard"),
    *("nuzzel", "google-pagerenderer", "google-inspectiontool", "mastodon", "bitlybot"),
    *("outbrain", "quora link"),
)
#: A phone of the brand Cubot is no bot.
BOT: Final = re.compile(r"(?<!cu)bot\b")
KINDS: Final[Mapping[type[DomainError], tuple[MessageKind, str]]] = {
    ControlEnded: (MessageKind.ENDED, "ended"),
    TooManyFailures: (MessageKind.LIMITED, "failed"),
    ServiceUnavailable: (MessageKind.FAILED, "failed"),
    StoredValueBroken: (MessageKind.FAILED, "failed"),
}


@dataclass(frozen=True, slots=True)
class Image:
    """Answers with a PIN, or with the reason why there is none."""

    pin_view: PinView
    control_tokens: ControlTokens[AppClient]
    proxy_peers: frozenset[str]
    failures: FailureImages = field(default_factory=FailureImages)

    async def answer(self, request: Request) -> Response:
        """Answer a request; only one that wants to be looked at consumes its control token."""
        if request.method == "OPTIONS":
            return _empty(204, Allow=", ".join(METHODS))
        if request.method == "HEAD":
            return _empty(200)
        if "range" in request.headers:
            return _empty(416)
        if is_ahead(request):
            return _empty(204)
        style, status_of_failure = ImageStyle(), 0
        try:
            control_token = only(request, "token")
            sender = address(request, self.proxy_peers)
            grant, app = await self.control_tokens.read_issued(control_token, sender)
            style = image_style(grant.style)
            # React Native shows no image that comes with another status.
            status_of_failure = app.client.failure_image_status
            return await self._show(control_token, grant, style, request)
        except tuple(KINDS) as error:
            return await self._failure(error, style, status_of_failure)

    async def _show(
        self, control_token: str, grant: Grant, style: ImageStyle, request: Request
    ) -> Response:
        if grant.purpose is not Purpose.VIEW:
            raise ControlEnded
        request.scope["log"] |= {
            "issuer_id": grant.issuer_id,
            "client_id": grant.client_id,
            "card_id": grant.card_id,
        }
        actor = Actor.of_grant(grant, request.scope["log"]["correlation_id"])
        png = await self.pin_view.image(control_token, style, actor)
        return Answer(png, SHOWN)

    async def _failure(self, error: DomainError, style: ImageStyle, client_status: int) -> Response:
        kind, result = KINDS[type(error)]
        status = 200 if client_status == 200 else ENDS[type(error)][0]  # noqa: PLR2004 - HTTP's OK
        png = await self.failures.image(kind, style)
        return Response(png, status, {**HEADERS, **retry_after(error), "X-Pin-Result": result})


def is_ahead(request: Request) -> bool:
    """Tell whether nobody looks at the answer: a prefetch, or a preview of a link."""
    headers = request.headers
    said = " ".join(headers.get(name, "") for name in AHEAD).lower()
    if "prefetch" in said or "prerender" in said or "preview" in said:
        return True
    agent = headers.get("user-agent", "").lower()
    return any(name in agent for name in PREVIEWS) or BOT.search(agent) is not None


def _empty(status: int, **headers: str) -> Response:
    return Response(None, status, {**HEADERS, **headers})

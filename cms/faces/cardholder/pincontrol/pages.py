"""``/pincontrol/pin`` and ``/pincontrol/frame``: the page in a webview and in an iframe.

``/pincontrol/page/*`` is what its script sends. A page is made without consuming anything: the
script sends the control id once it runs, and that consumes it.
"""

import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from cms.domain.control import Grant
from cms.domain.errors import (
    BadRequest,
    ControlEnded,
    DomainError,
    Field,
    ServiceUnavailable,
)
from cms.domain.records import Actor
from cms.faces.answer import json_answer
from cms.faces.cardholder.page.answers import (
    ENDS,
    NO_STORE,
    NO_STORE_BY_NAME,
    ended,
    page_language,
    retry_after,
)
from cms.faces.cardholder.page.models import PageOpening
from cms.faces.cardholder.page.posts import NO_CONTENT, opening_members, posted_members, text_of
from cms.faces.cardholder.page.render import (
    ControlPage,
    control_page,
    ended_headers,
    ended_webview_page,
    page_headers,
)
from cms.faces.cardholder.page.style import ViewStyle, parse_view
from cms.faces.cardholder.pincontrol.control_id import posted_control_id
from cms.faces.cardholder.pincontrol.models import Digits
from cms.faces.request import address, only
from cms.faces.routes import Handler
from cms.services.cardholder.apps import ServerApp, Servers
from cms.services.cardholder.pin_view import PinView
from cms.services.cardholder.pincontrol import ControlIds
from cms.services.cardholder.set_page import SetPage
from crypto.pin_image import ImageStyle
from hsm.port import Purpose

PIN_PATH: Final = "/pincontrol/pin"
FRAME_PATH: Final = "/pincontrol/frame"
NONCE_BYTES: Final = 18
#: What keeps the page of a webview from being made: its status, and the name of what is said. What
#: was posted in another way than the contract's is for the app's developers to see.
WEBVIEW_ENDS: Final[Mapping[type[Exception], tuple[int, str]]] = {
    **ENDS,
    BadRequest: (400, "malformed"),
}
INTERNAL: Final = (500, "away")
IMAGE_HEADERS: Final = {
    **NO_STORE_BY_NAME,
    # Every image has one length: compressed, it would tell of its digits.
    "Cache-Control": "no-store, no-transform",
    "Cross-Origin-Resource-Policy": "same-origin",
}


ControlHandler = Callable[[str, Grant, ServerApp, Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Pages:
    """Answers the pages and their script."""

    servers: Servers
    control_ids: ControlIds
    pin_view: PinView
    set_page: SetPage
    proxy_peers: frozenset[str]

    def by_control_id(self, purpose: Purpose, answer: ControlHandler) -> Handler:
        """Let the script of a page call *answer*, which consumes the control id that it sent.

        One that is for something else stays as it is; it, and one that is over, is audited.
        """

        async def handler(request: Request) -> Response:
            members = await posted_members(request)
            frame_key = None if members.get("key") is None else text_of(members, "key")
            control_id = text_of(members, "controlId")
            async with self.control_ids.refusals_audited(control_id, *_ids(request)):
                grant, app = await self._read_live(control_id, frame_key, request)
                if grant.purpose is not purpose:
                    raise ControlEnded
            return await answer(control_id, grant, app, request)

        return handler

    async def webview(self, request: Request) -> Response:
        """Answer what an app posts with the page; the control id stays as it is.

        Whoever only opens the address gets the ended page; so does a reload, which may follow
        success, so that no app is told of an error.
        """
        if request.method != "POST":
            return ended(request, ControlEnded())
        try:
            control_id = await posted_control_id(request)
            grant, app = await self._read_live(control_id, None, request)
        except DomainError as error:
            return ended_webview(request, error)
        start = {"flow": "webview", "purpose": grant.purpose.value, "controlId": control_id}
        return _answer(request, app, start, ())

    async def frame(self, request: Request) -> Response:
        """Answer with the page that waits for a message of the client's own pages."""
        key = only(request, "key")
        try:
            app = await self.servers.by_frame_key(key)
        except (ControlEnded, ServiceUnavailable) as error:
            return ended(request, error)
        origins = app.client.frame_origins
        start = {"flow": "frame", "key": key, "targetOrigins": list(origins)}
        return _answer(request, app, start, origins)

    async def session(
        self, control_id: str, _grant: Grant, app: ServerApp, _request: Request
    ) -> Response:
        """Consume a control id for a page session to set the PIN."""
        opening = await self.set_page.open(control_id, app)
        return json_answer(PageOpening(**opening_members(opening)), NO_STORE)

    async def view(
        self, control_id: str, grant: Grant, app: ServerApp, request: Request
    ) -> Response:
        """Consume a control id for the PIN as an image."""
        style = view_style(app.client.view_style)
        shown = await self.pin_view.page_image(
            *(control_id, app, ImageStyle(style.background, style.digit)),
            Actor.of_grant(grant, *_ids(request)),
        )
        headers = {**IMAGE_HEADERS, "Content-Type": "image/png", "X-Pin-Result": "shown"}
        headers["X-Pin-Last-Four"] = shown.last_four
        if shown.session is not None:
            headers |= {"X-Pin-Session": shown.session, "X-Pin-Grant": shown.grant_id}
        return Response(shown.png, headers=headers)

    async def digits(self, request: Request) -> Response:
        """End a page session for the PIN as text, enciphered to the page."""
        members = await posted_members(request)
        session, control_id = text_of(members, "session"), text_of(members, "controlToken")
        key = members.get("key")
        if not isinstance(key, dict):
            raise BadRequest(Field.BODY)
        jwe = await self.pin_view.text(session, control_id, key, *_ids(request))
        return json_answer(Digits(jwe), NO_STORE)

    async def cancel(self, session: str, request: Request) -> Response:
        """End a page session of either kind, as its cardholder wants."""
        await self.pin_view.close(session)
        await self.set_page.cancel(session, request.scope["log"]["correlation_id"])
        return NO_CONTENT

    async def _read_live(
        self, control_id: str, frame_key: str | None, request: Request
    ) -> tuple[Grant, ServerApp]:
        """Read a live control id as :meth:`ControlIds.read_live`, and note it for the log."""
        found = await self.control_ids.read_live(
            control_id, frame_key, address(request, self.proxy_peers)
        )
        grant, _ = found
        request.scope["log"] |= {
            "issuer_id": grant.issuer_id,
            "client_id": grant.client_id,
            "card_id": grant.card_id,
        }
        return found


def view_style(members: Mapping[str, object]) -> ViewStyle:
    """Return the style that a client registered."""
    style = parse_view(members)
    return style if isinstance(style, ViewStyle) else ViewStyle()


def ended_webview(request: Request, error: Exception) -> Response:
    """Answer a webview with the page of an error, which tells the app: it waits for a callback."""
    status, state = WEBVIEW_ENDS.get(type(error), INTERNAL)
    language, nonce = page_language(request), secrets.token_urlsafe(NONCE_BYTES)
    headers = {**ended_headers(language, nonce), **retry_after(error), "Vary": "Accept-Language"}
    return Response(ended_webview_page(language, state, nonce), status, headers)


def _answer(
    request: Request, app: ServerApp, start: Mapping[str, object], parents: Sequence[str]
) -> Response:
    client = app.client
    style = view_style(client.view_style)
    page = ControlPage(style, client.show_button, client.hide_seconds, start, app.manifest.name)
    language = page_language(request, client.language)
    nonce = secrets.token_urlsafe(NONCE_BYTES)
    headers = {**page_headers(nonce, parents, language), "Vary": "Accept-Language"}
    return Response(control_page(page, language, nonce), headers=headers)


def _ids(request: Request) -> tuple[str, str]:
    """Return the ids that name a request in the log, and its refusal to the client."""
    return request.scope["log"]["correlation_id"], request.state.error_id

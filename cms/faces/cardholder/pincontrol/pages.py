"""``/pincontrol/pin`` and ``/pincontrol/frame``: the page in a webview and in an iframe.

``/pincontrol/page/*`` is what its script sends. A page is made without spending anything: the
script sends the control id once it runs, and that consumes it.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from cms.domain.control import Grant, Purpose
from cms.domain.errors import (
    BadRequest,
    ControlEnded,
    Field,
    ServiceUnavailable,
    TooManyFailures,
)
from cms.domain.records import Actor, Client
from cms.faces.cardholder.page.answers import ENDS, NO_STORE, ended, retry_after
from cms.faces.cardholder.page.messages import negotiate
from cms.faces.cardholder.page.posts import opening_members, posted, posted_members, text_of
from cms.faces.cardholder.page.render import (
    ControlPage,
    control_page,
    page_headers,
)
from cms.faces.cardholder.page.style import ViewStyle, parse_view
from cms.faces.request import address, only, read_body, read_form
from cms.services.cardholder.apps import App, Apps
from cms.services.cardholder.lookup import Lookup
from cms.services.cardholder.pincontrol import ControlIds
from cms.services.cardholder.set_page import SetPage
from cms.services.cardholder.view_pin import PinView
from crypto.pin_image import ImageStyle

PIN_PATH: Final = "/pincontrol/pin"
FRAME_PATH: Final = "/pincontrol/frame"
FORM_BYTES_MAX: Final = 1024
NONCE_BYTES: Final = 18
IMAGE_HEADERS: Final = {
    **NO_STORE,
    # Every image has one length: compressed, it would tell of its digits.
    "Cache-Control": "no-store, no-transform",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@dataclass(frozen=True, slots=True)
class Pages:
    """Answers the pages and their script."""

    apps: Apps
    set_page: SetPage
    view_page: PinView
    control: ControlIds
    ids: Lookup
    proxy_peers: frozenset[str]

    async def webview(self, request: Request) -> Response:
        """Answer the form that an app posts with the page; the id stays as it is.

        Whoever only opens the address gets the ended page.
        """
        if request.method != "POST":
            return ended(request, ControlEnded())
        try:
            control_id = await _control_id(request)
            grant, app = await self._look(control_id, None, request)
        except ControlEnded as error:
            return ended(request, error)
        except (TooManyFailures, ServiceUnavailable) as error:
            # The app waits for its callbacks: only a page with script can call them.
            status, state = ENDS[type(error)]
            start = {"flow": "webview", "failed": state}
            page = ControlPage(ViewStyle(), show_button=True, hide_seconds=0, start=start)
            return _answer(request, page, (), status, retry_after(error))
        start = {"flow": "webview", "purpose": grant.purpose.value, "controlId": control_id}
        return _answer(request, _page(app.client, start), ())

    async def frame(self, request: Request) -> Response:
        """Answer with the page that waits for a message of the client's own pages."""
        key = only(request, "key")
        try:
            app = await self.apps.by_frame_key(key)
        except (ControlEnded, ServiceUnavailable) as error:
            return ended(request, error)
        origins = app.client.embed_origins
        start = {"flow": "frame", "key": key, "targetOrigins": list(origins)}
        return _answer(request, _page(app.client, start), origins)

    async def session(self, request: Request) -> Response:
        """Consume an id for a session to set the PIN."""
        control_id, _, app = await self._consumed(request, Purpose.SET)
        opening = await self.set_page.open(control_id, app)
        return JSONResponse(opening_members(opening), headers=NO_STORE)

    async def view(self, request: Request) -> Response:
        """Consume an id for the PIN as an image."""
        control_id, grant, app = await self._consumed(request, Purpose.VIEW)
        style = view_style(app.client.view_style)
        shown = await self.view_page.page_image(
            control_id, app, ImageStyle(style.background, style.digit), _actor(request, grant)
        )
        headers = {**IMAGE_HEADERS, "Content-Type": "image/png", "X-Pin-Result": "shown"}
        if shown.session is not None:
            headers["X-Pin-Session"] = shown.session
        return Response(shown.png, headers=headers)

    async def digits(self, request: Request) -> Response:
        """Consume a session for the PIN as text, enciphered to the page."""
        members = await posted_members(request)
        session, key = text_of(members, "session"), members.get("key")
        if not isinstance(key, dict):
            raise BadRequest(Field.BODY)
        jwe = await self.view_page.text(session, key, lambda grant: _actor(request, grant))
        return JSONResponse({"jwe": jwe}, headers=NO_STORE)

    async def cancel(self, request: Request) -> Response:
        """End a session of either kind, as its cardholder wants."""
        (session,) = await posted(request, "session")
        await self.view_page.close(session)
        await self.set_page.cancel(session, request.scope["log"]["correlation_id"])
        return Response(status_code=204, headers=NO_STORE)

    async def _consumed(self, request: Request, purpose: Purpose) -> tuple[str, Grant, App]:
        """Read the id that a page is about to consume.

        One that is for something else stays as it is; it, and one that is over, is audited.
        """
        members = await posted_members(request)
        key = None if members.get("key") is None else text_of(members, "key")
        control_id = text_of(members, "controlId")
        try:
            grant, app = await self._look(control_id, key, request)
            _require(grant, purpose)
        except ControlEnded:
            await self._refused(control_id, request)
            raise
        return control_id, grant, app

    async def _look(self, control_id: str, key: str | None, request: Request) -> tuple[Grant, App]:
        """Look at a live id, in a frame of the client that has *key*.

        Raises:
            ControlEnded, TooManyFailures, ServiceUnavailable: as their names say.
        """
        grant, app = await self.ids.live(control_id, address(request, self.proxy_peers))
        if key not in (None, app.client.frame_key):
            raise ControlEnded
        request.scope["log"] |= {
            "issuer_id": grant.issuer_id,
            "client_id": grant.client_id,
            "card_id": grant.card_id,
        }
        return grant, app

    async def _refused(self, control_id: str, request: Request) -> None:
        """Audit that an id cannot be used, if there ever was one."""
        grant = await self.ids.issued(control_id)
        if grant is not None:
            await self.control.refuse(grant, "CONTROL_ENDED", _actor(request, grant))


def view_style(members: Mapping[str, object]) -> ViewStyle:
    """Return the style that a client registered."""
    style = parse_view(members)
    return style if isinstance(style, ViewStyle) else ViewStyle()


async def _control_id(request: Request) -> str:
    try:
        form = read_form(request, await read_body(request, FORM_BYTES_MAX))
        return form["controlId"]
    except (BadRequest, KeyError):
        raise ControlEnded from None


def _require(grant: Grant, purpose: Purpose) -> None:
    if grant.purpose is not purpose:
        raise ControlEnded


def _page(client: Client, start: Mapping[str, object]) -> ControlPage:
    style = view_style(client.view_style)
    return ControlPage(style, client.show_button, client.hide_seconds, start)


def _answer(
    request: Request,
    page: ControlPage,
    parents: Sequence[str],
    status: int = 200,
    headers: Mapping[str, str] = MappingProxyType({}),
) -> Response:
    language = negotiate(request.headers.get("accept-language"))
    nonce = secrets.token_urlsafe(NONCE_BYTES)
    headers = {**page_headers(nonce, parents, language), "Vary": "Accept-Language", **headers}
    return Response(control_page(page, language, nonce), status, headers)


def _actor(request: Request, grant: Grant) -> Actor:
    correlation_id = request.scope["log"]["correlation_id"]
    return Actor(grant.client_id, correlation_id, grant.audit_user, request.state.error_id)

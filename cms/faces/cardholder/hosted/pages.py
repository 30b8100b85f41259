"""``/pin-direct/set``: the set page, and how its script opens a session."""

import secrets
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from cms.domain.control import Grant
from cms.domain.errors import ControlEnded, ServiceUnavailable, TooManyFailures
from cms.faces.answer import json_answer
from cms.faces.cardholder.hosted.models import HostedOpening
from cms.faces.cardholder.hosted.origins import leads_to
from cms.faces.cardholder.hosted.schemas import page_style
from cms.faces.cardholder.page.answers import NO_STORE, ended, page_language
from cms.faces.cardholder.page.posts import opening_members
from cms.faces.cardholder.page.render import page_headers, set_page
from cms.faces.request import address, only
from cms.services.cardholder.apps import HostedApp
from cms.services.cardholder.control_tokens import ControlTokens
from cms.services.cardholder.set_page import SetPage
from hsm.manifest.clients import AppClient
from hsm.port import Purpose

PAGE_PATH: Final = "/pin-direct/set"
NONCE_BYTES: Final = 18


@dataclass(frozen=True, slots=True)
class Pages:
    """Answers the set page, and its script's first request."""

    set_page: SetPage
    control_tokens: ControlTokens[AppClient]
    proxy_peers: frozenset[str]

    async def page(self, request: Request) -> Response:
        """Answer with the page; the control token stays as it is."""
        try:
            grant, app = await self._read_live(only(request, "token"), request)
        except (ControlEnded, TooManyFailures, ServiceUnavailable) as error:
            return ended(request, error)
        language = page_language(request, app.client.language)
        nonce = secrets.token_urlsafe(NONCE_BYTES)
        parents = app.client.embed_origins if grant.embedded else ()
        headers = {**page_headers(nonce, parents, language), "Vary": "Accept-Language"}
        page = set_page(page_style(grant.style), language, nonce, app.manifest.name)
        return Response(page, headers=headers)

    async def session(self, control_token: str, request: Request) -> Response:
        """Consume a control token for a page session."""
        grant, app = await self._read_live(control_token, request)
        opening = await self.set_page.open(control_token, app)
        answer = HostedOpening(
            **opening_members(opening),
            embedded=grant.embedded,
            target_origins=app.client.embed_origins if grant.embedded else (),
            redirect_url=_way_back(grant, app.client),
        )
        return json_answer(answer, NO_STORE)

    async def _read_live(self, control_token: str, request: Request) -> tuple[Grant, HostedApp]:
        """Read what a live control token for a set page is good for.

        A page that is reloaded has no control token, and does not guess at one.

        Raises:
            ControlEnded: it is not live, or for something else.
            TooManyFailures: too many were not live, as :meth:`ControlTokens.read_live` counts.
            ServiceUnavailable: database or vault are unavailable.
        """
        if not control_token:
            raise ControlEnded
        sender = address(request, self.proxy_peers)
        found = await self.control_tokens.read_live(control_token, sender)
        if found[0].purpose is not Purpose.SET:
            raise ControlEnded
        return found


def _way_back(grant: Grant, client: AppClient) -> str | None:
    """Return where the page leads, which the manifest must allow now, whatever the row says."""
    url = grant.redirect_url
    return url if url is not None and leads_to(url, client.redirect_origins) else None

"""``/pin-direct/*``: the set page and what its script posts; ``/pin-assets/*``: what it loads."""

import secrets
from dataclasses import dataclass
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from cms.domain.control import WARN_SECONDS, Grant
from cms.domain.errors import BadRequest, ControlEnded, Field, TooManyFailures, TryLater
from cms.faces.hosted.auth import HostedAuth
from cms.faces.hosted.image import only
from cms.faces.hosted.problems import NO_STORE, WIRE, retry_after
from cms.faces.hosted.schemas import page_style
from cms.faces.page.assets import ASSETS
from cms.faces.page.messages import negotiate
from cms.faces.page.render import ended_headers, ended_page, page_headers, set_page
from cms.faces.request import read_body
from cms.services.apps import App
from cms.services.guesses import Guesses
from cms.services.set_page import SetPage
from crypto.errors import JoseError
from crypto.jose import json_object

PAGE_PATH: Final = "/pin-direct/set"
NONCE_BYTES: Final = 18
#: A session is 43 characters, a token 36, a JWE at most 8192.
MEMBER_CHARS_MAX: Final = 8192


@dataclass(frozen=True, slots=True)
class Pages:
    """Answers the set page and its script."""

    pages: SetPage
    guesses: Guesses
    auth: HostedAuth

    async def page(self, request: Request) -> Response:
        """Answer with the page; the token stays as it is."""
        language = negotiate(request.headers.get("accept-language"))
        try:
            grant, app = await self._look(only(request, "token"), request)
        except (ControlEnded, TooManyFailures, TryLater) as error:
            headers = {**ended_headers(language), **retry_after(error), "Vary": "Accept-Language"}
            return Response(ended_page(language), WIRE[type(error)][0], headers)
        nonce = secrets.token_urlsafe(NONCE_BYTES)
        parents = app.client.embed_origins if grant.embedded else ()
        headers = {**page_headers(nonce, parents, language), "Vary": "Accept-Language"}
        return Response(set_page(page_style(grant.style), language, nonce), headers=headers)

    async def session(self, request: Request) -> Response:
        """Spend a token for a session."""
        (token,) = await _members(request, "token")
        await self._look(token, request)
        opening = await self.pages.open(token)
        grant = opening.session.grant
        policy, parents = opening.policy, opening.app.client.embed_origins
        answer = {
            "session": opening.session.session,
            "expiresInSeconds": opening.session.expires_in_seconds,
            "warnSeconds": WARN_SECONDS,
            "digitsMin": policy.length_min,
            "digitsMax": policy.page_length_max,
            "refuseRepeated": policy.refuse_repeated,
            "refuseRuns": policy.refuse_runs,
            "key": dict(opening.key),
            "embedded": grant.embedded,
            "targetOrigins": list(parents) if grant.embedded else [],
            "redirectUrl": grant.redirect_url,
        }
        return JSONResponse(answer, headers=NO_STORE)

    async def extend(self, request: Request) -> Response:
        """Give a session its full time again."""
        (session,) = await _members(request, "session")
        seconds = await self.pages.extend(session)
        return JSONResponse({"expiresInSeconds": seconds}, headers=NO_STORE)

    async def submit(self, request: Request) -> Response:
        """Take the PIN."""
        session, jwe = await _members(request, "session", "jwe")
        await self.pages.submit(session, jwe, request.scope["log"]["correlation_id"])
        return Response(status_code=204, headers=NO_STORE)

    async def cancel(self, request: Request) -> Response:
        """End a session, as its cardholder wants."""
        (session,) = await _members(request, "session")
        await self.pages.cancel(session, request.scope["log"]["correlation_id"])
        return Response(status_code=204, headers=NO_STORE)

    async def _look(self, token: str, request: Request) -> tuple[Grant, App]:
        """Look at a live token; count one that was never issued. A page that is reloaded has none.

        Raises:
            ControlEnded, TooManyFailures, TryLater: as their names say.
        """
        if not token:
            raise ControlEnded
        address = self.auth.address(request)
        self.guesses.check(address)
        try:
            return await self.pages.look(token)
        except ControlEnded:
            if await self.pages.is_guess(token):
                self.guesses.failed(address)
            raise


async def asset(request: Request) -> Response:
    """Answer with a file of a page; what is not listed does not exist."""
    found = ASSETS.get(request.url.path)
    if found is None:
        raise HTTPException(404)
    return Response(found.body, headers=found.headers)


async def _members(request: Request, *names: str) -> list[str]:
    """Read the JSON that our own page posts.

    Raises:
        BadRequest: it is not as our page writes it.
        HTTPException: it comes from another site's page, or as another media type.
    """
    if request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
        raise HTTPException(403)
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise HTTPException(415)
    try:
        members = json_object.parse(await read_body(request))
    except JoseError:
        raise BadRequest(Field.BODY) from None
    values = [members.get(name) for name in names]
    texts = [value for value in values if isinstance(value, str)]
    if len(texts) != len(names) or any(len(text) > MEMBER_CHARS_MAX for text in texts):
        raise BadRequest(Field.BODY)
    return texts

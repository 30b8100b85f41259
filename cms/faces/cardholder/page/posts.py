"""What the scripts of our own pages send: JSON, from the page's own origin."""

from dataclasses import dataclass
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from cms.domain.control import WARN_SECONDS
from cms.domain.errors import BadRequest, Field
from cms.faces.cardholder.page.answers import NO_STORE
from cms.faces.cardholder.page.assets import ASSETS
from cms.faces.request import read_body
from cms.services.cardholder.set_page import Opening, SetPage
from crypto.errors import JoseError
from crypto.jose import json_object

#: A session is 43 characters, a token 36, a JWE at most 8192.
MEMBER_CHARS_MAX: Final = 8192


@dataclass(frozen=True, slots=True)
class SetPosts:
    """Answers what the script of a set page sends once its session is open."""

    pages: SetPage

    async def extend(self, request: Request) -> Response:
        """Give a session its full time again."""
        (session,) = await posted(request, "session")
        seconds = await self.pages.extend(session)
        return JSONResponse({"expiresInSeconds": seconds}, headers=NO_STORE)

    async def submit(self, request: Request) -> Response:
        """Take the PIN."""
        session, jwe = await posted(request, "session", "jwe")
        error_id = getattr(request.state, "error_id", None)
        await self.pages.submit(session, jwe, request.scope["log"]["correlation_id"], error_id)
        return Response(status_code=204, headers=NO_STORE)

    async def cancel(self, request: Request) -> Response:
        """End a session, as its cardholder wants."""
        (session,) = await posted(request, "session")
        await self.pages.cancel(session, request.scope["log"]["correlation_id"])
        return Response(status_code=204, headers=NO_STORE)


async def asset(request: Request) -> Response:
    """Answer with a file of a page; what is not listed does not exist."""
    found = ASSETS.get(request.url.path)
    if found is None:
        raise HTTPException(404)
    return Response(found.body, headers=found.headers)


def opening_members(opening: Opening) -> dict[str, object]:
    """Say what the script of a set page has to know: the session, the rules, the vault's key."""
    policy = opening.policy
    return {
        "session": opening.session.session,
        "expiresInSeconds": opening.session.expires_in_seconds,
        "warnSeconds": WARN_SECONDS,
        "digitsMin": policy.length_min,
        "digitsMax": policy.page_length_max,
        "refuseRepeated": policy.refuse_repeated,
        "refuseRuns": policy.refuse_runs,
        "key": dict(opening.key),
    }


async def posted(request: Request, *names: str) -> list[str]:
    """Read the texts with these names from the JSON that our own page posts.

    Raises:
        BadRequest: it is not as our page writes it.
        HTTPException: it comes from another site's page, or as another media type.
    """
    members = await posted_members(request)
    return [text_of(members, name) for name in names]


async def posted_members(request: Request) -> dict[str, object]:
    """Read the JSON that our own page posts; raises as :func:`posted`."""
    if request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
        raise HTTPException(403)
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise HTTPException(415)
    try:
        return json_object.parse(await read_body(request))
    except JoseError:
        raise BadRequest(Field.BODY) from None


def text_of(members: dict[str, object], name: str) -> str:
    """Return a member that is text.

    Raises:
        BadRequest: it is not, or it is longer than anything that a page sends.
    """
    value = members.get(name)
    if not isinstance(value, str) or len(value) > MEMBER_CHARS_MAX:
        raise BadRequest(Field.BODY)
    return value

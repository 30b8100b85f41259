"""What the scripts of our own pages send: JSON, from the page's own origin."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from cms.domain.control import WARN_SECONDS
from cms.domain.errors import BadRequest, Field
from cms.faces.answer import json_answer, no_content
from cms.faces.cardholder.page.answers import NO_STORE
from cms.faces.cardholder.page.assets import ASSETS
from cms.faces.cardholder.page.models import MEMBER_CHARS_MAX, Extended
from cms.faces.request import media_type, read_body
from cms.faces.routes import Handler
from cms.services.cardholder.set_page import Opening, SetPage
from crypto.errors import JoseError
from crypto.jose import json_object

NO_CONTENT: Final = no_content(NO_STORE)


@dataclass(frozen=True, slots=True)
class SetPosts:
    """Answers what the script of a set page sends once its session is open."""

    set_page: SetPage

    async def extend(self, session: str, _request: Request) -> Response:
        """Give a session its full time again."""
        seconds = await self.set_page.extend(session)
        return json_answer(Extended(seconds), NO_STORE)

    async def submit(
        self, session: str, control_token: str, jwe: str, request: Request
    ) -> Response:
        """Take the PIN."""
        correlation_id = request.scope["log"]["correlation_id"]
        error_id = getattr(request.state, "error_id", None)
        await self.set_page.submit(session, control_token, jwe, correlation_id, error_id)
        return NO_CONTENT

    async def cancel(self, session: str, request: Request) -> Response:
        """End a session, as its cardholder wants."""
        await self.set_page.cancel(session, request.scope["log"]["correlation_id"])
        return NO_CONTENT


async def asset(request: Request) -> Response:
    """Answer with a file of a page; what is not listed does not exist."""
    found = ASSETS.get(request.url.path)
    if found is None:
        raise HTTPException(404)
    return Response(found.body, headers=found.headers)


def opening_members(opening: Opening) -> dict[str, Any]:
    """Return the fields of a :class:`PageOpening`."""
    policy = opening.policy
    return {
        "session": opening.session,
        "grant_id": opening.grant_id,
        "last_four": opening.last_four,
        "expires_in_seconds": opening.expires_in_seconds,
        "warn_seconds": WARN_SECONDS,
        "digits_min": policy.length_min,
        "digits_max": policy.page_length_max,
        "refuse_repeated": policy.refuse_repeated,
        "refuse_runs": policy.refuse_runs,
        "key": dict(opening.key),
    }


def by_page(answer: Callable[..., Awaitable[Response]], *names: str) -> Handler:
    """Let the script of our own page call *answer*: with the texts of these names, and the request.

    What else is not as :func:`posted_members` and :func:`text_of` say is refused before.
    """

    async def handler(request: Request) -> Response:
        members = await posted_members(request)
        return await answer(*(text_of(members, name) for name in names), request)

    return handler


async def posted_members(request: Request) -> dict[str, object]:
    """Read the JSON that our own page posts.

    Raises:
        BadRequest: it is not a JSON object.
        HTTPException: it comes from another site's page, or as another media type.
    """
    if request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
        raise HTTPException(403)
    if media_type(request) != "application/json":
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

"""What the answers of cardholders' faces have in common: a language, and why there is no page."""

import secrets
from collections.abc import Mapping
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from cms.domain.control import FAILURES_BY_ADDRESS
from cms.domain.errors import (
    ControlEnded,
    DomainError,
    LimitReached,
    ServiceUnavailable,
    StoredValueBroken,
    TooManyFailures,
)
from cms.faces.answer import encoded
from cms.faces.cardholder.page.messages import choose
from cms.faces.cardholder.page.render import Owner, ended_headers, ended_page, ended_page_of
from cms.faces.request import only

NONCE_BYTES: Final = 18
NO_STORE_BY_NAME: Final = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
NO_STORE: Final = encoded(NO_STORE_BY_NAME)
#: What keeps a page from being made: its status, and the name of what is said.
ENDS: Final[Mapping[type[Exception], tuple[int, str]]] = {
    ControlEnded: (410, "ended"),
    TooManyFailures: (429, "limited"),
    ServiceUnavailable: (503, "away"),
    StoredValueBroken: (500, "away"),
}
RETRY_AFTER_SECONDS: Final[Mapping[type[DomainError], int]] = {
    ServiceUnavailable: 1,
    TooManyFailures: FAILURES_BY_ADDRESS.window_seconds,
    # Days end at midnight UTC, and a limit may be raised before.
    LimitReached: 3600,
}


def ended(request: Request, error: DomainError, owner: Owner | None = None) -> Response:
    """Answer with the page of an error of :data:`ENDS`; *owner* is None where nobody knows whose.

    It tells nothing else.
    """
    status, state = ENDS[type(error)]
    language = page_language(request, None if owner is None else owner.language)
    if owner is None:
        page, headers = ended_page(language, state), ended_headers(language)
    else:
        nonce = secrets.token_urlsafe(NONCE_BYTES)
        page = ended_page_of(owner, language, state, nonce).encode()
        headers = ended_headers(language, nonce)
    headers = {**headers, **retry_after(error), "Vary": "Accept-Language"}
    return Response(page, status, headers)


def page_language(request: Request, registered: str | None = None) -> str:
    """Return the language of a page: its address names one, or the client has *registered* one."""
    accept_language = request.headers.get("accept-language")
    return choose(only(request, "lang"), registered, accept_language)


def retry_after(error: Exception) -> dict[str, str]:
    """Say when an error may be over."""
    seconds = next((s for kind, s in RETRY_AFTER_SECONDS.items() if isinstance(error, kind)), None)
    return {} if seconds is None else {"Retry-After": str(seconds)}

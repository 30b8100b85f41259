"""The only place where a domain error becomes an answer of the hosted face."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from cms import logs
from cms.domain.errors import (
    BadRequest,
    CardForbids,
    CardNotFound,
    ClientKeyInvalid,
    ClientKeyMissing,
    ControlEnded,
    DomainError,
    EvidenceRefused,
    Invalid,
    PinForbidden,
    PinUnavailable,
    ServiceUnavailable,
    StepUpRequired,
    StoredValueBroken,
    TooManyFailures,
    Unauthorized,
    ValueNotPossible,
)
from cms.faces.answer import encoded, json_answer
from cms.faces.cardholder.hosted.cors import Cors
from cms.faces.cardholder.hosted.models import FieldError
from cms.faces.cardholder.page.answers import NO_STORE, retry_after
from cms.faces.refusals import DEFECT, TELL, Refusal, refusal_of

CHANGED: Final = {"reason": "changed"}
INTERNAL: Final = (500, {"message": "Internal server error"})
#: Error class -> status and body. The contract gives those of ``/v1/card/*``.
WIRE: Final[Mapping[type[DomainError], tuple[int, Mapping[str, Any]]]] = {
    ClientKeyMissing: (499, {"message": "Missing client key"}),
    ClientKeyInvalid: (498, {"message": "Invalid client key"}),
    Unauthorized: (401, {"message": "Not authenticated"}),
    StepUpRequired: (403, {"message": "Not authorized"}),
    CardForbids: (403, {"message": "Not authorized"}),
    PinUnavailable: (403, {"message": "Not authorized"}),
    ValueNotPossible: (403, {"message": "Not authorized"}),
    CardNotFound: (404, {"message": "Card not found"}),
    EvidenceRefused: (404, {"message": "Card not found"}),
    Invalid: (422, {"message": "Validation error"}),
    PinForbidden: (422, {"reason": "weak"}),
    BadRequest: (400, {"message": "Bad request"}),
    ControlEnded: (410, {"message": "Gone"}),
    TooManyFailures: (429, {"message": "Too many requests"}),
    StoredValueBroken: INTERNAL,
    ServiceUnavailable: (503, {"message": "Internal server error"}),
}
ROUTING: Final[Mapping[int, tuple[int, Mapping[str, Any]]]] = {
    403: (403, {"message": "Not authorized"}),
    404: (404, {"message": "Not found"}),
    405: (405, {"message": "Method not allowed"}),
    415: (415, {"message": "Unsupported media type"}),
}
CALLER_DOES: Final[Mapping[type[DomainError], str]] = {
    Unauthorized: "Have the cardholder log in: the access token is none, or over.",
    ValueNotPossible: "Show no button: only D1 can set PINs of this issuer.",
}
ROUTING_MEANINGS: Final[Mapping[int, str]] = {
    403: "A page of another site sent it.",
    404: "There is nothing at this path.",
    405: "Not with this method.",
    415: "Its media type is not application/json.",
}
log = logging.getLogger(__name__)


def refusals(
    *errors: type[DomainError], statuses: Sequence[int] = (), changed: bool = False
) -> Sequence[Refusal]:
    """Describe how errors, and what no route takes, are answered; and a defect.

    Args:
        errors: those that lead to it.
        statuses: of :data:`ROUTING`.
        changed: whether a session may end since the PIN was changed elsewhere.
    """
    found = [_refusal(error) for error in errors]
    if changed:
        status, body = WIRE[ControlEnded]
        meaning, then = "The card's PIN was changed since the session began.", "Begin anew."
        found.append(Refusal(status, {**body, **CHANGED}, meaning, then, ControlEnded, "reason"))
    for status in statuses:
        _, body = ROUTING[status]
        meaning = ROUTING_MEANINGS[status]
        found.append(Refusal(status, body, meaning, "Correct the request.", None, "message"))
    return [*found, Refusal(*INTERNAL, DEFECT, TELL, StoredValueBroken, "message")]


def _refusal(error: type[DomainError]) -> Refusal:
    status, body = WIRE[error]
    if error is Invalid:
        example = FieldError("customCss.backgroundColor", "Invalid hex color format")
        body = {**body, "errors": [msgspec.to_builtins(example)]}
    code = "message" if "message" in body else "reason"
    return refusal_of(error, status, body, code, caller_does=CALLER_DOES)


def install(app: FastAPI, cors: Cors) -> None:
    """Route every failure of *app* through this module."""

    async def answer(
        request: Request, status: int, body: Mapping[str, Any], headers: Mapping[str, str]
    ) -> Response:
        return json_answer(body, (*NO_STORE, *cors.headers(request), *encoded(headers)), status)

    async def on_domain_error(request: Request, error: Exception) -> Response:
        status, body = next(wire for kind, wire in WIRE.items() if isinstance(error, kind))
        headers = retry_after(error)
        if isinstance(error, Invalid):
            errors = [{"field": field, "message": message} for field, message in error.fields]
            body = {**body, "errors": errors}
        if isinstance(error, ControlEnded) and error.changed_elsewhere:
            body = {**body, **CHANGED}
        if isinstance(error, Unauthorized):
            headers["WWW-Authenticate"] = "Bearer"
            logs.refused("unauthorized", "hosted")
        request.scope["log"]["error_code"] = type(error).__name__
        return await answer(request, status, body, headers)

    async def on_routing_error(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
        return await answer(request, *ROUTING.get(status, INTERNAL), headers)

    async def on_unknown_error(request: Request, error: Exception) -> Response:
        log.error("internal", exc_info=error)
        return await answer(request, *INTERNAL, {})

    app.add_exception_handler(DomainError, on_domain_error)
    app.add_exception_handler(HTTPException, on_routing_error)
    app.add_exception_handler(Exception, on_unknown_error)

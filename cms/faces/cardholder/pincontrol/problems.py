"""Which errors of the domain become which answers: the contract's object of seven members."""

import logging
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Final

import msgspec
from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from cms import logs
from cms.domain.errors import (
    BadRequest,
    CardForbids,
    CardNotFound,
    ControlEnded,
    CounterExhausted,
    DomainError,
    EvidenceRefused,
    Invalid,
    LimitReached,
    PinForbidden,
    PinRefused,
    PinUnavailable,
    ServiceUnavailable,
    StoredValueBroken,
    TooManyFailures,
    TypeNotOffered,
    Unauthorized,
    ValueNotPossible,
)
from cms.faces.answer import encoded, json_answer
from cms.faces.cardholder.page.answers import NO_STORE, retry_after
from cms.faces.cardholder.pincontrol.models import ErrorResponse, ErrorType
from cms.faces.cardholder.pincontrol.pages import PIN_PATH, ended_webview
from cms.faces.refusals import TELL, Refusal, refusal_of

STATIC: Final = ErrorType.STATIC
DYNAMIC: Final = ErrorType.DYNAMIC
INTEGRATION: Final = ErrorType.INTEGRATION
SECURITY: Final = ErrorType.SECURITY


@dataclass(frozen=True, slots=True)
class Wire:
    """An answer: its status, and four of the seven members."""

    status: int
    message: str
    error_code: str
    error_type: ErrorType
    reason: str


INTERNAL: Final = Wire(
    500, "Internal Server Error", "INTERNAL", ErrorType.UNEXPECTED, "an error that was not expected"
)
NO_PLASTIC: Final = Wire(
    404, "Card not Found", "CARD_NOT_FOUND", DYNAMIC, "there is no plastic with this plasticId"
)
CHANGED_ELSEWHERE: Final = Wire(
    410, "Gone", "PIN_CHANGED", DYNAMIC, "the card's PIN was changed since the session began"
)
WIRE: Final[Mapping[type[DomainError], Wire]] = {
    Unauthorized: Wire(
        *(401, "Unauthorized", "UNAUTHORIZED", SECURITY),
        reason="user name or password are missing or wrong",
    ),
    Invalid: Wire(400, "Bad Request", "INVALID_REQUEST", STATIC, "not as published"),
    BadRequest: Wire(400, "Bad Request", "INVALID_REQUEST", STATIC, "not as published"),
    CardNotFound: NO_PLASTIC,
    EvidenceRefused: NO_PLASTIC,
    CardForbids: Wire(
        *(403, "Forbidden", "CARD_STATE_FORBIDDEN", DYNAMIC),
        reason="the card's state does not allow this, or the plastic is already produced",
    ),
    PinUnavailable: Wire(
        403, "Forbidden", "PIN_NOT_AVAILABLE", DYNAMIC, "the card has no PIN that may be shown"
    ),
    ValueNotPossible: Wire(
        *(403, "Forbidden", "PIN_CHANGE_NOT_OFFERED", DYNAMIC),
        reason="PINs of this issuer are set in another way",
    ),
    PinForbidden: Wire(
        422, "Unprocessable Content", "PIN_FORBIDDEN", DYNAMIC, "the PIN policy forbids this PIN"
    ),
    ControlEnded: Wire(
        410, "Gone", "CONTROL_ENDED", DYNAMIC, "the id or the session is unknown, consumed or over"
    ),
    TooManyFailures: Wire(
        429, "Too Many Requests", "TOO_MANY_FAILURES", SECURITY, "too many failures; wait"
    ),
    StoredValueBroken: INTERNAL,
    ServiceUnavailable: Wire(
        *(503, "Service Unavailable", "TRY_LATER", INTEGRATION),
        reason="something that the service needs is away",
    ),
}
#: Of the PIN operations, whose contract knows no 410 and no 422.
OF_OPERATIONS: Final[Mapping[type[DomainError], Wire]] = {
    **WIRE,
    ControlEnded: Wire(
        *(400, "Bad Request", "CONTROL_ENDED", DYNAMIC),
        reason="the controlId is unknown, consumed, over or for something else",
    ),
    PinRefused: Wire(
        400, "Bad Request", "PIN_BLOCK_REFUSED", DYNAMIC, "the PIN block cannot be used"
    ),
    PinForbidden: Wire(
        400, "Bad Request", "PIN_FORBIDDEN", DYNAMIC, "the PIN policy forbids this PIN"
    ),
    TypeNotOffered: Wire(
        *(403, "Forbidden", "OPERATION_NOT_OFFERED", SECURITY),
        reason="the issuer does not let this server do this",
    ),
    LimitReached: Wire(
        429, "Too Many Requests", "LIMIT_REACHED", SECURITY, "as many PINs as may be on a day"
    ),
    CounterExhausted: WIRE[ValueNotPossible],
}
EXAMPLE_ID: Final = "7d9c1a52-2c61-4f0e-8f3b-5f1f6f4f9f10"
ROUTING: Final[Mapping[int, Wire]] = {
    403: Wire(403, "Forbidden", "FOREIGN_PAGE", SECURITY, "sent by a page of another site"),
    404: Wire(404, "Not Found", "NO_SUCH_RESOURCE", STATIC, "there is nothing at this path"),
    405: Wire(405, "Method Not Allowed", "METHOD_NOT_ALLOWED", STATIC, "not with this method"),
    415: Wire(415, "Unsupported Media Type", "MEDIA_TYPE", STATIC, "not as this media type"),
}
CALLER_DOES: Final[Mapping[type[DomainError], str]] = {
    Unauthorized: "Compare user name and password with what the issuer registered.",
    CardNotFound: "Check the plastic id. If it is right, the issuer has not imported the plastic.",
    ControlEnded: "Ask for a new control id; each has 30 seconds and one use.",
    ValueNotPossible: "Do not offer it: only D1 can set PINs of this issuer.",
}
log = logging.getLogger(__name__)


def refusals(
    *errors: type[DomainError],
    statuses: Sequence[int] = (),
    changed: bool = False,
    wires: Mapping[type[DomainError], Wire] = WIRE,
) -> Sequence[Refusal]:
    """Describe how errors, and what no route takes, are answered; and a defect.

    Args:
        errors: those that lead to it.
        statuses: of :data:`ROUTING`.
        changed: whether a session may end since the PIN was changed elsewhere.
        wires: the answers of the face.
    """
    found = [_refusal(error, wires[error]) for error in errors]
    if changed:
        found.append(_fixed(CHANGED_ELSEWHERE, "Begin anew.", ControlEnded))
    found += [_fixed(ROUTING[status], "Correct the request.") for status in statuses]
    return [*found, _fixed(INTERNAL, TELL, StoredValueBroken)]


def _refusal(error: type[DomainError], wire: Wire) -> Refusal:
    members = _members(wire)
    return refusal_of(error, wire.status, members, "errorCode", caller_does=CALLER_DOES)


def _fixed(wire: Wire, caller_does: str, error: type[DomainError] | None = None) -> Refusal:
    meaning = f"{wire.reason[0].upper()}{wire.reason[1:]}."
    return Refusal(wire.status, _members(wire), meaning, caller_does, error, "errorCode")


def _members(wire: Wire) -> Mapping[str, object]:
    reason = "auditUser must be 1 to 128 printable characters, once"
    named = reason if wire is WIRE[Invalid] else wire.reason
    example = _body(wire, named, EXAMPLE_ID, "2026-01-31T12:00:00.000Z")
    members: Mapping[str, object] = msgspec.to_builtins(example)
    return members


class ErrorIds:
    """ASGI middleware: gives every request the id by which its refusal would be named."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request."""
        scope.setdefault("state", {})["error_id"] = str(uuid.uuid4())
        await self._app(scope, receive, send)


def install(app: FastAPI, wires: Mapping[type[DomainError], Wire] = WIRE) -> None:
    """Route every failure of *app* through this module; *wires* are its answers."""
    app.add_middleware(ErrorIds)
    app.add_exception_handler(DomainError, partial(_on_domain_error, wires))
    app.add_exception_handler(HTTPException, _on_routing_error)
    app.add_exception_handler(Exception, _on_unknown_error)


async def _on_domain_error(
    wires: Mapping[type[DomainError], Wire], request: Request, error: Exception
) -> Response:
    wire = next(wire for kind, wire in wires.items() if isinstance(error, kind))
    if isinstance(error, ControlEnded) and error.changed_elsewhere:
        wire = CHANGED_ELSEWHERE
    headers = retry_after(error)
    reason = wire.reason
    if isinstance(error, Invalid):
        reason = "; ".join(f"{field} {message}" for field, message in error.fields)
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = 'Basic realm="pincontrol", charset="UTF-8"'
        logs.refused("unauthorized", "pincontrol")
    return _answer(request, wire, reason, headers)


async def _on_routing_error(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    wire = ROUTING.get(status, INTERNAL)
    return _answer(request, wire, wire.reason, headers)


async def _on_unknown_error(request: Request, error: Exception) -> Response:
    log.error("internal", exc_info=error)
    if request.url.path == PIN_PATH:
        return ended_webview(request, error)
    return _answer(request, INTERNAL, INTERNAL.reason, {})


def _answer(request: Request, wire: Wire, reason: str, headers: dict[str, str]) -> Response:
    request.scope["log"] |= {
        "error_code": wire.error_code,
        "error_id": request.state.error_id,
    }
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    body = _body(wire, reason, request.state.error_id, now.replace("+00:00", "Z"))
    return json_answer(body, (*NO_STORE, *encoded(headers)), wire.status)


def _body(wire: Wire, reason: str, error_id: str, timestamp: str) -> ErrorResponse:
    status, kind = str(wire.status), wire.error_type
    return ErrorResponse(status, wire.message, error_id, wire.error_code, kind, reason, timestamp)

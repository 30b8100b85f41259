"""The only place where a domain error becomes an answer to D1."""

import logging
from collections.abc import Mapping, Sequence
from typing import Final

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from cms import logs
from cms.domain.errors import (
    BadRequest,
    CardForbids,
    CardNotFound,
    CounterExhausted,
    DomainError,
    Field,
    IssuerNotFound,
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
from cms.faces.refusals import DEFECT, TELL, Refusal, refusal_of
from hsm.manifest.wire import ErrorWire
from hsm.port import CLIENT_WINDOW_SECONDS

CODE: Final = ErrorWire().code_field
"""What D1 tells refusals apart by; an issuer's wire profile may give the member another name."""
INTERNAL: Final = (500, "INTERNAL_ERROR", "Internal error")
#: Error class -> status, errorCode, error. Codes are D1's own where it publishes one.
WIRE: Final[Mapping[type[DomainError], tuple[int, str, str]]] = {
    Unauthorized: (401, "AUTHORIZER_UNAUTHORIZED", "Unauthorized"),
    IssuerNotFound: (404, "ISSUER_NOT_FOUND", "Unknown issuer"),
    CardNotFound: (404, "CARD_NOT_FOUND", "Unknown card"),
    CardForbids: (403, "CARD_STATE_FORBIDDEN", "The state of the card does not allow this"),
    PinUnavailable: (403, "PIN_NOT_AVAILABLE", "The card has no PIN that can be displayed"),
    BadRequest: (400, "FIELD_INVALID_FORMAT", ""),
    PinRefused: (400, "FIELD_INVALID_VALUE", "encryptedPinBlock"),
    PinForbidden: (403, "PIN_CHANGE_FORBIDDEN", "The PIN policy does not allow this PIN"),
    TypeNotOffered: (403, "PIN_CHANGE_FORBIDDEN", "This type of PIN block is not offered"),
    ValueNotPossible: (403, "PIN_CHANGE_FORBIDDEN", "The card does not take a PIN in this form"),
    CounterExhausted: (403, "PIN_CHANGE_FORBIDDEN", "The card takes no further PIN change"),
    TooManyFailures: (429, "TOO_MANY_REQUESTS", "Too many PINs that cannot be used"),
    StoredValueBroken: INTERNAL,
    ServiceUnavailable: (503, "SERVICE_UNAVAILABLE", "Try again later"),
}
ROUTING: Final[Mapping[int, tuple[int, str, str]]] = {
    404: (404, "RESOURCE_NOT_FOUND", "Unknown resource"),
    405: (405, "METHOD_NOT_ALLOWED", "Method not allowed"),
}
RETRY_AFTER_SECONDS: Final[Mapping[type[DomainError], int]] = {
    ServiceUnavailable: 1,
    TooManyFailures: CLIENT_WINDOW_SECONDS,
}
#: Of whom the issuer knows the certificate.
CALLER_DOES: Final[Mapping[type[DomainError], str]] = {
    Unauthorized: "Get a new access token; present the certificate that the issuer registered.",
    PinRefused: "Make a new JWE: to a key of ours, with a block for this card's PAN.",
}
log = logging.getLogger(__name__)


def install(app: FastAPI) -> None:
    """Route every failure of *app* through this module."""
    app.add_exception_handler(DomainError, _on_domain_error)
    app.add_exception_handler(HTTPException, _on_routing_error)
    app.add_exception_handler(Exception, _on_unknown_error)


def refusals(*errors: type[DomainError], fields: Sequence[Field] = ()) -> Sequence[Refusal]:
    """Describe how *errors* are answered, each part of a request that may be wrong, and a defect.

    Every call may be refused as unauthorized, and as the service being unavailable.
    """
    parts = [_refusal(BadRequest, field.value) for field in fields]
    every: Sequence[type[DomainError]] = (Unauthorized, *errors, ServiceUnavailable)
    known = [_refusal(error) for error in every]
    status, code, text = INTERNAL
    defect = Refusal(status, _members(code, text), DEFECT, TELL, StoredValueBroken, CODE)
    return (*parts, *known, defect)


def routing_refusals() -> Sequence[Refusal]:
    """Describe how a request is answered that no route takes."""
    meanings = {404: "There is nothing at this path.", 405: "Not with this method."}
    wanted = {404: "Correct the address.", 405: "Correct the method."}
    return [
        Refusal(status, _members(code, text), meanings[status], wanted[status], None, CODE)
        for status, code, text in ROUTING.values()
    ]


def _refusal(error: type[DomainError], text: str | None = None) -> Refusal:
    status, code, fixed = WIRE[error]
    members = _members(code, fixed if text is None else text)
    return refusal_of(error, status, members, CODE, caller_does=CALLER_DOES)


def _members(code: str, text: str) -> Mapping[str, object]:
    return {ErrorWire().code_field: code, ErrorWire().error_field: text}


async def _on_domain_error(request: Request, error: Exception) -> Response:
    status, code, text = next(wire for kind, wire in WIRE.items() if isinstance(error, kind))
    if isinstance(error, BadRequest):
        text = error.field.value
    headers: dict[str, str] = {}
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
        logs.refused("unauthorized", "d1")
    for kind, seconds in RETRY_AFTER_SECONDS.items():
        if isinstance(error, kind):
            headers["Retry-After"] = str(seconds)
    return _answer(request, status, code, text, headers)


async def _on_routing_error(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    return _answer(request, *ROUTING.get(status, INTERNAL), headers)


async def _on_unknown_error(request: Request, error: Exception) -> Response:
    log.error("internal", exc_info=error)
    return _answer(request, *INTERNAL, {})


def _answer(
    request: Request, status: int, code: str, text: str, headers: dict[str, str]
) -> Response:
    wire: ErrorWire = request.scope.get("error_wire") or ErrorWire()
    request.scope["log"]["error_code"] = code
    headers["Cache-Control"] = "no-store"
    return json_answer({wire.code_field: code, wire.error_field: text}, encoded(headers), status)

"""The only place where a domain error becomes an answer to D1."""

import logging
from collections.abc import Mapping
from typing import Any, Final

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
from hsm.manifest.wire import ErrorWire
from hsm.port import CLIENT_WINDOW_SECONDS

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
log = logging.getLogger(__name__)


def install(app: FastAPI) -> None:
    """Route every failure of *app* through this module."""
    app.add_exception_handler(DomainError, _on_domain_error)
    app.add_exception_handler(HTTPException, _on_routing_error)
    app.add_exception_handler(Exception, _on_unknown_error)


def documented(*errors: type[DomainError]) -> dict[int | str, dict[str, Any]]:
    """Describe *errors* for OpenAPI, from the table that answers them."""
    answers: dict[int | str, dict[str, Any]] = {500: _described("Internal error")}
    always: tuple[type[DomainError], ...] = (Unauthorized, ServiceUnavailable)
    for error in (*errors, *always):
        answers[WIRE[error][0]] = _described(str(error.__doc__))
    return answers


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


def _described(text: str) -> dict[str, Any]:
    error = {"type": "string"}
    schema = {
        "type": "object",
        "properties": {"errorCode": error, "error": error},
        "required": ["errorCode", "error"],
    }
    return {"description": text, "content": {"application/json": {"schema": schema}}}

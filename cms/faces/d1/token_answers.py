"""What the token endpoint answers: as RFC 6749 has it, in the members of the issuer's profile."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from cms.domain.errors import BadRequest, DomainError, ServiceUnavailable, Unauthorized
from cms.faces.d1 import problems
from cms.faces.operation import TEXT, Answered, Content, Operation, Schema
from cms.faces.refusals import CALLER_DOES, Refusal, meaning_of
from cms.faces.request import FORM
from hsm.manifest.wire import AccessTokenWire
from hsm.port import IssuedAccessToken

HEADERS: Final = {"Cache-Control": "no-store", "Pragma": "no-cache"}
#: RFC 6749 5.2 error -> status and the D1 face's code.
ERRORS: Final[Mapping[str, tuple[int, str]]] = {
    "invalid_request": (400, "FIELD_INVALID_FORMAT"),
    "unsupported_grant_type": (400, "FIELD_INVALID_VALUE"),
    "invalid_client": (401, "AUTHORIZER_UNAUTHORIZED"),
    "temporarily_unavailable": (503, "SERVICE_UNAVAILABLE"),
}
#: RFC 6749 5.2 error -> what it means, and what the caller does.
MEANINGS: Final[Mapping[str, tuple[str, str, type[DomainError] | None]]] = {
    "invalid_request": ("The body is no form with a grant_type, once.", "Correct it.", BadRequest),
    "unsupported_grant_type": (
        *("Another grant_type than client_credentials.", "Send client_credentials."),
        None,
    ),
    "invalid_client": (
        "Client id, secret or certificate are not registered together.",
        "Compare all three with what the issuer registered.",
        Unauthorized,
    ),
    "temporarily_unavailable": (
        meaning_of(ServiceUnavailable),
        CALLER_DOES[ServiceUnavailable],
        ServiceUnavailable,
    ),
}


def token_answer(wire: AccessTokenWire, issued: IssuedAccessToken) -> dict[str, object]:
    """Build the answer with an access token."""
    seconds: object = str(wire.ttl_seconds) if wire.expires_in_as_string else wire.ttl_seconds
    answer: dict[str, object] = {
        "access_token": issued.access_token,
        "token_type": "Bearer",
        "expires_in": seconds,
        "scope": wire.scope,
    }
    if wire.emit_expires_at:
        moment = datetime.fromtimestamp(issued.expires_at, UTC)
        answer["expires_at"] = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return answer


def refusals() -> Sequence[Refusal]:
    """Describe how a request for an access token is refused, and a defect, as all over D1."""
    return [
        *(
            Refusal(status, {"error": error, "errorCode": code}, *MEANINGS[error], "error")
            for error, (status, code) in ERRORS.items()
        ),
        problems.refusals()[-1],
    ]


def token_schema(wire: AccessTokenWire) -> Schema:
    """Describe the answer with an access token."""
    members = token_answer(wire, IssuedAccessToken("eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJkMSJ9.c2ln", 0))
    properties = {
        name: {"type": "string" if isinstance(value, str) else "integer", "examples": [value]}
        for name, value in members.items()
    }
    return {"type": "object", "required": [*members], "properties": properties}


FORM_SCHEMA: Final[Schema] = {
    "type": "object",
    "required": ["grant_type"],
    "properties": {
        "grant_type": {"const": "client_credentials"},
        "scope": {**TEXT, "description": "Ignored: the answer names the scope that was given."},
    },
}
TOKEN: Final = Operation(
    summary="Get Authorization Token",
    tag="authorization",
    answers={200: Answered("An access token.", Content(token_schema(AccessTokenWire())), HEADERS)},
    refusals=refusals(),
    body=[Content(FORM_SCHEMA, FORM, {"grant_type": "client_credentials"})],
    security=["certificate", "client"],
)

"""The token endpoint that the issuer hosts for D1.

Source: Thales D1 "OAuth2 API" (D1-Public-OUT-v1-Auth2), RFC 6749 4.4. Errors satisfy both: RFC
6749 fixes ``error``, the D1 face adds ``errorCode``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import unquote_plus

from fastapi import Request, Response

from cms import logs
from cms.domain.errors import BadRequest, Field, ServiceUnavailable, Unauthorized
from cms.faces.answer import encoded, json_answer
from cms.faces.d1.certificates import CertificateReader
from cms.faces.request import FORM, basic_credentials, read_body, read_form
from cms.faces.routes import Route
from cms.services.d1.access import Access
from crypto.secret import Secret
from hsm.manifest.model import Manifest
from hsm.port import IssuedAccessToken

TOKEN_PATH: Final = "/authz/d1/v1/oauth2/token"  # noqa: S105 - a path
HEADERS: Final = encoded({"Cache-Control": "no-store", "Pragma": "no-cache"})
#: RFC 6749 5.2 error -> status and the D1 face's code.
ERRORS: Final[Mapping[str, tuple[int, str]]] = {
    "invalid_request": (400, "FIELD_INVALID_FORMAT"),
    "unsupported_grant_type": (400, "FIELD_INVALID_VALUE"),
    "invalid_client": (401, "AUTHORIZER_UNAUTHORIZED"),
    "temporarily_unavailable": (503, "SERVICE_UNAVAILABLE"),
}
_STRING: Final = {"type": "string"}


def _json(description: str, required: list[str], **properties: object) -> dict[str, Any]:
    schema = {"type": "object", "required": required, "properties": properties}
    return {"description": description, "content": {"application/json": {"schema": schema}}}


_REFUSED: Final = _json(
    *("Refused", ["error", "errorCode"]), error={"enum": list(ERRORS)}, errorCode=_STRING
)
_ANSWERS: Final[Mapping[int | str, dict[str, Any]]] = {
    200: _json(
        "An access token",
        ["access_token", "token_type"],
        access_token=_STRING,
        token_type={"enum": ["Bearer"]},
        expires_in={"type": ["string", "integer"]},
        expires_at=_STRING,
        scope=_STRING,
    ),
    **dict.fromkeys((400, 401, 503), _REFUSED),
}
_FORM: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["grant_type"],
    "properties": {"grant_type": {"enum": ["client_credentials"]}, "scope": _STRING},
}
_REQUEST: Final[dict[str, Any]] = {
    "parameters": [{"name": "authorization", "in": "header", "required": True, "schema": _STRING}],
    "requestBody": {"required": True, "content": {FORM: {"schema": _FORM}}},
}


@dataclass(frozen=True, slots=True)
class TokenEndpoint:
    """Issues access tokens to clients that prove who they are by certificate and secret."""

    access: Access
    certificates: CertificateReader

    def routes(self) -> tuple[Route, ...]:
        """Return the table of the one route."""
        return (
            Route(
                "POST",
                TOKEN_PATH,
                self.issue,
                summary="Get Authorization Token",
                answers=_ANSWERS,
                openapi=_REQUEST,
            ),
        )

    async def issue(self, request: Request) -> Response:
        """Answer with an access token, or with an error of RFC 6749."""
        try:
            certificate = self.certificates.read(request.scope)  # 401
            # RFC 6749, 2.3.1 encodes both as a form does, and not every client does: no id and no
            # secret that is registered holds a character that this would change.
            client_id, secret = map(unquote_plus, basic_credentials(request))  # 401
            grant_type = _grant_type(request, await read_body(request))  # 400
            if grant_type != "client_credentials":
                return _refuse(request, "unsupported_grant_type")
            manifest, issued = await self.access.issue(
                client_id, Secret(secret), certificate
            )  # 401
        except BadRequest:
            return _refuse(request, "invalid_request")
        except Unauthorized:
            logs.refused("unauthorized", "token endpoint")
            return _refuse(request, "invalid_client", {"WWW-Authenticate": "Basic"})
        except ServiceUnavailable:
            return _refuse(request, "temporarily_unavailable", {"Retry-After": "1"})
        request.scope["log"]["issuer_id"] = manifest.issuer_id
        request.scope["log"]["client_id"] = client_id
        return json_answer(_answer(manifest, issued), HEADERS)


def _grant_type(request: Request, body: bytes) -> str:
    form = read_form(request, body)
    if "grant_type" not in form:
        raise BadRequest(Field.BODY)
    return form["grant_type"]


def _answer(manifest: Manifest, issued: IssuedAccessToken) -> dict[str, object]:
    wire = manifest.wire.token
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


def _refuse(request: Request, error: str, headers: Mapping[str, str] | None = None) -> Response:
    status, code = ERRORS[error]
    request.scope["log"]["error_code"] = code
    return json_answer(
        {"error": error, "errorCode": code}, (*HEADERS, *encoded(headers or {})), status
    )

"""The token endpoint that the issuer hosts for D1.

Source: Thales D1 "OAuth2 API" (D1-Public-OUT-v1-Auth2), RFC 6749 4.4. Errors satisfy both: RFC
6749 fixes ``error``, the D1 face adds ``errorCode``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_plus

from fastapi import Request, Response

from cms import logs
from cms.domain.errors import BadRequest, Field, ServiceUnavailable, Unauthorized
from cms.faces.answer import encoded, json_answer
from cms.faces.d1 import token_answers
from cms.faces.d1.certificates import CertificateReader
from cms.faces.d1.token_answers import ERRORS, TOKEN, token_answer
from cms.faces.request import basic_credentials, read_body, read_form
from cms.faces.routes import Route
from cms.services.d1.access import Access
from crypto.secret import Secret

TOKEN_PATH: Final = "/authz/d1/v1/oauth2/token"  # noqa: S105 - a path
HEADERS: Final = encoded(token_answers.HEADERS)


@dataclass(frozen=True, slots=True)
class TokenEndpoint:
    """Issues access tokens to clients that prove who they are by certificate and secret."""

    access: Access
    certificates: CertificateReader

    def routes(self) -> tuple[Route, ...]:
        """Return the table of the one route."""
        return (Route("POST", TOKEN_PATH, self.issue, TOKEN),)

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
        return json_answer(token_answer(manifest.wire.token, issued), HEADERS)


def _grant_type(request: Request, body: bytes) -> str:
    form = read_form(request, body)
    if "grant_type" not in form:
        raise BadRequest(Field.BODY)
    return form["grant_type"]


def _refuse(request: Request, error: str, headers: Mapping[str, str] | None = None) -> Response:
    status, code = ERRORS[error]
    request.scope["log"]["error_code"] = code
    return json_answer(
        {"error": error, "errorCode": code}, (*HEADERS, *encoded(headers or {})), status
    )

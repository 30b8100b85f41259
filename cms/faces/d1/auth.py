"""Who calls the D1 face: mutual TLS on every call, and a bearer where the tenant uses OAuth."""

from dataclasses import dataclass

from starlette.requests import Request

from cms.domain.errors import Unauthorized
from cms.faces.request import CertificateReader
from cms.services.d1.access import Access, Caller

SCHEMES = ("bearer", "bearer:")  # D1's own example writes the colon


@dataclass(frozen=True, slots=True)
class D1Auth:
    """Names the caller of a D1 route."""

    access: Access
    certificates: CertificateReader

    async def caller(self, request: Request) -> Caller:
        """Return the caller, of whichever issuer, and note it for the log.

        Raises:
            Unauthorized: no registered client's certificate, or no valid token of its own.
            ServiceUnavailable: token or database are unavailable.
        """
        certificate = self.certificates.read(request.scope)
        caller = await self.access.caller(
            _bearer(request), certificate, request.path_params["issuerId"]
        )
        request.state.error_wire = caller.issuer.wire.errors
        request.scope["log"]["issuer_id"] = caller.issuer.issuer_id
        request.scope["log"]["client_id"] = caller.client_id
        return caller


def _bearer(request: Request) -> str | None:
    values = request.headers.getlist("authorization")
    if not values:
        return None
    scheme, _, token = values[0].partition(" ")
    if len(values) != 1 or scheme.lower() not in SCHEMES or not token.strip():
        raise Unauthorized
    return token.strip()

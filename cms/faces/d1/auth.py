"""Who calls the D1 face: mutual TLS on every call, and a bearer where the tenant uses OAuth."""

from dataclasses import dataclass
from typing import Final

from starlette.requests import Request

from cms.faces.d1.certificates import CertificateReader
from cms.faces.request import bearer
from cms.services.d1.access import Access, Caller

SCHEMES: Final = ("bearer", "bearer:")
"""D1's own example writes the colon."""


@dataclass(frozen=True, slots=True)
class D1Auth:
    """Names the caller of a D1 route."""

    access: Access
    certificates: CertificateReader

    async def caller(self, request: Request) -> Caller:
        """Return the caller, of whichever issuer, and note it for the log.

        Raises:
            Unauthorized: the certificate is no registered client's, or there is no valid access
                token of the client's own.
            ServiceUnavailable: vault or database is unavailable.
        """
        certificate = self.certificates.read(request.scope)
        caller = await self.access.caller(
            bearer(request, SCHEMES), certificate, request.path_params["issuerId"]
        )
        request.scope["error_wire"] = caller.manifest.wire.errors
        request.scope["log"]["issuer_id"] = caller.manifest.issuer_id
        request.scope["log"]["client_id"] = caller.client_id
        return caller

"""The client certificate of a request: from our own TLS, or from a proxy that may vouch for it."""

import base64
import binascii
from dataclasses import dataclass
from typing import Final

from starlette.types import Scope

from cms.domain.errors import Unauthorized
from cms.services.d1.access import ClientCertificate, read_certificate
from cms.settings import Settings

CLIENT_CERT_HEADER: Final = b"client-cert"


@dataclass(frozen=True, slots=True)
class CertificateReader:
    """Finds the client certificate of a request where mutual TLS ends."""

    settings: Settings

    def read(self, scope: Scope) -> ClientCertificate:
        """Return the verified certificate of the caller.

        Raises:
            Unauthorized: there is none, or somebody vouches for one who may not.
        """
        values = [value for name, value in scope["headers"] if name == CLIENT_CERT_HEADER]
        if self.settings.d1_mtls_ends == "proxy":
            return read_certificate(self._forwarded(scope, values))
        if values:
            raise Unauthorized
        der = scope.get("extensions", {}).get("tls", {}).get("client_certificate_der")
        if der is None:
            raise Unauthorized
        return read_certificate(der)

    def _forwarded(self, scope: Scope, values: list[bytes]) -> bytes:
        peer = scope["client"][0] if scope.get("client") else "unix"
        if peer not in self.settings.d1_proxy_peers or len(values) != 1:
            raise Unauthorized
        value: bytes = values[0]
        # RFC 9440, 2.2: a byte sequence of RFC 8941, DER in base64 between colons.
        if len(value) < 2 or value[:1] != b":" or value[-1:] != b":":  # noqa: PLR2004 - two colons
            raise Unauthorized
        try:
            return base64.b64decode(value[1:-1], validate=True)
        except binascii.Error:
            raise Unauthorized from None

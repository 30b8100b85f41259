"""Mutual TLS of the D1 listener.

The protocol hands the verified client certificate to the application; a handshake that is refused
is logged and counted.
"""

import asyncio
import ssl
from typing import Final

from cms import logs
from cms.protocol import BoundedProtocol
from cms.settings import Settings

HANDSHAKE_PENDING: Final = (ssl.SSLWantReadError, ssl.SSLWantWriteError)


class ClientCertificateProtocol(BoundedProtocol):
    """Puts the client's certificate, DER, under ``extensions.tls`` of each request's scope."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Read the certificate once a connection."""
        super().connection_made(transport)
        ssl_object = transport.get_extra_info("ssl_object")
        self._der = ssl_object.getpeercert(binary_form=True) if ssl_object else None

    def on_message_begin(self) -> None:
        """Add the certificate to the scope of a request."""
        super().on_message_begin()
        self.scope["extensions"] = {"tls": {"client_certificate_der": self._der}}


class LoggedHandshake(ssl.SSLObject):
    """A TLS connection that says when its handshake was refused, and why."""

    def do_handshake(self) -> None:
        """Shake hands."""
        try:
            super().do_handshake()
        except HANDSHAKE_PENDING:
            raise
        except ssl.SSLError as error:
            logs.refused("handshake", error.reason or "unknown")
            raise


def tls_context(settings: Settings) -> ssl.SSLContext:
    """Require TLS 1.2 or 1.3 and a client certificate that leads to the configured CA.

    That CA need not be a root: a file with one partner's issuing CA lets in no other of that root.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.sslobject_class = LoggedHandshake
    context.load_cert_chain(str(settings.d1_certificate_file), str(settings.d1_key_file))
    context.load_verify_locations(str(settings.d1_client_ca_file))
    return context

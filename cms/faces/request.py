"""What faces read from a request: its body, query and address, and its client certificate."""

import base64
import binascii
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl

from starlette.requests import ClientDisconnect, Request
from starlette.types import Scope

from cms.domain.errors import BadRequest, Field, Unauthorized
from cms.services.d1.access import ClientCertificate, read_certificate
from cms.settings import Settings

BODY_BYTES_MAX: Final = 16 * 1024
FORM: Final = "application/x-www-form-urlencoded"
FORM_FIELDS_MAX: Final = 16
CLIENT_CERT_HEADER: Final = b"client-cert"


def only(request: Request, name: str) -> str:
    """Return a query parameter; one that is missing or there twice is empty."""
    values = request.query_params.getlist(name)
    return values[0] if len(values) == 1 else ""


def address(request: Request, proxy_peers: Collection[str]) -> str:
    """Return the address of the caller: the peer's, or what a proxy of ours says."""
    peer = request.client.host if request.client else "unix"
    if peer not in proxy_peers:
        return peer
    forwarded = ",".join(request.headers.getlist("x-forwarded-for"))
    return forwarded.rpartition(",")[2].strip() or peer


async def read_body(request: Request, bytes_max: int = BODY_BYTES_MAX) -> bytes:
    """Read a body of at most *bytes_max*.

    Raises:
        BadRequest: it is longer, or the caller went away.
    """
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > bytes_max:
                raise BadRequest(Field.BODY)
    except ClientDisconnect:
        raise BadRequest(Field.BODY) from None
    return bytes(body)


def read_form(request: Request, body: bytes) -> dict[str, str]:
    """Read a form; a parameter that stands twice is refused (RFC 6749, 3.2).

    Raises:
        BadRequest: it is no such form.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        pairs = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, max_num_fields=FORM_FIELDS_MAX
        )
    except ValueError:
        raise BadRequest(Field.BODY) from None
    form = dict(pairs)
    if content_type != FORM or len(form) != len(pairs):
        raise BadRequest(Field.BODY)
    return form


def basic_credentials(request: Request) -> tuple[str, str]:
    """Read HTTP Basic (RFC 7617); base64url is taken too, as D1 writes it, padded or not.

    Raises:
        Unauthorized: there is none, or more than one.
    """
    values = request.headers.getlist("authorization")
    scheme, _, encoded = values[0].partition(" ") if len(values) == 1 else ("", "", "")
    text = encoded.strip().rstrip("=").replace("-", "+").replace("_", "/")
    try:
        decoded = base64.b64decode(text + "=" * (-len(text) % 4), validate=True).decode()
    except ValueError:  # not base64, not ASCII, not UTF-8
        raise Unauthorized from None
    user, colon, secret = decoded.partition(":")
    if scheme.lower() != "basic" or not colon or not user:
        raise Unauthorized
    return user, secret


@dataclass(frozen=True, slots=True)
class CertificateReader:
    """Finds the client certificate of a request where mutual TLS ends."""

    settings: Settings

    def read(self, scope: Scope) -> ClientCertificate:
        """Return the verified certificate of the caller.

        Raises:
            Unauthorized: there is none, or it came from somebody who may not vouch for it.
        """
        if self.settings.d1_mtls_ends == "proxy":
            return read_certificate(self._forwarded(scope))
        der = scope.get("extensions", {}).get("tls", {}).get("client_certificate_der")
        if der is None:
            raise Unauthorized
        return read_certificate(der)

    def _forwarded(self, scope: Scope) -> bytes:
        peer = scope["client"][0] if scope.get("client") else "unix"
        values = [value for name, value in scope["headers"] if name == CLIENT_CERT_HEADER]
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

"""Who a caller is: a client certificate, a client secret, an access token.

An access token is an ES256 JWT of the vault (RFC 9068), bound to the client certificate (RFC 8705).
It is verified once and cached by its hash until it expires, or its key is not in use any more.
"""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from cryptography import x509

from cms.domain.errors import (
    BadRequest,
    Field,
    IssuerNotFound,
    Unauthorized,
)
from cms.services.d1.signing_keys import SigningKeys
from cms.services.directory import Directory
from cms.services.vault import called
from crypto.errors import JoseError
from crypto.jose import base64url, jws
from crypto.secret import Secret
from hsm.client import VaultCalls
from hsm.manifest import certificate_names, distinguished_name
from hsm.manifest.client_secrets import is_secret
from hsm.manifest.clients import D1Client
from hsm.manifest.model import Manifest
from hsm.messages import IssueToken
from hsm.port import (
    ACCESS_TOKEN_TYPE,
    ISSUER_ID_CHARS,
    CardRef,
    CertificateFacts,
    IssuedAccessToken,
)
from hsm.ttl_cache import TtlCache

#: What `cryptography` raises for a certificate that it cannot read, or only in part.
UNREADABLE: Final = (
    ValueError,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    TypeError,  # a BIT STRING where it expects text
)


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """A certificate whose chain was verified.

    Its names are those by which :mod:`hsm.manifest.certificate_names` knows it.
    """

    thumbprint: str
    """SHA-256 as base64url (RFC 8705)."""
    subject: str
    """Empty: it has none."""
    alternatives: Sequence[str]
    """The DNS names and URIs of its SAN."""
    sha256: str

    @property
    def names(self) -> frozenset[str]:
        """All its names. Without a subject it has none such: nobody is known by an empty one."""
        subjects = {self.subject} if self.subject else set()
        return frozenset({*subjects, *self.alternatives, self.sha256})

    @property
    def facts(self) -> CertificateFacts:
        """What the vault is told of it."""
        return CertificateFacts(self.thumbprint, self.subject, self.names)

    @property
    def lasting_names(self) -> Sequence[str]:
        """What it is registered by, and shares with the one that will replace it where it can."""
        return [self.subject] if self.subject else self.alternatives or [self.sha256]


@dataclass(frozen=True, slots=True)
class Caller:
    """A client that proved who it is."""

    manifest: Manifest
    """That of its issuer."""
    client_id: str

    def card(self, issuer_id: str, card_id: str) -> CardRef:
        """Name a card of the caller's own issuer, as a path has it; it need not exist.

        Raises:
            IssuerNotFound: *issuer_id* is another issuer's, or nobody's.
            BadRequest: *card_id* is not as published.
        """
        if issuer_id != self.manifest.issuer_id:
            raise IssuerNotFound
        try:
            return CardRef(issuer_id, card_id)
        except ValueError:
            raise BadRequest(Field.CARD_ID) from None


@dataclass(frozen=True, slots=True)
class _AccessToken:
    """What was verified of an access token."""

    kid: str
    issuer_id: str
    client_id: str
    expires_at: float
    thumbprint: str
    subject: str


@lru_cache(maxsize=1024)
def read_certificate(der: bytes) -> ClientCertificate:
    """Read a verified certificate.

    Raises:
        Unauthorized: it is not an X.509 certificate.
    """
    try:
        certificate = x509.load_der_x509_certificate(der)
        subject, alternatives = _subject(certificate), _alternative_names(certificate)
    except UNREADABLE:
        raise Unauthorized from None
    digest = hashlib.sha256(der).digest()
    return ClientCertificate(
        base64url.encode(digest), subject, alternatives, certificate_names.sha256(digest)
    )


class Access:
    """Has access tokens issued, and verifies them; *public_url* is their issuer and audience."""

    def __init__(
        self,
        directory: Directory,
        vault: VaultCalls,
        public_url: str,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._directory = directory
        self._vault = vault
        self._public_url = public_url
        self._now = now
        self._signing_keys = SigningKeys(vault, now)
        self._access_tokens = TtlCache[bytes, _AccessToken](now)

    async def issue(
        self, client_id: str, secret: Secret[str], certificate: ClientCertificate
    ) -> tuple[Manifest, IssuedAccessToken]:
        """Have an access token issued for a client secret that came over its own certificate.

        The vault decides. What it would refuse is refused here first, so that whoever guesses at
        secrets neither costs it anything nor learns whether it answers.

        Returns:
            The manifest of the client's issuer, and the access token.

        Raises:
            Unauthorized: the client is unknown, its secret is wrong, or the certificate is not
                registered for it.
            ServiceUnavailable: vault or database is unavailable.
        """
        manifest, client = await self._client(client_id[:ISSUER_ID_CHARS], client_id)
        _require_registered(client, certificate)
        if not is_secret(secret, client.secrets, self._now()):
            raise Unauthorized
        issued = await called(self._vault, IssueToken(client_id, secret, certificate.facts))
        return manifest, issued

    async def caller(
        self, bearer: str | None, certificate: ClientCertificate, issuer_id: str
    ) -> Caller:
        """Name the caller, of whichever issuer.

        Without *bearer* the certificate alone names it, where *issuer_id*, the issuer it calls,
        registered it so.

        Raises:
            Unauthorized: it is not a registered client, or the access token is not its own.
            ServiceUnavailable: vault or database is unavailable.
        """
        if bearer is None:
            return await self._certificate_caller(certificate, issuer_id)
        verified = await self._verified(bearer)
        manifest, client = await self._client(verified.issuer_id, verified.client_id)
        if not client.secrets:
            raise Unauthorized
        _require_registered(client, certificate)
        _require_bound(manifest, verified, certificate)
        return Caller(manifest, client.client_id)

    async def _certificate_caller(self, certificate: ClientCertificate, issuer_id: str) -> Caller:
        manifest = await self._directory.manifest(issuer_id)
        if manifest is not None:
            for client in manifest.clients:
                if not isinstance(client, D1Client) or client.secrets:
                    continue
                if client.is_registered(certificate.names):
                    return Caller(manifest, client.client_id)
        raise Unauthorized

    async def _client(self, issuer_id: str, client_id: str) -> tuple[Manifest, D1Client]:
        """Return a client at this face, and the manifest of its issuer.

        Raises:
            Unauthorized: there is none.
        """
        manifest = await self._directory.manifest(issuer_id)
        client = None if manifest is None else manifest.by_client_id.get(client_id)
        if manifest is None or not isinstance(client, D1Client):
            raise Unauthorized
        return manifest, client

    async def _verified(self, bearer: str) -> _AccessToken:
        key = hashlib.sha256(bearer.encode(errors="surrogatepass")).digest()
        cached, keys = self._access_tokens.get(key), await self._signing_keys.current()
        if cached is not None and cached.kid in keys:
            return cached
        try:
            kid = jws.key_id(bearer)
            if kid not in keys:
                keys = await self._signing_keys.newer()
            claims = jws.verify(bearer, keys, ACCESS_TOKEN_TYPE)
        except JoseError:
            raise Unauthorized from None
        verified = self._read_claims(claims, kid)
        self._access_tokens.put(key, verified, verified.expires_at)
        return verified

    def _read_claims(self, claims: Mapping[str, object], kid: str) -> _AccessToken:
        confirmation, expires_at = claims.get("cnf"), claims.get("exp")
        parties = (claims.get("iss"), claims.get("aud"))
        if parties != (self._public_url, self._public_url):
            raise Unauthorized
        if type(expires_at) is not int or expires_at <= self._now():
            raise Unauthorized
        thumbprint = confirmation.get("x5t#S256") if isinstance(confirmation, dict) else None
        return _AccessToken(
            kid,
            str(claims.get("issuerId")),
            str(claims.get("sub")),
            expires_at,
            str(thumbprint),
            str(claims.get("certificate_subject")),
        )


def _require_registered(client: D1Client, certificate: ClientCertificate) -> None:
    if not client.is_registered(certificate.names):
        raise Unauthorized


def _require_bound(
    manifest: Manifest, verified: _AccessToken, certificate: ClientCertificate
) -> None:
    binding = manifest.wire.token.bearer_binding
    is_bound = verified.thumbprint == certificate.thumbprint
    if binding == "subject" and certificate.subject:
        is_bound = verified.subject == certificate.subject
    if binding != "none" and not is_bound:
        raise Unauthorized


def _subject(certificate: x509.Certificate) -> str:
    return distinguished_name.canonical(
        [
            [(attribute.oid.dotted_string, attribute.value) for attribute in rdn]
            for rdn in certificate.subject.rdns
        ]
    )


def _alternative_names(certificate: x509.Certificate) -> Sequence[str]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return ()
    names = extension.value
    return (
        *map(certificate_names.dns, names.get_values_for_type(x509.DNSName)),
        *map(certificate_names.uri, names.get_values_for_type(x509.UniformResourceIdentifier)),
    )

"""Access tokens of D1: ES256 JWTs (RFC 9068), bound to the client's certificate (RFC 8705).

Every claim is written here, from the manifest, the certificate and the clock::

    iss, aud             the token issuer: the service's public URL
    sub, client_id       the client's id
    issuerId             that of its manifest
    scope                of the manifest's wire profile
    iat, exp             whole seconds since 1970; between them the wire profile's ttl_seconds
    jti                  16 random bytes of the HSM token, as base64url
    cnf                  {"x5t#S256": thumbprint of the certificate}
    certificate_subject  its subject
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from crypto.jose import base64url
from crypto.secret import Secret
from hsm.errors import CallerRefused
from hsm.jose_keys import JoseKeys
from hsm.manifest.client_secrets import is_secret
from hsm.manifest.clients import D1Client
from hsm.manifest.model import Manifest
from hsm.pkcs11.hsm_token import HsmToken
from hsm.pkcs11.keyring import Keyring
from hsm.pkcs11.keys import KeyRole
from hsm.port import ACCESS_TOKEN_TYPE, CertificateFacts, IssuedAccessToken

JTI_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class AccessTokens:
    """Issues access tokens."""

    hsm_token: HsmToken
    """Makes random bytes."""
    jose_keys: JoseKeys
    """Sign with the keys of that HSM token."""
    keyring: Keyring
    """Names the key that signs."""
    token_issuer: str | None
    """Issuer and audience of every access token; None: none are issued."""
    now: Callable[[], datetime]
    """The time, UTC."""

    def issue(
        self,
        manifest: Manifest,
        client_id: str,
        secret: Secret[str],
        certificate: CertificateFacts,
    ) -> IssuedAccessToken:
        """Issue one to a client of the manifest's issuer.

        Raises:
            CallerRefused: the manifest has no such client at D1's face, the certificate is not
                registered for it, the secret is wrong or past its end, or none are issued here.
            VaultUnavailable: the HSM token does not answer.
        """
        now = int(self.now().timestamp())
        client = manifest.by_client_id.get(client_id)
        if not isinstance(client, D1Client) or not client.is_registered(certificate.names):
            raise CallerRefused
        if self.token_issuer is None or not is_secret(secret, client.secrets, now):
            raise CallerRefused
        expires_at = now + manifest.wire.token.ttl_seconds
        claims = {
            "iss": self.token_issuer,
            "aud": self.token_issuer,
            "sub": client.client_id,
            "client_id": client.client_id,
            "issuerId": manifest.issuer_id,
            "scope": manifest.wire.token.scope,
            "iat": now,
            "exp": expires_at,
            "jti": base64url.encode(self.hsm_token.random(JTI_BYTES)),
            "cnf": {"x5t#S256": certificate.thumbprint},
            "certificate_subject": certificate.subject,
        }
        access_token = self.jose_keys.sign(
            claims, self.keyring.active[KeyRole.TOKEN_SIGN], ACCESS_TOKEN_TYPE
        )
        return IssuedAccessToken(access_token, expires_at)

"""Who a cardholder is: an access token, a JWT of the identity provider (RFC 7519, RFC 9068).

::

    header . payload . signature      each as canonical base64url; at most 8192 characters

    header    alg   ES256, RS256 or PS256, as the key allows
              kid   names a key of the provider
              typ   absent, JWT or at+jwt
    payload   iss, aud, sub, exp; nbf, iat, acr, auth_time where the provider sends them

The header chooses among the provider's keys and brings none. An access token is verified once, and
its subject is cached by its hash until it expires, at most 300 s: a key that the provider withdrew
is good for 600 s at most while the provider answers.
"""

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import httpx

from cms.domain.errors import StepUpRequired, Unauthorized
from cms.services.cardholder.jwks import ProviderKeys
from crypto.errors import JoseError
from crypto.jose import base64url, json_object
from hsm.ttl_cache import TtlCache

ACCESS_TOKEN_CHARS_MAX: Final = 8192
#: OpenID Connect Core, section 2.
SUBJECT_CHARS_MAX: Final = 255
#: Clocks differ.
LEEWAY_SECONDS: Final = 30
CACHE_SECONDS_MAX: Final = 300
ALGORITHMS: Final = frozenset({"ES256", "RS256", "PS256"})
#: RFC 7519, section 5.1, and RFC 9068, section 2.1; no ID token, logout token or other kind.
TYPES: Final = frozenset({"jwt", "at+jwt", "application/at+jwt"})
#: They bring a key, or change what a signature covers.
REFUSED_MEMBERS: Final = frozenset({"b64", "crit", "jku", "jwk", "x5c", "x5u"})


@dataclass(frozen=True, slots=True)
class Subject:
    """A cardholder, as the identity provider names it, and how and when it proved that."""

    value: str
    acr: str | None
    auth_time: int | None
    """Seconds since 1970."""


@dataclass(frozen=True, slots=True)
class _AccessToken:
    kid: str
    algorithm: str
    signed: bytes
    payload: bytes
    signature: bytes


class IdentityProvider:
    """Verifies the access tokens of one provider.

    Args:
        issuer: the ``iss`` of its access tokens.
        audience: our name with it, the ``aud`` of access tokens that are for us.
        jwks_url: where it publishes its keys; https, or http to this machine.
        step_up_acr: the ``acr`` of a strong authentication; None: any will do.
        step_up_seconds: the age that an authentication may have; None: any will do.
        http: asks the provider.
        now: the time in seconds since 1970.

    Raises:
        ValueError: *jwks_url* is another kind of address.
    """

    def __init__(
        self,
        issuer: str,
        audience: str,
        jwks_url: str,
        step_up_acr: str | None,
        step_up_seconds: int | None,
        http: httpx.AsyncClient,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._issuer = issuer
        self._audience = audience
        self._step_up_acr = step_up_acr
        self._step_up_seconds = step_up_seconds
        self._keys = ProviderKeys(jwks_url, http, now)
        self._now = now
        self._subjects = TtlCache[bytes, Subject](now)

    async def subject(self, access_token: str | None) -> Subject:
        """Name the cardholder to whom the provider gave this access token.

        Raises:
            Unauthorized: there is no access token, or it is wrong in any way.
            ServiceUnavailable: the provider is unavailable and its keys are not known.
        """
        if access_token is None or len(access_token) > ACCESS_TOKEN_CHARS_MAX:
            raise Unauthorized
        digest = hashlib.sha256(access_token.encode(errors="surrogatepass")).digest()
        cached = self._subjects.get(digest)
        if cached is not None:
            return cached
        parsed = _parse(access_token)
        key = await self._keys.key(parsed.kid)
        key.verify(parsed.algorithm, parsed.signed, parsed.signature)
        subject, expires_at = self._read_claims(parsed.payload)
        self._subjects.put(digest, subject, min(expires_at, self._now() + CACHE_SECONDS_MAX))
        return subject

    def require_step_up(self, subject: Subject) -> None:
        """Require that the cardholder's authentication is as strong and as recent as configured.

        Raises:
            StepUpRequired: it is not, or the access token does not say.
        """
        if self._step_up_acr is not None and subject.acr != self._step_up_acr:
            raise StepUpRequired
        if self._step_up_seconds is None:
            return
        at, now = subject.auth_time, self._now()
        if at is None or at > now + LEEWAY_SECONDS or at + self._step_up_seconds < now:
            raise StepUpRequired

    def _read_claims(self, payload: bytes) -> tuple[Subject, float]:
        claims = _parse_object(payload)
        audience = claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        if claims.get("iss") != self._issuer or self._audience not in audiences:
            raise Unauthorized
        if not all(isinstance(name, str) for name in audiences):
            raise Unauthorized
        return _read_subject(claims), self._read_expiry(claims)

    def _read_expiry(self, claims: Mapping[str, object]) -> float:
        """Return when the access token expires; now it is good."""
        earliest = self._now() + LEEWAY_SECONDS
        for name in ("iat", "nbf"):
            since = _read_time(claims, name)
            if since is not None and since > earliest:
                raise Unauthorized
        expires_at = _read_time(claims, "exp")
        if expires_at is None or expires_at + LEEWAY_SECONDS <= self._now():
            raise Unauthorized
        return expires_at + LEEWAY_SECONDS


def _parse(access_token: str) -> _AccessToken:
    parts = access_token.split(".")
    try:
        header, payload, signature = map(base64url.decode, parts)
    except (JoseError, ValueError):
        raise Unauthorized from None
    members = _parse_object(header)
    kid, algorithm, typ = members.get("kid"), members.get("alg"), members.get("typ", "JWT")
    if not (isinstance(kid, str) and isinstance(algorithm, str) and isinstance(typ, str)):
        raise Unauthorized
    if REFUSED_MEMBERS & members.keys():
        raise Unauthorized
    if algorithm not in ALGORITHMS or typ.lower() not in TYPES:
        raise Unauthorized
    signed = access_token.rpartition(".")[0].encode("ascii")
    return _AccessToken(kid, algorithm, signed, payload, signature)


def _parse_object(data: bytes) -> dict[str, object]:
    try:
        return json_object.parse(data)
    except JoseError:
        raise Unauthorized from None


def _read_subject(claims: Mapping[str, object]) -> Subject:
    value, acr = claims.get("sub"), claims.get("acr")
    if not isinstance(value, str) or not 1 <= len(value) <= SUBJECT_CHARS_MAX:
        raise Unauthorized
    # OpenID Connect: ASCII. Two that look alike must not be two.
    if not (value.isascii() and value.isprintable()):
        raise Unauthorized
    if acr is not None and not isinstance(acr, str):
        raise Unauthorized
    auth_time = _read_time(claims, "auth_time")
    return Subject(value, acr, None if auth_time is None else int(auth_time))


def _read_time(claims: Mapping[str, object], name: str) -> int | float | None:
    """Read a NumericDate (RFC 7519, section 2), which may have a fraction."""
    value = claims.get(name)
    # To Python, True is 1.
    if isinstance(value, bool) or not isinstance(value, int | float | None):
        raise Unauthorized
    return value

"""Who a cardholder is: an access token, a JWT of the identity provider (RFC 7519, RFC 9068).

::

    header . payload . signature      each as canonical base64url; at most 8192 characters

    header    alg   ES256, RS256 or PS256, as the key allows
              kid   names a key of the manifest
              typ   absent, JWT or at+jwt
    payload   iss, aud, sub, exp; nbf, iat, acr, auth_time where the provider sends them

The header chooses among the manifest's keys and brings none. An access token is verified once, and
what it says is cached by its hash until it expires, at most 300 s, and only while the same manifest
is the newest.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from crypto.errors import JoseError
from crypto.jose import base64url, json_object
from crypto.jose.signing_keys import SigningKey
from crypto.secret import Secret
from hsm.errors import BearerRefused, StepUpMissing
from hsm.manifest.identity_provider import IdentityProviderBody
from hsm.manifest.model import Manifest
from hsm.records import is_cardholder_id
from hsm.ttl_cache import TtlCache

ACCESS_TOKEN_CHARS_MAX: Final = 8192
#: Clocks differ.
LEEWAY_SECONDS: Final = 30
CACHE_SECONDS_MAX: Final = 300
#: RFC 7519, section 5.1, and RFC 9068, section 2.1; no ID token, logout token or other kind.
TYPES: Final = frozenset({"jwt", "at+jwt", "application/at+jwt"})
#: They bring a key, or change what a signature covers.
REFUSED_MEMBERS: Final = frozenset({"b64", "crit", "jku", "jwk", "x5c", "x5u"})


@dataclass(frozen=True, slots=True)
class Subject:
    """A cardholder, as the identity provider names it, and how and when it proved that."""

    cardholder_id: str
    acr: str | None
    auth_time: int | None
    """Seconds since 1970."""


class Bearers:
    """Verifies access tokens of cardholders; *now* is the time, UTC."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._clock = now
        self._subjects = TtlCache[tuple[bytes, str, int], Subject](self._now)

    def subject(self, bearer: Secret[str], manifest: Manifest) -> Subject:
        """Name the cardholder to whom the manifest's identity provider gave this access token.

        Raises:
            BearerRefused: it is wrong in any way, or the manifest names no identity provider.
        """
        text = bearer.reveal()
        if manifest.identity_provider is None or len(text) > ACCESS_TOKEN_CHARS_MAX:
            raise BearerRefused
        digest = hashlib.sha256(text.encode(errors="surrogatepass")).digest()
        known_as = (digest, manifest.issuer_id, manifest.version)
        subject = self._subjects.get(known_as)
        if subject is None:
            claims = _verified(text, manifest.identity_provider)
            subject, expires_at = _read_subject(claims), self._read_expiry(claims)
            self._subjects.put(known_as, subject, min(expires_at, self._now() + CACHE_SECONDS_MAX))
        return subject

    def subject_for_pin(self, bearer: Secret[str], manifest: Manifest) -> Subject:
        """Name the cardholder, who must have authenticated as the manifest wants it for a PIN.

        Raises:
            BearerRefused: as :meth:`subject` raises it.
            StepUpMissing: the authentication is not as strong or as recent, or the access token
                does not say.
        """
        subject, provider = self.subject(bearer, manifest), manifest.identity_provider
        if provider is None:
            raise BearerRefused
        if provider.step_up_acr is not None and subject.acr != provider.step_up_acr:
            raise StepUpMissing
        at, now = subject.auth_time, self._now()
        if provider.step_up_seconds is not None and (
            at is None or at > now + LEEWAY_SECONDS or at + provider.step_up_seconds < now
        ):
            raise StepUpMissing
        return subject

    def _now(self) -> float:
        return self._clock().timestamp()

    def _read_expiry(self, claims: Mapping[str, object]) -> float:
        """Return when the access token expires; now it is good."""
        earliest = self._now() + LEEWAY_SECONDS
        for name in ("iat", "nbf"):
            since = _read_time(claims, name)
            if since is not None and since > earliest:
                raise BearerRefused
        expires_at = _read_time(claims, "exp")
        if expires_at is None or expires_at + LEEWAY_SECONDS <= self._now():
            raise BearerRefused
        return expires_at + LEEWAY_SECONDS


def _verified(text: str, provider: IdentityProviderBody) -> Mapping[str, object]:
    """Return the claims of an access token that *provider* signed, for us."""
    try:
        header, payload, signature = map(base64url.decode, text.split("."))
        key, algorithm = _key(json_object.parse(header), provider.jwks.by_kid)
        if not key.is_signed(algorithm, text.rpartition(".")[0].encode("ascii"), signature):
            raise BearerRefused
        claims = json_object.parse(payload)
    except (JoseError, ValueError):
        raise BearerRefused from None
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    if claims.get("iss") != provider.issuer or provider.audience not in audiences:
        raise BearerRefused
    if not all(isinstance(name, str) for name in audiences):
        raise BearerRefused
    return claims


def _key(header: Mapping[str, object], keys: Mapping[str, SigningKey]) -> tuple[SigningKey, str]:
    """Choose the key that a header names, and return the algorithm that it names."""
    kid, algorithm, typ = header.get("kid"), header.get("alg"), header.get("typ", "JWT")
    if not (isinstance(kid, str) and isinstance(algorithm, str) and isinstance(typ, str)):
        raise BearerRefused
    if REFUSED_MEMBERS & header.keys() or typ.lower() not in TYPES or kid not in keys:
        raise BearerRefused
    return keys[kid], algorithm


def _read_subject(claims: Mapping[str, object]) -> Subject:
    cardholder_id, acr = claims.get("sub"), claims.get("acr")
    if not isinstance(cardholder_id, str) or not is_cardholder_id(cardholder_id):
        raise BearerRefused
    if acr is not None and not isinstance(acr, str):
        raise BearerRefused
    auth_time = _read_time(claims, "auth_time")
    return Subject(cardholder_id, acr, None if auth_time is None else int(auth_time))


def _read_time(claims: Mapping[str, object], name: str) -> int | float | None:
    """Read a NumericDate (RFC 7519, section 2), which may have a fraction."""
    value = claims.get(name)
    # To Python, True is 1.
    if isinstance(value, bool) or not isinstance(value, int | float | None):
        raise BearerRefused
    return value

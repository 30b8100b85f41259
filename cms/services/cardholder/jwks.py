"""The keys with which an identity provider signs: fetched with limits, read strictly, cached.

A JWK set (RFC 7517) over HTTPS. A key that we cannot use is ignored, as is every key of a name that
two of them have; an answer that is no set counts as the provider being unavailable.
"""

import asyncio
import ipaddress
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import httpx
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from cms.domain.errors import ServiceUnavailable, Unauthorized
from cms.services.outbound import AnswerUnusableError, Reachability
from crypto.errors import JoseError, JwkError
from crypto.jose import base64url, json_object
from crypto.jose.jwk import POINT_MEMBERS, PRIVATE_MEMBERS, parse_point
from crypto.jose.jws import SIGNATURE_BYTES

FRESH_SECONDS: Final = 300
#: How long keys are good while the provider is unavailable.
KEYS_SECONDS_MAX: Final = 3600
#: Anybody can send an access token that names an unknown key: the provider must not feel it.
ASK_AGAIN_SECONDS: Final = 10
TIMEOUT_SECONDS: Final = 2.0
ANSWER_BYTES_MAX: Final = 65_536
KEYS_MAX: Final = 16
KID_CHARS_MAX: Final = 256
RSA_BITS_MIN: Final = 2048
#: A signature is checked on the event loop: a larger modulus would hold up everybody.
RSA_BITS_MAX: Final = 8192
#: RFC 7518, section 3.1, by key type.
ALGORITHMS: Final[Mapping[str, tuple[str, ...]]] = {"EC": ("ES256",), "RSA": ("RS256", "PS256")}
#: Compressed, a small answer can be a large one.
HEADERS: Final = {"Accept": "application/json", "Accept-Encoding": "identity"}


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A public key, and what it may verify: ES256, or RS256 and PS256, or one of these two."""

    algorithms: tuple[str, ...]
    public: ec.EllipticCurvePublicKey | rsa.RSAPublicKey

    def verify(self, algorithm: str, signed: bytes, signature: bytes) -> None:
        """Check the *signature* of a JWS (RFC 7518, sections 3.3 to 3.5).

        Raises:
            Unauthorized: it is wrong, or the key is for another algorithm.
        """
        if algorithm not in self.algorithms:
            raise Unauthorized
        try:
            if isinstance(self.public, rsa.RSAPublicKey):
                self.public.verify(signature, signed, _rsa_padding(algorithm), SHA256())
            else:
                self.public.verify(_der(signature), signed, ec.ECDSA(SHA256()))
        except InvalidSignature:
            raise Unauthorized from None


class ProviderKeys:
    """The keys published at *url*; *now* is the time in seconds since 1970.

    Raises:
        ValueError: *url* is neither https nor http to this machine.
    """

    def __init__(self, url: str, http: httpx.AsyncClient, now: Callable[[], float]) -> None:
        self._url = _checked_url(url)
        self._http = http
        self._now = now
        self._keys: Mapping[str, SigningKey] = {}
        self._asked_at: float | None = None
        self._read_at: float | None = None
        self._reachability = Reachability("identity")
        self._asking: asyncio.Task[None] | None = None

    async def key(self, kid: str) -> SigningKey:
        """Return the key of this name.

        Raises:
            Unauthorized: the provider has none.
            ServiceUnavailable: the provider is unavailable, and perhaps has one.
        """
        if kid in self._keys and self._is_within(FRESH_SECONDS, self._read_at):
            return self._keys[kid]
        if self._asking or not self._is_within(ASK_AGAIN_SECONDS, self._asked_at):
            await self._ask_once()
        if not self._is_within(KEYS_SECONDS_MAX, self._read_at):
            raise ServiceUnavailable
        if kid in self._keys:
            return self._keys[kid]
        raise Unauthorized if self._read_at == self._asked_at else ServiceUnavailable

    async def _ask_once(self) -> None:
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask())
        # A caller that goes away takes nothing from the others that wait.
        await asyncio.shield(self._asking)

    async def _ask(self) -> None:
        self._asked_at = asked_at = self._now()
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                self._keys = read_keys(await self._fetch())
        except (httpx.HTTPError, TimeoutError, AnswerUnusableError) as error:
            self._reachability.failed(error)
        else:
            self._read_at = asked_at
            self._reachability.answered()
        finally:
            self._asking = None

    async def _fetch(self) -> bytes:
        answer = bytearray()
        request = self._http.stream("GET", self._url, headers=HEADERS, follow_redirects=False)
        async with request as response:
            if response.status_code != httpx.codes.OK:
                raise AnswerUnusableError("another status than 200")
            async for piece in response.aiter_raw():
                answer += piece
                if len(answer) > ANSWER_BYTES_MAX:
                    raise AnswerUnusableError("the answer is too large")
        return bytes(answer)

    def _is_within(self, seconds: int, since: float | None) -> bool:
        # A clock that was put back makes old keys older, not younger.
        return since is not None and 0 <= self._now() - since < seconds


def read_keys(answer: bytes) -> dict[str, SigningKey]:
    """Read the keys of a JWK set that can verify access tokens, by ``kid``.

    Raises:
        AnswerUnusableError: it is not a JWK set, or one of more than 16 keys.
    """
    try:
        members = json_object.parse(answer).get("keys")
    except JoseError:
        raise AnswerUnusableError("no JWK set") from None
    if not isinstance(members, list) or len(members) > KEYS_MAX:
        raise AnswerUnusableError("no JWK set that we take")
    found = []
    for jwk in members:
        with suppress(JoseError):
            found.append(_read_key(jwk))
    named = Counter(kid for kid, _ in found)
    return {kid: key for kid, key in found if named[kid] == 1}


def _read_key(jwk: object) -> tuple[str, SigningKey]:
    """Read one key.

    Raises:
        JoseError: it cannot be used.
    """
    # A key whose private half was published is everybody's.
    if not isinstance(jwk, dict) or PRIVATE_MEMBERS & jwk.keys():
        raise JwkError
    kid, operations = jwk.get("kid"), jwk.get("key_ops", ["verify"])
    if not isinstance(kid, str) or not 1 <= len(kid) <= KID_CHARS_MAX:
        raise JwkError
    if jwk.get("use", "sig") != "sig" or operations != ["verify"]:
        raise JwkError
    public: ec.EllipticCurvePublicKey | rsa.RSAPublicKey
    match jwk:
        case {"kty": "EC"}:
            point = parse_point({name: jwk[name] for name in POINT_MEMBERS & jwk.keys()})
            public = point.public_key()
        case {"kty": "RSA", "n": str(modulus), "e": str(exponent)}:
            public = _rsa_key(*map(base64url.decode, (modulus, exponent)))
        case _:
            raise JwkError
    algorithms = [name for name in ALGORITHMS[jwk["kty"]] if jwk.get("alg", name) == name]
    if not algorithms:
        raise JwkError
    return kid, SigningKey(tuple(algorithms), public)


def _rsa_key(modulus: bytes, exponent: bytes) -> rsa.RSAPublicKey:
    n, e = int.from_bytes(modulus), int.from_bytes(exponent)
    if not RSA_BITS_MIN <= n.bit_length() <= RSA_BITS_MAX:
        raise JwkError
    try:
        return rsa.RSAPublicNumbers(e, n).public_key()
    except ValueError:
        raise JwkError from None


def _rsa_padding(algorithm: str) -> padding.AsymmetricPadding:
    if algorithm == "PS256":
        return padding.PSS(padding.MGF1(SHA256()), SHA256.digest_size)
    return padding.PKCS1v15()


def _der(signature: bytes) -> bytes:
    """Turn the 64 bytes r s into what the library takes."""
    if len(signature) != SIGNATURE_BYTES:
        raise Unauthorized
    r, s = int.from_bytes(signature[:32]), int.from_bytes(signature[32:])
    return encode_dss_signature(r, s)


def _checked_url(text: str) -> httpx.URL:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        raise ValueError("the address of the identity provider's keys is no URL") from None
    if not url.host or not (url.scheme == "https" or (url.scheme == "http" and _is_here(url.host))):
        raise ValueError("keys are fetched by https, or by http from this machine")
    return url


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

"""An identity provider in memory: it signs access tokens and counts who asks for its keys."""

import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import cache

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from jwcrypto.jwk import JWK
from jwcrypto.jws import JWS

from cms.services.cardholder.identity import IdentityProvider
from tests.cms.services.clock import START, Clock

ISSUER = "https://identity.test"
AUDIENCE = "pins"
JWKS_URL = "https://identity.test/jwks"
ES256 = {"alg": "ES256", "kid": "ec", "typ": "at+jwt"}
CLAIMS: Mapping[str, object] = {
    "iss": ISSUER,
    "aud": AUDIENCE,
    "sub": "holder-1",
    "iat": START,
    "nbf": START,
    "exp": START + 100_000,
    "acr": "strong",
    "auth_time": START,
}

Answer = Callable[[httpx.Request], Awaitable[httpx.Response]]


@cache
def ec_key(kid: str = "ec", curve: str = "P-256") -> JWK:
    return JWK.generate(kty="EC", crv=curve, kid=kid, use="sig")


@cache
def rsa_key(kid: str = "rsa", bits: int = 2048) -> JWK:
    return JWK.generate(kty="RSA", size=bits, kid=kid, use="sig")


def public(key: JWK, **changed: object) -> dict[str, object]:
    """The public half of *key*; a member changed to None is left out."""
    return without_none({**key.export_public(as_dict=True), **changed})


def access_token(key: JWK, algorithm: str, claims: Mapping[str, object] = CLAIMS) -> str:
    """A access token made by jwcrypto."""
    made = JWS(json.dumps(claims))
    header = {"alg": algorithm, "kid": key["kid"], "typ": "JWT"}
    made.add_signature(key, protected=json.dumps(header))
    return str(made.serialize(compact=True))


def with_header(**changed: object) -> str:
    """A access token whose header is changed, and signed so."""
    return signed(json.dumps(without_none({**ES256, **changed})))


def with_claims(**changed: object) -> str:
    """A access token whose claims are changed, and signed so."""
    return signed(payload=json.dumps(without_none({**CLAIMS, **changed})))


def signed(header: str = json.dumps(ES256), payload: str = json.dumps(CLAIMS)) -> str:
    """A access token of these texts, whatever they say, with a good ES256 signature."""
    start = f"{encode(header.encode())}.{encode(payload.encode())}"
    return f"{start}.{encode(es256(start))}"


def es256(text: str) -> bytes:
    """The 64 bytes r s of a signature of *text*."""
    r, s = decode_dss_signature(es256_der(text))
    return r.to_bytes(32) + s.to_bytes(32)


def es256_der(text: str) -> bytes:
    signature: bytes = ec_key().get_op_key("sign").sign(text.encode(), ec.ECDSA(SHA256()))
    return signature


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def without_none(members: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in members.items() if value is not None}


class Pieces(httpx.AsyncByteStream):
    """A body that arrives in pieces, and how many of them were taken."""

    def __init__(self, *pieces: bytes, times: int = 1) -> None:
        self._pieces = pieces * times
        self.taken = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            self.taken += 1
            yield piece


def json_answer(document: object) -> Answer:
    return bytes_answer(json.dumps(document).encode())


def bytes_answer(body: bytes, status: int = 200, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    async def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(status, headers=named, stream=Pieces(body))

    return answer


class Provider:
    """Answers with the JWK set of its keys, or as :attr:`answer` does."""

    def __init__(self, *keys: Mapping[str, object]) -> None:
        self.asked: list[httpx.URL] = []
        self.publish(*keys)

    def publish(self, *keys: Mapping[str, object]) -> None:
        self.answer = json_answer({"keys": keys})

    def known_at(
        self,
        clock: Clock,
        step_up_acr: str | None = None,
        step_up_seconds: int | None = None,
    ) -> IdentityProvider:
        """The provider, as the service knows it."""
        http = httpx.AsyncClient(transport=httpx.MockTransport(self._receive))
        return IdentityProvider(
            ISSUER, AUDIENCE, JWKS_URL, step_up_acr, step_up_seconds, http, clock
        )

    async def _receive(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url)
        return await self.answer(request)

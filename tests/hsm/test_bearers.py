"""Which access tokens of an identity provider name a cardholder, and which name nobody."""

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from crypto.jose import base64url
from crypto.secret import Secret
from hsm import bearers
from hsm.bearers import Bearers, Subject
from hsm.errors import BearerRefused, StepUpMissing
from hsm.manifest.model import Manifest, parse
from tests.bearers import (
    IDENTITY_ISSUER,
    access_token,
    audience,
    ec_key,
    identity_provider,
    public,
    rsa_key,
    without_none,
)
from tests.operators import manifest

START = 1_700_000_000
ISSUER_ID = "testbank01"
AUDIENCE = audience(ISSUER_ID)
ES256 = {"alg": "ES256", "kid": "ec", "typ": "at+jwt"}
CLAIMS: dict[str, object] = {
    "iss": IDENTITY_ISSUER,
    "aud": AUDIENCE,
    "sub": "holder-1",
    "iat": START,
    "nbf": START,
    "exp": START + 100_000,
    "acr": "strong",
    "auth_time": START,
}
HOLDER = Subject("holder-1", "strong", START)
HUGE = 10**400
#: What the manifest pins.
KEYS = [public(ec_key()), public(rsa_key()), public(ec_key("other"))]


class Provider:
    """Bearers at a clock of the test's, and the manifest that pins keys of the provider."""

    def __init__(self) -> None:
        self.now = float(START)
        self.bearers = Bearers(lambda: datetime.fromtimestamp(self.now, UTC))
        self.manifest = pinning(KEYS)

    def subject(self, bearer: str) -> Subject:
        return self.bearers.subject(Secret(bearer), self.manifest)


def pinning(keys: list[dict[str, object]], version: int = 1, **members: object) -> Manifest:
    provider = identity_provider(ISSUER_ID, jwks={"keys": keys}, **members)
    return parse(manifest(ISSUER_ID, version, identity_provider=provider))


@pytest.fixture
def provider() -> Provider:
    return Provider()


def with_header(**changed: object) -> str:
    """An access token whose header is changed, and signed so."""
    return signed(json.dumps(without_none({**ES256, **changed})))


def with_claims(**changed: object) -> str:
    """An access token whose claims are changed, and signed so."""
    return signed(payload=json.dumps(without_none({**CLAIMS, **changed})))


def signed(header: str = json.dumps(ES256), payload: str = json.dumps(CLAIMS)) -> str:
    """An access token of these texts, whatever they say, with a good ES256 signature."""
    start = f"{base64url.encode(header.encode())}.{base64url.encode(payload.encode())}"
    return f"{start}.{base64url.encode(es256(start))}"


def es256(text: str) -> bytes:
    """The 64 bytes r s of a signature of *text*."""
    r, s = decode_dss_signature(es256_der(text))
    return r.to_bytes(32) + s.to_bytes(32)


def es256_der(text: str) -> bytes:
    signature: bytes = ec_key().get_op_key("sign").sign(text.encode(), ec.ECDSA(SHA256()))
    return signature


def hmac_by_public_key() -> str:
    """The classic: the public key, taken as the secret of an HMAC."""
    start = with_header(alg="HS256").rpartition(".")[0]
    secret = json.dumps(public(ec_key())).encode()
    return f"{start}.{base64url.encode(hmac.digest(secret, start.encode(), hashlib.sha256))}"


def with_signature(signature: bytes) -> str:
    return f"{signed().rpartition('.')[0]}.{base64url.encode(signature)}"


def der_signed() -> str:
    return with_signature(es256_der(signed().rpartition(".")[0]))


def with_a_zero_more() -> str:
    """The same two numbers, in 65 bytes."""
    signature = es256(signed().rpartition(".")[0])
    return with_signature(signature[:32] + b"\0" + signature[32:])


def padded() -> str:
    header, payload, signature = signed().split(".")
    return f"{header}.{payload}.{signature}=="


def stray_bits() -> str:
    """The last character of 64 bytes has four unused bits."""
    good = signed()
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return good[:-1] + alphabet[alphabet.index(good[-1]) + 1]


def standard_alphabet() -> str:
    header, payload, signature = signed(payload=json.dumps({**CLAIMS, "x": "???>>>"})).split(".")
    wide = base64.b64encode(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert b"/" in wide or b"+" in wide
    return f"{header}.{wide.decode().rstrip('=')}.{signature}"


def other_payload() -> str:
    header, _, signature = signed().split(".")
    return f"{header}.{with_claims(sub='holder-2').split('.')[1]}.{signature}"


BAD = {
    "empty": "",
    "dots": "..",
    "two parts": signed().rpartition(".")[0],
    "four parts": signed() + ".",
    "many parts": "." * 8192,
    "too long": signed(payload=json.dumps({**CLAIMS, "x": "y" * 8192})),
    "scheme left on it": "Bearer " + signed(),
    "line end": signed() + "\n",
    "not ASCII": signed()[:-1] + "é",
    "lone surrogate": signed()[:-1] + "\ud800",
    "padding": padded(),
    "stray bits": stray_bits(),
    "standard alphabet": standard_alphabet(),
    "header no JSON": signed(header="{"),
    "header no object": signed(header='["alg"]'),
    "header member twice": signed(header=json.dumps(ES256)[:-1] + ', "kid": "ec"}'),
    "alg none": with_header(alg="none"),
    "alg none, unsigned": with_header(alg="none").rpartition(".")[0] + ".",
    "unsigned": signed().rpartition(".")[0] + ".",
    "alg HS256": hmac_by_public_key(),
    "alg missing": with_header(alg=None),
    "alg a number": with_header(alg=256),
    "alg ES384": with_header(alg="ES384"),
    "alg es256": with_header(alg="es256"),
    "alg of another key type": with_header(alg="RS256"),
    "key of another type": with_header(kid="rsa"),
    "another key": with_header(kid="other"),
    "kid missing": with_header(kid=None),
    "kid a number": with_header(kid=1),
    "kid unknown": with_header(kid="unknown"),
    "jku": with_header(jku="https://evil.test/jwks"),
    "jwk": with_header(jwk=public(ec_key())),
    "x5u": with_header(x5u="https://evil.test/x5u"),
    "x5c": with_header(x5c=["MII="]),
    "crit": with_header(crit=["exp"]),
    "b64": with_header(b64=True),
    "typ of a proof": with_header(typ="dpop+jwt"),
    "typ of a logout": with_header(typ="logout+jwt"),
    "typ a number": with_header(typ=1),
    "signature DER": der_signed(),
    "signature of zeros": with_signature(bytes(64)),
    "signature of ones": with_signature(b"\xff" * 64),
    "signature longer": with_a_zero_more(),
    "payload of another": other_payload(),
    "payload no JSON": signed(payload="x"),
    "payload no object": signed(payload="[]"),
    "payload member twice": signed(payload=json.dumps(CLAIMS)[:-1] + ', "sub": "holder-2"}'),
    "payload NaN": signed(payload=json.dumps({**CLAIMS, "exp": float("nan")})),
    "iss another": with_claims(iss="https://identity.test/"),
    "iss missing": with_claims(iss=None),
    "iss a list": with_claims(iss=["https://identity.test"]),
    "aud another": with_claims(aud=AUDIENCE + "2"),
    "aud missing": with_claims(aud=None),
    "aud without us": with_claims(aud=["app", "other"]),
    "aud empty": with_claims(aud=[]),
    "aud not all strings": with_claims(aud=[AUDIENCE, 1]),
    "aud an object": with_claims(aud={AUDIENCE: True}),
    "exp missing": with_claims(exp=None),
    "exp over": with_claims(exp=START - 30),
    "exp long over": with_claims(exp=-HUGE),
    "exp true": with_claims(exp=True),
    "exp text": with_claims(exp=str(START + 100)),
    "exp a list": with_claims(exp=[START + 100]),
    "nbf to come": with_claims(nbf=START + 31),
    "nbf text": with_claims(nbf=str(START)),
    "iat to come": with_claims(iat=START + 31),
    "iat far to come": with_claims(iat=HUGE),
    "iat true": with_claims(iat=True),
    "sub missing": with_claims(sub=None),
    "sub empty": with_claims(sub=""),
    "sub a number": with_claims(sub=1),
    "sub of 256": with_claims(sub="x" * 256),
    "sub with a line end": with_claims(sub="holder-1\n"),
    "sub with NUL": with_claims(sub="holder-1\0"),
    "sub that looks alike": with_claims(sub="hоlder-1"),  # noqa: RUF001 - a Cyrillic o
    "acr a number": with_claims(acr=3),
    "auth_time true": with_claims(auth_time=True),
    "auth_time text": with_claims(auth_time=str(START)),
}


@pytest.mark.parametrize("bearer", BAD.values(), ids=BAD)
def test_a_bad_access_token_names_nobody(provider: Provider, bearer: str) -> None:
    assert provider.subject(signed()) == HOLDER
    with pytest.raises(BearerRefused) as refusal:
        provider.subject(bearer)
    assert (refusal.value.args, refusal.value.__cause__) == ((), None)


@pytest.mark.parametrize("algorithm", ["ES256", "RS256", "PS256"])
def test_each_algorithm_is_taken(provider: Provider, algorithm: str) -> None:
    key = ec_key() if algorithm == "ES256" else rsa_key()
    good = access_token(CLAIMS, key, algorithm)
    assert provider.subject(good) == HOLDER
    with pytest.raises(BearerRefused):
        provider.subject(good[:-8] + "AAAAAAAA")


GOOD = {
    "typ missing": with_header(typ=None),
    "typ in capitals": with_header(typ="AT+JWT"),
    "typ as media type": with_header(typ="application/at+jwt"),
    "thumbprint": with_header(**{"x5t": "abc", "x5t#S256": "abc"}),
    "aud a list": with_claims(aud=["app", AUDIENCE]),
    "nbf and iat missing": with_claims(nbf=None, iat=None),
    "times with fractions": with_claims(exp=START + 0.5, iat=START - 0.5, auth_time=START + 0.9),
    "exp within leeway": with_claims(exp=START - 29),
    "exp never": with_claims(exp=HUGE),
    "nbf and iat within leeway": with_claims(nbf=START + 30, iat=START + 30),
    "other claims": with_claims(scope="pin", roles=[{"a": None}]),
}


@pytest.mark.parametrize("bearer", GOOD.values(), ids=GOOD)
def test_what_providers_differ_in_is_taken(provider: Provider, bearer: str) -> None:
    assert provider.subject(bearer) == HOLDER


def test_a_subject_has_up_to_255_characters(provider: Provider) -> None:
    for value in ("x", "auth0|5f7c", "a b", "x" * 255):
        assert provider.subject(with_claims(sub=value)).cardholder_id == value


def test_what_an_access_token_does_not_say_is_not_known(provider: Provider) -> None:
    found = provider.subject(with_claims(acr=None, auth_time=None))
    assert found == Subject("holder-1", None, None)


def test_no_identity_provider_no_cardholder(provider: Provider) -> None:
    provider.manifest = parse(manifest(ISSUER_ID))
    with pytest.raises(BearerRefused):
        provider.subject(signed())


# What is cached


@pytest.fixture
def verifications(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The access tokens that were verified, one after another."""
    found: list[str] = []
    verified = bearers._verified

    def noted(text: str, *others: object) -> object:
        found.append(text)
        return verified(text, *others)  # type: ignore[arg-type] # as they were given

    monkeypatch.setattr(bearers, "_verified", noted)
    return found


def test_an_access_token_is_verified_once_in_300_seconds(
    provider: Provider, verifications: list[str]
) -> None:
    bearer = signed()
    for seconds in (0, 299, 1, 299, 1):
        provider.now += seconds
        assert provider.subject(bearer) == HOLDER
    assert verifications == [bearer] * 3


def test_a_verified_access_token_is_good_until_it_expires(provider: Provider) -> None:
    bearer = with_claims(exp=START + 100)
    for age in (0, 129):
        provider.now = START + age
        assert provider.subject(bearer) == HOLDER
    provider.now = START + 130
    with pytest.raises(BearerRefused):
        provider.subject(bearer)


def test_a_manifest_without_its_key_ends_an_access_token_at_once(provider: Provider) -> None:
    bearer = signed()
    assert provider.subject(bearer) == HOLDER
    provider.manifest = pinning([public(rsa_key())], version=2)
    with pytest.raises(BearerRefused):
        provider.subject(bearer)


def test_an_access_token_that_is_refused_is_not_cached(
    provider: Provider, verifications: list[str]
) -> None:
    bearer = with_claims(nbf=START + 31)
    with pytest.raises(BearerRefused):
        provider.subject(bearer)
    provider.now += 1
    assert provider.subject(bearer) == HOLDER
    assert verifications == [bearer] * 2


# Step-up


@pytest.mark.parametrize(
    ("acr", "seconds", "claims"),
    [
        (None, None, {"acr": None, "auth_time": None}),
        ("strong", None, {"auth_time": None}),
        (None, 300, {"acr": None, "auth_time": START - 300}),
        (None, 300, {"acr": None, "auth_time": START + 30}),
        ("strong", 300, {}),
    ],
)
def test_an_authentication_as_the_manifest_wants_it_is_enough(
    provider: Provider, acr: str | None, seconds: int | None, claims: dict[str, object]
) -> None:
    strict = pinning(KEYS, step_up_acr=acr, step_up_seconds=seconds)
    assert provider.bearers.subject_for_pin(Secret(with_claims(**claims)), strict)


@pytest.mark.parametrize(
    ("acr", "seconds", "claims"),
    [
        ("strong", None, {"acr": None}),
        ("strong", None, {"acr": ""}),
        ("strong", None, {"acr": "STRONG"}),
        (None, 300, {"auth_time": None}),
        (None, 300, {"auth_time": START - 301}),
        (None, 300, {"auth_time": START + 31}),
        (None, 300, {"auth_time": HUGE}),
        (None, 300, {"auth_time": -HUGE}),
        ("strong", 300, {"acr": "weak"}),
        ("strong", 300, {"auth_time": START - 301}),
    ],
)
def test_any_other_authentication_is_not(
    provider: Provider, acr: str | None, seconds: int | None, claims: dict[str, object]
) -> None:
    strict = pinning(KEYS, step_up_acr=acr, step_up_seconds=seconds)
    bearer = Secret(with_claims(**claims))
    assert provider.bearers.subject(bearer, strict).cardholder_id == "holder-1"
    with pytest.raises(StepUpMissing):
        provider.bearers.subject_for_pin(bearer, strict)


def test_an_authentication_ages_while_its_access_token_is_cached(provider: Provider) -> None:
    strict, bearer = pinning(KEYS, step_up_seconds=60), Secret(signed())
    assert provider.bearers.subject_for_pin(bearer, strict) == HOLDER
    provider.now += 61
    with pytest.raises(StepUpMissing):
        provider.bearers.subject_for_pin(bearer, strict)

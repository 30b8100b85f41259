"""Which access tokens of an identity provider name a cardholder, and which name nobody."""

import base64
import hashlib
import hmac
import json

import pytest

from cms.domain.errors import StepUpRequired, Unauthorized
from cms.services.cardholder.identity import IdentityProvider, Subject
from tests.cms.services.cardholder.provider import (
    CLAIMS,
    ES256,
    Provider,
    access_token,
    ec_key,
    encode,
    es256,
    es256_der,
    public,
    rsa_key,
    signed,
    with_claims,
    with_header,
)
from tests.cms.services.clock import START, Clock

pytestmark = pytest.mark.anyio
HOLDER = Subject("holder-1", "strong", START)
HUGE = 10**400


@pytest.fixture
def provider() -> Provider:
    return Provider(public(ec_key()), public(rsa_key()), public(ec_key("other")))


@pytest.fixture
def identity(provider: Provider, clock: Clock) -> IdentityProvider:
    return provider.known_at(clock)


def hmac_by_public_key() -> str:
    """The classic: the public key, taken as the secret of an HMAC."""
    start = with_header(alg="HS256").rpartition(".")[0]
    secret = json.dumps(public(ec_key())).encode()
    return f"{start}.{encode(hmac.digest(secret, start.encode(), hashlib.sha256))}"


def with_signature(signature: bytes) -> str:
    return f"{signed().rpartition('.')[0]}.{encode(signature)}"


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
    "aud another": with_claims(aud="pins2"),
    "aud missing": with_claims(aud=None),
    "aud without us": with_claims(aud=["app", "other"]),
    "aud empty": with_claims(aud=[]),
    "aud not all strings": with_claims(aud=["pins", 1]),
    "aud an object": with_claims(aud={"pins": True}),
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


@pytest.mark.parametrize("bearer", BAD.values(), ids=BAD.keys())
async def test_a_bad_access_token_names_nobody(identity: IdentityProvider, bearer: str) -> None:
    assert await identity.subject(signed()) == HOLDER
    with pytest.raises(Unauthorized):
        await identity.subject(bearer)


async def test_no_access_token_names_nobody(identity: IdentityProvider) -> None:
    with pytest.raises(Unauthorized):
        await identity.subject(None)


@pytest.mark.parametrize("algorithm", ["ES256", "RS256", "PS256"])
async def test_each_algorithm_is_taken(identity: IdentityProvider, algorithm: str) -> None:
    key = ec_key() if algorithm == "ES256" else rsa_key()
    good = access_token(key, algorithm)
    assert await identity.subject(good) == HOLDER
    with pytest.raises(Unauthorized):
        await identity.subject(good[:-8] + "AAAAAAAA")


GOOD = {
    "typ missing": with_header(typ=None),
    "typ in capitals": with_header(typ="AT+JWT"),
    "typ as media type": with_header(typ="application/at+jwt"),
    "thumbprint": with_header(**{"x5t": "abc", "x5t#S256": "abc"}),
    "aud a list": with_claims(aud=["app", "pins"]),
    "nbf and iat missing": with_claims(nbf=None, iat=None),
    "times with fractions": with_claims(exp=START + 0.5, iat=START - 0.5, auth_time=START + 0.9),
    "exp within leeway": with_claims(exp=START - 29),
    "exp never": with_claims(exp=HUGE),
    "nbf and iat within leeway": with_claims(nbf=START + 30, iat=START + 30),
    "other claims": with_claims(scope="pin", roles=[{"a": None}]),
}


@pytest.mark.parametrize("bearer", GOOD.values(), ids=GOOD.keys())
async def test_what_providers_differ_in_is_taken(identity: IdentityProvider, bearer: str) -> None:
    assert await identity.subject(bearer) == HOLDER


async def test_a_subject_has_up_to_255_characters(identity: IdentityProvider) -> None:
    for value in ("x", "auth0|5f7c", "a b", "x" * 255):
        assert (await identity.subject(with_claims(sub=value))).value == value


async def test_what_a_access_token_does_not_say_is_not_known(identity: IdentityProvider) -> None:
    found = await identity.subject(with_claims(acr=None, auth_time=None))
    assert found == Subject("holder-1", None, None)


async def test_a_verified_access_token_is_good_until_it_expires(
    identity: IdentityProvider, clock: Clock
) -> None:
    bearer = with_claims(exp=START + 100)
    for age in (0, 129):
        clock.now = START + age
        assert await identity.subject(bearer) == HOLDER
    clock.now = START + 130
    with pytest.raises(Unauthorized):
        await identity.subject(bearer)


async def test_a_verified_access_token_is_remembered_for_300_seconds(
    identity: IdentityProvider, provider: Provider, clock: Clock
) -> None:
    bearer = signed()
    await identity.subject(bearer)
    provider.publish(public(rsa_key()))
    clock.now += 299
    assert await identity.subject(bearer) == HOLDER
    clock.now += 1
    with pytest.raises(Unauthorized):
        await identity.subject(bearer)


@pytest.mark.parametrize(
    ("acr", "seconds", "subject"),
    [
        (None, None, Subject("x", None, None)),
        ("strong", None, Subject("x", "strong", None)),
        (None, 300, Subject("x", None, START - 300)),
        (None, 300, Subject("x", None, START + 30)),
        ("strong", 300, Subject("x", "strong", START)),
    ],
)
async def test_an_authentication_as_configured_is_enough(
    provider: Provider, clock: Clock, acr: str | None, seconds: int | None, subject: Subject
) -> None:
    provider.known_at(clock, acr, seconds).require_step_up(subject)


@pytest.mark.parametrize(
    ("acr", "seconds", "subject"),
    [
        ("strong", None, Subject("x", None, START)),
        ("strong", None, Subject("x", "", START)),
        ("strong", None, Subject("x", "STRONG", START)),
        (None, 300, Subject("x", "strong", None)),
        (None, 300, Subject("x", "strong", START - 301)),
        (None, 300, Subject("x", "strong", START + 31)),
        (None, 300, Subject("x", "strong", HUGE)),
        (None, 300, Subject("x", "strong", -HUGE)),
        ("strong", 300, Subject("x", "weak", START)),
        ("strong", 300, Subject("x", "strong", START - 301)),
    ],
)
async def test_any_other_authentication_is_not(
    provider: Provider, clock: Clock, acr: str | None, seconds: int | None, subject: Subject
) -> None:
    with pytest.raises(StepUpRequired):
        provider.known_at(clock, acr, seconds).require_step_up(subject)


async def test_an_authentication_ages_while_its_access_token_is_remembered(
    provider: Provider, clock: Clock
) -> None:
    identity = provider.known_at(clock, "strong", 60)
    bearer = signed()
    identity.require_step_up(await identity.subject(bearer))
    clock.now += 61
    with pytest.raises(StepUpRequired):
        identity.require_step_up(await identity.subject(bearer))

"""The keys of an identity provider: which are used, for how long, and what the provider can do."""

import asyncio
import gzip
import json

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from cms.domain.errors import ServiceUnavailable, Unauthorized
from cms.sandbox import HANG_SECONDS
from cms.services.cardholder import jwks
from cms.services.cardholder.identity import IdentityProvider, Subject
from cms.services.cardholder.jwks import read_keys
from tests.cms.services.cardholder.provider import (
    AUDIENCE,
    ISSUER,
    JWKS_URL,
    Answer,
    Pieces,
    Provider,
    access_token,
    bytes_answer,
    ec_key,
    encode,
    json_answer,
    public,
    rsa_key,
    signed,
)
from tests.cms.services.clock import Clock

pytestmark = pytest.mark.anyio
GOOD = public(ec_key())
NEW = ec_key("new")


@pytest.fixture
def provider() -> Provider:
    return Provider(GOOD)


@pytest.fixture
def identity(provider: Provider, clock: Clock) -> IdentityProvider:
    return provider.known_at(clock)


async def fail(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused")


async def hang(request: httpx.Request) -> httpx.Response:
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


UNAVAILABLE: dict[str, Answer] = {
    "refused": fail,
    "slow": hang,
    "error": bytes_answer(json.dumps({"keys": [GOOD]}).encode(), status=500),
    "redirect": bytes_answer(b"", status=302, location="https://elsewhere.test/jwks"),
    "nothing": bytes_answer(b""),
    "page": bytes_answer(b"<html>"),
    "not UTF-8": bytes_answer(b'{"keys": "\xff"}'),
    "a list": json_answer([GOOD]),
    "no keys": json_answer({}),
    "keys an object": json_answer({"keys": GOOD}),
    "17 keys": json_answer({"keys": [GOOD] + [{}] * 16}),
    "keys twice": bytes_answer(b'{"keys": [], "keys": []}'),
    "compressed": bytes_answer(
        gzip.compress(json.dumps({"keys": [GOOD]}).encode()), content_encoding="gzip"
    ),
    "deep": bytes_answer(b'{"keys":' + b"[" * 60_000),
    "too large": bytes_answer(json.dumps({"keys": [GOOD]}).encode().ljust(65_537)),
}


@pytest.mark.parametrize("answer", UNAVAILABLE.values(), ids=UNAVAILABLE.keys())
async def test_without_keys_nobody_is_let_in_or_turned_away(
    identity: IdentityProvider,
    provider: Provider,
    answer: Answer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(jwks, "TIMEOUT_SECONDS", 0.05 if answer is hang else HANG_SECONDS)
    provider.answer = answer
    for _ in range(2):
        with pytest.raises(ServiceUnavailable):
            await identity.subject(signed())
    assert provider.asked == [JWKS_URL]


@pytest.mark.parametrize("answer", UNAVAILABLE.values(), ids=UNAVAILABLE.keys())
async def test_while_the_provider_is_unavailable_its_keys_are_good_for_an_hour(
    identity: IdentityProvider,
    provider: Provider,
    clock: Clock,
    answer: Answer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(jwks, "TIMEOUT_SECONDS", 0.05 if answer is hang else HANG_SECONDS)
    await identity.subject(signed())
    provider.answer = answer
    for age in (300, 3299):
        clock.now += age
        assert (await identity.subject(signed())).value == "holder-1"
    clock.now += 1
    with pytest.raises(ServiceUnavailable):
        await identity.subject(signed())
    provider.publish(GOOD)
    clock.now += 10
    assert (await identity.subject(signed())).value == "holder-1"


async def test_an_answer_of_64_kib_and_16_keys_is_read(
    identity: IdentityProvider, provider: Provider
) -> None:
    document = {"keys": [GOOD] + [{}] * 15}
    provider.answer = bytes_answer(json.dumps(document).encode().ljust(65_536))
    assert (await identity.subject(signed())).value == "holder-1"


async def test_an_answer_without_end_is_not_read_to_its_end(
    identity: IdentityProvider, provider: Provider
) -> None:
    body = Pieces(b" " * 1000, times=1000)

    async def flood(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=body)

    provider.answer = flood
    with pytest.raises(ServiceUnavailable):
        await identity.subject(signed())
    assert body.taken == 66


async def test_keys_are_asked_for_every_300_seconds(
    identity: IdentityProvider, provider: Provider, clock: Clock
) -> None:
    asked = []
    for seconds in (0, 299, 1, 299, 1):
        clock.now += seconds
        await identity.subject(signed())
        asked.append(len(provider.asked))
    assert asked == [1, 1, 2, 2, 3]


async def test_a_new_key_is_used_at_once_and_a_withdrawn_one_no_more_after_300_seconds(
    identity: IdentityProvider, provider: Provider, clock: Clock
) -> None:
    await identity.subject(signed())
    provider.publish(GOOD, public(NEW))
    clock.now += 10
    assert (await identity.subject(access_token(NEW, "ES256"))).value == "holder-1"
    provider.publish(public(NEW))
    clock.now += 300
    with pytest.raises(Unauthorized):
        await identity.subject(signed())
    assert (await identity.subject(access_token(NEW, "ES256"))).value == "holder-1"


async def test_unknown_keys_are_asked_for_at_most_each_10_seconds(
    identity: IdentityProvider, provider: Provider, clock: Clock
) -> None:
    asked = []
    for seconds in (0, 9.9, 0.1, 9.9, 0.1):
        clock.now += seconds
        for number in range(10):
            with pytest.raises(Unauthorized):
                await identity.subject(access_token(ec_key(f"made-up-{number}"), "ES256"))
        asked.append(len(provider.asked))
    assert asked == [1, 1, 2, 2, 3]


async def test_a_access_token_that_cannot_be_good_asks_for_nothing(
    identity: IdentityProvider, provider: Provider
) -> None:
    for bearer in ("", "a.b.c", signed(header='{"alg": "none", "kid": "ec"}')):
        with pytest.raises(Unauthorized):
            await identity.subject(bearer)
    assert provider.asked == []


async def test_a_new_key_is_not_judged_while_the_provider_is_unavailable(
    identity: IdentityProvider, provider: Provider, clock: Clock
) -> None:
    await identity.subject(signed())
    provider.answer = fail
    clock.now += 10
    with pytest.raises(ServiceUnavailable):
        await identity.subject(access_token(NEW, "ES256"))
    assert (await identity.subject(signed())).value == "holder-1"


async def test_a_clock_that_is_put_back_makes_no_key_younger(
    identity: IdentityProvider, provider: Provider, clock: Clock
) -> None:
    clock.now += 1000
    await identity.subject(signed())
    provider.answer = fail
    clock.now -= 500
    with pytest.raises(ServiceUnavailable):
        await identity.subject(signed())
    assert len(provider.asked) == 2


async def test_50_callers_ask_once_and_one_that_leaves_disturbs_nobody(
    identity: IdentityProvider, provider: Provider
) -> None:
    asked, answer_now = asyncio.Event(), asyncio.Event()
    answer = provider.answer

    async def wait(request: httpx.Request) -> httpx.Response:
        asked.set()
        await answer_now.wait()
        return await answer(request)

    provider.answer = wait
    callers = [asyncio.create_task(identity.subject(signed())) for _ in range(25)]
    await asked.wait()
    callers += [asyncio.create_task(identity.subject(signed())) for _ in range(25)]
    callers[0].cancel()  # the one that asked
    answer_now.set()
    found = await asyncio.gather(*callers, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert [isinstance(item, Subject) for item in found[1:]] == [True] * 49
    assert len(provider.asked) == 1


async def test_a_key_for_one_algorithm_verifies_no_other(
    provider: Provider, identity: IdentityProvider
) -> None:
    provider.publish(public(rsa_key(), alg="PS256"))
    assert (await identity.subject(access_token(rsa_key(), "PS256"))).value == "holder-1"
    with pytest.raises(Unauthorized):
        await identity.subject(access_token(rsa_key(), "RS256"))


def off_curve() -> dict[str, object]:
    return {**GOOD, "y": encode(bytes(32))}


def rsa_of(bits: int, exponent: int = 65_537) -> dict[str, object]:
    """An RSA key of this size; that nobody has its private half does not show."""
    n, e = (1 << bits) - 1, exponent
    return public(rsa_key(), n=encode(n.to_bytes(bits // 8)), e=encode(e.to_bytes(3)))


IGNORED: dict[str, object] = {
    "no object": "key",
    "use enc": {**GOOD, "use": "enc"},
    "use a list": {**GOOD, "use": ["sig"]},
    "key_ops sign": {**GOOD, "key_ops": ["sign", "verify"]},
    "key_ops text": {**GOOD, "key_ops": "verify"},
    "alg of encryption": {**GOOD, "alg": "ECDH-ES"},
    "alg of another key type": {**GOOD, "alg": "RS256"},
    "alg a list": {**GOOD, "alg": ["ES256"]},
    "alg RS512": public(rsa_key(), alg="RS512"),
    "private half": {**GOOD, "d": encode(bytes(32))},
    "secret": {"kty": "oct", "k": encode(bytes(32)), "kid": "ec"},
    "kty missing": {**GOOD, "kty": 1},
    "kty unknown": {**GOOD, "kty": "AKP"},
    "kty OKP": {"kty": "OKP", "crv": "Ed25519", "x": encode(bytes(32)), "kid": "ec"},
    "P-384": public(ec_key("ec", "P-384")),
    "crv unknown": {**GOOD, "crv": "P-255"},
    "off the curve": off_curve(),
    "x missing": {name: value for name, value in GOOD.items() if name != "x"},
    "x a number": {**GOOD, "x": 1},
    "kid missing": public(ec_key(), kid=None),
    "kid empty": {**GOOD, "kid": ""},
    "kid a number": {**GOOD, "kid": 1},
    "kid of 257": {**GOOD, "kid": "x" * 257},
    "RSA 2040": rsa_of(2040),
    "RSA 1024": public(rsa_key("rsa", 1024)),
    "RSA 8200": rsa_of(8200),
    "RSA exponent 1": rsa_of(2048, 1),
    "RSA n a number": public(rsa_key(), n=3),
    "RSA n not base64url": public(rsa_key(), n="===="),
}


@pytest.mark.parametrize("jwk", IGNORED.values(), ids=IGNORED.keys())
def test_a_key_that_cannot_be_used_is_ignored(jwk: object) -> None:
    others = [public(NEW), public(rsa_key("good-rsa"))]
    assert read_keys(json.dumps({"keys": [jwk, *others]}).encode()).keys() == {"new", "good-rsa"}


def test_two_keys_of_one_name_are_both_ignored() -> None:
    keys = [GOOD, public(rsa_key("ec")), public(NEW)]
    assert read_keys(json.dumps({"keys": keys}).encode()).keys() == {"new"}


def test_a_key_that_is_ignored_takes_no_name_from_one_that_is_not() -> None:
    keys = [GOOD, public(rsa_key("ec"), use="enc")]
    assert read_keys(json.dumps({"keys": keys}).encode()).keys() == {"ec"}


@pytest.mark.parametrize("changed", [{"use": None}, {"key_ops": ["verify"]}, {"alg": "ES256"}])
def test_a_key_need_not_say_what_it_is_for(changed: dict[str, object]) -> None:
    (key,) = read_keys(json.dumps({"keys": [public(ec_key(), **changed)]}).encode()).values()
    assert key.algorithms == ("ES256",)


@pytest.mark.parametrize("bits", [2048, 3072, 8192])
def test_rsa_keys_of_the_usual_sizes_are_used(bits: int) -> None:
    (key,) = read_keys(json.dumps({"keys": [rsa_of(bits)]}).encode()).values()
    assert isinstance(key.public, rsa.RSAPublicKey)
    assert (key.public.key_size, key.algorithms) == (bits, ("RS256", "PS256"))


def known_at(url: str) -> IdentityProvider:
    return IdentityProvider(ISSUER, AUDIENCE, url, None, None, httpx.AsyncClient())


@pytest.mark.parametrize(
    "url",
    [
        "https://identity.test/jwks",
        "http://localhost:8080/jwks",
        "http://127.0.0.1/jwks",
        "http://[::1]:8080/jwks",
    ],
)
def test_keys_come_by_https_or_from_this_machine(url: str) -> None:
    known_at(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/jwks",
        "https:///jwks",
        "https://[::1",
        "http://identity.test/jwks",
        "http://localhost.identity.test/jwks",
        "http://127.0.0.1.identity.test/jwks",
        "http://localhost@identity.test/jwks",
        "file:///etc/passwd",
        "ftp://127.0.0.1/jwks",
    ],
)
def test_keys_come_from_nowhere_else(url: str) -> None:
    with pytest.raises(ValueError, match="keys"):
        known_at(url)

"""Which public keys verify signatures of others, and what each of them takes."""

import json
from collections.abc import Mapping

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwcrypto.jwk import JWK
from jwcrypto.jws import JWS

from crypto.errors import JwkError
from crypto.jose import base64url
from crypto.jose.signing_keys import parse_signing_key
from tests.bearers import ec_key, public, rsa_key

GOOD = public(ec_key())


def signed(key: JWK, algorithm: str) -> tuple[bytes, bytes]:
    """What jwcrypto signs, and its signature."""
    made = JWS("payload")
    made.add_signature(key, alg=algorithm, protected=json.dumps({"alg": algorithm}))
    text = made.serialize(compact=True)
    start, _, signature = text.rpartition(".")
    return start.encode(), base64url.decode(signature)


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [(ec_key(), "ES256"), (rsa_key(), "RS256"), (rsa_key(), "PS256")],
    ids=["ES256", "RS256", "PS256"],
)
def test_each_algorithm_is_verified(key: JWK, algorithm: str) -> None:
    ours = parse_signing_key(public(key))
    text, signature = signed(key, algorithm)
    assert ours.is_signed(algorithm, text, signature)
    assert not ours.is_signed(algorithm, text + b".", signature)
    for wrong in (b"", signature[:-1], signature + b"\0", bytes(len(signature)), signature[::-1]):
        assert not ours.is_signed(algorithm, text, wrong)


@pytest.mark.parametrize("algorithm", ["RS256", "PS256"])
def test_a_key_for_one_algorithm_verifies_no_other(algorithm: str) -> None:
    ours = parse_signing_key(public(rsa_key(), alg=algorithm))
    for each in ("RS256", "PS256"):
        assert ours.is_signed(each, *signed(rsa_key(), each)) == (each == algorithm)


@pytest.mark.parametrize("algorithm", ["none", "HS256", "ES384", "es256", "RS256", ""])
def test_a_key_verifies_nothing_by_an_algorithm_of_another_kind(algorithm: str) -> None:
    text, signature = signed(ec_key(), "ES256")
    assert not parse_signing_key(GOOD).is_signed(algorithm, text, signature)


def test_a_key_verifies_nothing_that_another_signed() -> None:
    text, signature = signed(ec_key("another"), "ES256")
    assert not parse_signing_key(GOOD).is_signed("ES256", text, signature)


def rsa_of(bits: int, exponent: int = 65_537) -> dict[str, object]:
    """An RSA key of this size; that nobody has its private half does not show."""
    n = base64url.encode(((1 << bits) - 1).to_bytes(bits // 8))
    return public(rsa_key(), n=n, e=base64url.encode(exponent.to_bytes(3)))


REFUSED: Mapping[str, dict[str, object]] = {
    "nothing": {},
    "use enc": {**GOOD, "use": "enc"},
    "use a list": {**GOOD, "use": ["sig"]},
    "key_ops sign": {**GOOD, "key_ops": ["sign", "verify"]},
    "key_ops text": {**GOOD, "key_ops": "verify"},
    "alg of encryption": {**GOOD, "alg": "ECDH-ES"},
    "alg of another key type": {**GOOD, "alg": "RS256"},
    "alg a list": {**GOOD, "alg": ["ES256"]},
    "alg RS512": public(rsa_key(), alg="RS512"),
    "private half": {**GOOD, "d": base64url.encode(bytes(32))},
    "secret": {"kty": "oct", "k": base64url.encode(bytes(32)), "kid": "ec"},
    "kty a number": {**GOOD, "kty": 1},
    "kty unknown": {**GOOD, "kty": "AKP"},
    "kty OKP": {"kty": "OKP", "crv": "Ed25519", "x": base64url.encode(bytes(32)), "kid": "ec"},
    "P-384": public(ec_key("ec", "P-384")),
    "crv unknown": {**GOOD, "crv": "P-255"},
    "off the curve": {**GOOD, "y": base64url.encode(bytes(32))},
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


@pytest.mark.parametrize("jwk", REFUSED.values(), ids=REFUSED)
def test_a_key_that_cannot_be_used_is_refused(jwk: dict[str, object]) -> None:
    with pytest.raises(JwkError) as refusal:
        parse_signing_key(jwk)
    assert refusal.value.__cause__ is None


@pytest.mark.parametrize(
    "changed",
    [{"use": None}, {"key_ops": ["verify"]}, {"alg": "ES256"}, {"x5c": ["MII="]}],
    ids=str,
)
def test_a_key_need_not_say_what_it_is_for(changed: dict[str, object]) -> None:
    key = parse_signing_key(public(ec_key(), **changed))
    assert (key.kid, key.algorithms) == ("ec", ("ES256",))


@pytest.mark.parametrize("bits", [2048, 3072, 8192])
def test_rsa_keys_of_the_usual_sizes_are_used(bits: int) -> None:
    key = parse_signing_key(rsa_of(bits))
    assert isinstance(key.public, rsa.RSAPublicKey)
    assert (key.public.key_size, key.algorithms) == (bits, ("RS256", "PS256"))

import hmac
import json
from collections.abc import Callable, Mapping

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from jwcrypto.jwk import JWK
from jwcrypto.jws import JWS

from crypto.errors import JoseError, JwsError
from crypto.jose import base64url, json_object, jws
from crypto.jose.jwk import EcPublicKey, parse_public, point_jwk
from tests.crypto.jose.software import point_of, private_key, public_key
from tests.crypto.vectors import Row, rows

FILE = "jws_es256.json"
KID = "sign-1"
TYP = "at+jwt"
SIGNER = private_key(0x7515)
KEYS = {KID: public_key(SIGNER, KID)}
CLAIMS: dict[str, object] = {"iss": "us", "exp": 1_900_000_000}
HEADER: dict[str, object] = {"alg": "ES256", "kid": KID, "typ": TYP}
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


class AnyKid(dict[str, EcPublicKey]):
    """Answers every kid with one key, so that a kid is never why a token is refused."""

    def __contains__(self, _: object) -> bool:
        return True

    def __missing__(self, _: str) -> EcPublicKey:
        return KEYS[KID]


def sign(data: bytes, key: ec.EllipticCurvePrivateKey = SIGNER) -> bytes:
    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(SHA256())))
    return r.to_bytes(32) + s.to_bytes(32)


def numbers(signature: bytes) -> tuple[int, int]:
    return int.from_bytes(signature[:32]), int.from_bytes(signature[32:])


def forge(
    header: Mapping[str, object] | bytes = HEADER,
    payload: Mapping[str, object] | bytes = CLAIMS,
    signer: Callable[[bytes], bytes] = sign,
) -> str:
    parts = (
        part if isinstance(part, bytes) else json_object.serialize(dict(part))
        for part in (header, payload)
    )
    signed = ".".join(map(base64url.encode, parts)).encode("ascii")
    return signed.decode() + "." + base64url.encode(signer(signed))


def refused(token: str, typ: str | None = TYP) -> None:
    with pytest.raises(JwsError):
        jws.verify_bytes(token, KEYS, typ)


def test_what_is_signed_verifies() -> None:
    signed = jws.signing_input(CLAIMS, KID, TYP)
    token = jws.attach(signed, sign(signed))

    assert jws.verify(token, KEYS, TYP) == CLAIMS
    assert token.encode().startswith(signed + b".")


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), st.integers()))
def test_any_claims_come_back(claims: dict[str, object]) -> None:
    signed = jws.signing_input(claims, KID, TYP)

    assert jws.verify(jws.attach(signed, sign(signed)), KEYS, TYP) == claims


def test_jwcrypto_verifies_ours() -> None:
    signed = jws.signing_input(CLAIMS, KID, TYP)
    token = JWS()
    token.allowed_algs = ["ES256"]
    token.deserialize(jws.attach(signed, sign(signed)), JWK.from_pyca(SIGNER.public_key()))

    assert json.loads(token.payload) == CLAIMS


def test_ours_verifies_jwcryptos() -> None:
    token = JWS(json.dumps(CLAIMS))
    token.add_signature(JWK.from_pyca(SIGNER), None, json.dumps(HEADER), None)

    assert jws.verify(token.serialize(compact=True), KEYS, TYP) == CLAIMS


@pytest.mark.parametrize("size", [0, 63, 65, 70])
def test_a_signature_of_another_size_is_not_attached(size: int) -> None:
    with pytest.raises(JwsError):
        jws.attach(b"a.b", bytes(size))


@pytest.mark.parametrize("row", rows(FILE, "jws_es256_valid"))
def test_published_tokens_verify(row: Row) -> None:
    key = parse_public(row["key"], "sig")

    payload = jws.verify_bytes(row["token"], {key.kid: key}, None)

    assert payload.hex() == row["payload_hex"]
    with pytest.raises(JwsError):
        jws.verify(row["token"], {key.kid: key}, None)


def verified_with_its_own_key(row: Row) -> bytes:
    key = parse_public(row["key"], "sig")
    return jws.verify_bytes(row["token"], {key.kid: key}, None)


@pytest.mark.parametrize("row", rows(FILE, "jws_es256_invalid"))
def test_published_forgeries_are_refused(row: Row) -> None:
    with pytest.raises(JoseError):
        verified_with_its_own_key(row)


@pytest.mark.parametrize("row", rows(FILE, "jws_other_alg"))
def test_published_tokens_of_other_algorithms_are_refused(row: Row) -> None:
    with pytest.raises(JwsError):
        jws.verify_bytes(row["token"], AnyKid(), None)


RSA_KEY = rsa.generate_private_key(65537, 2048)
PEM = SIGNER.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize(
    ("alg", "signer"),
    [
        *((none, lambda _: b"") for none in ("none", "None", "NONE", "nOnE")),
        ("HS256", lambda data: hmac.digest(PEM, data, "sha256")),
        ("HS256", lambda data: hmac.digest(point_of(SIGNER).uncompressed, data, "sha256")),
        ("RS256", lambda data: RSA_KEY.sign(data, padding.PKCS1v15(), SHA256())),
        (
            "PS256",
            lambda data: RSA_KEY.sign(data, padding.PSS(padding.MGF1(SHA256()), 32), SHA256()),
        ),
        *((other, sign) for other in ("PS256", "ES384", "ES256K", "es256", "ES256 ", "", "EdDSA")),
    ],
)
def test_another_alg_is_refused(alg: str, signer: Callable[[bytes], bytes]) -> None:
    refused(forge({**HEADER, "alg": alg}, signer=signer))


@pytest.mark.parametrize("alg", [None, 256, ["ES256"], {"ES256": 1}, True])
def test_an_alg_that_is_no_text_is_refused(alg: object) -> None:
    refused(forge({**HEADER, "alg": alg}))


@pytest.mark.parametrize("alg", ["none", "HS256", "RS256", "PS256"])
def test_the_alg_of_the_header_does_not_choose_the_check(alg: str) -> None:
    # The signature is a good ES256 one: nothing but the word is wrong.
    refused(forge({**HEADER, "alg": alg}))


MALLORY = private_key(666)


@pytest.mark.parametrize(
    "members",
    [
        {"jwk": point_jwk(point_of(MALLORY))},
        {"jku": "https://mallory.example/jwks.json"},
        {"x5u": "https://mallory.example/cert.pem"},
        {"x5c": ["MIIB"]},
        {"crit": []},
        {"crit": ["exp"], "exp": 1},
        {"crit": ["b64"], "b64": False},
        {"b64": True},
        {"cty": "JWT"},
        {"zip": "DEF"},
        {"Kid": KID},
    ],
)
def test_an_unlisted_header_member_is_refused(members: dict[str, object]) -> None:
    refused(forge({**HEADER, **members}))
    refused(forge({**HEADER, **members}, signer=lambda data: sign(data, MALLORY)))


@pytest.mark.parametrize(
    "kid",
    ["", "sign-2", "../../dev/null", "sign-1\x00", "SIGN-1", "' OR 1=1 --", None, 1, [KID], {}],
)
def test_an_unknown_kid_is_refused(kid: object) -> None:
    refused(forge({**HEADER, "kid": kid}))


@pytest.mark.parametrize("name", HEADER)
def test_each_header_member_is_required(name: str) -> None:
    refused(forge({key: value for key, value in HEADER.items() if key != name}))


@pytest.mark.parametrize("typ", ["JWT", "AT+JWT", "", None, ["at+jwt"]])
def test_a_token_of_another_type_is_refused(typ: object) -> None:
    refused(forge({**HEADER, "typ": typ}))
    refused(forge({**HEADER, "typ": typ}), typ=None)


def test_no_type_is_expected_of_a_token_without() -> None:
    assert jws.verify(forge({"alg": "ES256", "kid": KID}), KEYS, None) == CLAIMS


def test_the_signature_of_another_key_is_refused() -> None:
    refused(forge(signer=lambda data: sign(data, MALLORY)))


def test_the_signature_of_another_curve_is_refused() -> None:
    p384, k1 = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP256K1())

    refused(forge(signer=lambda data: sign(data, k1)))
    refused(forge(signer=lambda data: p384.sign(data, ec.ECDSA(SHA384()))))


def test_the_signature_over_another_hash_is_refused() -> None:
    def signer(data: bytes) -> bytes:
        r, s = decode_dss_signature(SIGNER.sign(data, ec.ECDSA(SHA384())))
        return r.to_bytes(32) + s.to_bytes(32)

    refused(forge(signer=signer))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda _: b"", id="empty"),
        pytest.param(lambda rs: encode_dss_signature(*numbers(rs)), id="DER"),
        pytest.param(lambda rs: rs + b"\x00", id="65 bytes"),
        pytest.param(lambda rs: rs[:63], id="63 bytes"),
        pytest.param(lambda rs: rs[:32] + b"\x00" + rs[32:], id="s of 33 bytes"),
        pytest.param(lambda rs: b"\x00" + rs[:32] + b"\x00" + rs[32:], id="66 bytes"),
        pytest.param(lambda rs: rs * 2, id="twice"),
        pytest.param(lambda _: bytes(64), id="zeros"),
        pytest.param(lambda _: ORDER.to_bytes(32) * 2, id="the order"),
        pytest.param(lambda _: b"\xff" * 64, id="ones"),
        pytest.param(lambda rs: rs[32:] + rs[:32], id="s and r"),
    ],
)
def test_a_signature_of_another_form_is_refused(change: Callable[[bytes], bytes]) -> None:
    refused(forge(signer=lambda data: change(sign(data))))


@pytest.mark.parametrize("bit", range(0, 512, 7))
def test_a_flipped_bit_in_the_signature_is_refused(bit: int) -> None:
    refused(forge(signer=lambda data: (int.from_bytes(sign(data)) ^ 1 << bit).to_bytes(64)))


def test_an_altered_header_or_payload_is_refused() -> None:
    header, payload, signature = forge().split(".")
    admin = base64url.encode(b'{"iss":"them"}')
    spaced = base64url.encode(json.dumps(HEADER, indent=1).encode())

    refused(f"{header}.{admin}.{signature}")
    refused(f"{spaced}.{payload}.{signature}")


GOOD = forge()


@pytest.mark.parametrize(
    "token",
    [
        pytest.param("", id="empty"),
        pytest.param("..", id="three empty parts"),
        pytest.param(GOOD.rpartition(".")[0], id="two parts"),
        pytest.param(GOOD.rpartition(".")[0] + ".", id="no signature"),
        pytest.param(GOOD + ".", id="four parts"),
        pytest.param(GOOD + "." + GOOD, id="two tokens"),
        pytest.param(GOOD + "==", id="padding"),
        pytest.param(GOOD + "\n", id="newline"),
        pytest.param(" " + GOOD, id="space"),
        pytest.param(GOOD.replace(".", ". ", 1), id="space inside"),
        pytest.param(GOOD[:9] + "é" + GOOD[10:], id="not ASCII"),
        pytest.param(GOOD[:9] + "\x00" + GOOD[10:], id="NUL"),
        pytest.param("." * 10**6, id="a million dots"),
    ],
)
def test_text_that_is_not_three_parts_of_base64url_is_refused(token: str) -> None:
    refused(token)


def test_unused_bits_of_the_signature_are_refused() -> None:
    # 64 bytes leave 4 unused bits in the last character.
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = alphabet.index(GOOD[-1])

    assert last % 16 == 0
    for extra in range(1, 16):
        refused(GOOD[:-1] + alphabet[last + extra])


def test_json_serialisation_with_two_signatures_is_refused() -> None:
    header, payload, signature = GOOD.split(".")
    good = {"protected": header, "signature": signature}
    none = {"protected": base64url.encode(b'{"alg":"none"}'), "signature": ""}

    refused(json.dumps({"payload": payload, **good}))
    refused(json.dumps({"payload": payload, "signatures": [good, none]}))


@pytest.mark.parametrize(
    "header",
    [
        b'{"alg":"none",' + json_object.serialize(HEADER)[1:],
        b"[" + json_object.serialize(HEADER) + b"]",
        json_object.serialize(HEADER) + b"{}",
        b"null",
        b"",
        b'{"alg":' * 500,
    ],
)
def test_a_header_that_is_not_a_strict_object_is_refused(header: bytes) -> None:
    refused(forge(header))


@pytest.mark.parametrize(
    "payload", [b"", b"foo", b"[]", b'"a"', b"\xff", b'{"exp":1,"exp":2}', b'{"exp":NaN}', b"{}{}"]
)
def test_a_payload_that_is_not_a_strict_object_has_no_claims(payload: bytes) -> None:
    token = forge(payload=payload)

    assert jws.verify_bytes(token, KEYS, TYP) == payload
    with pytest.raises(JwsError):
        jws.verify(token, KEYS, TYP)


def test_a_token_has_at_most_8192_characters() -> None:
    spare = jws.JWS_CHARS_MAX - len(forge(payload=b""))

    assert len(forge(payload=bytes(spare * 3 // 4))) == jws.JWS_CHARS_MAX
    assert jws.verify_bytes(forge(payload=bytes(spare * 3 // 4)), KEYS, TYP)
    refused(forge(payload=bytes(spare * 3 // 4 + 1)))


def test_a_caller_may_take_longer_tokens() -> None:
    token = forge(payload=bytes(10_000))

    assert jws.verify_bytes(token, KEYS, TYP, len(token)) == bytes(10_000)
    with pytest.raises(JwsError):
        jws.verify_bytes(token, KEYS, TYP, len(token) - 1)


def test_the_other_half_of_an_ecdsa_signature_verifies_too() -> None:
    # Why a token's text is no identity: (r, n - s) is as good as (r, s).
    def other(data: bytes) -> bytes:
        signature = sign(data)
        return signature[:32] + (ORDER - int.from_bytes(signature[32:])).to_bytes(32)

    assert jws.verify(forge(signer=other), KEYS, TYP) == CLAIMS

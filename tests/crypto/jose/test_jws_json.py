"""JWS in the general JSON serialization: whose signatures count, and what is not of that form."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given
from hypothesis import strategies as st
from jwcrypto.jwk import JWK
from jwcrypto.jws import JWS, InvalidJWSSignature

from crypto.errors import JwsError
from crypto.jose import base64url, json_object, jws_json
from crypto.jose.jwk import EcPublicKey, point_jwk
from crypto.jose.jws_json import SIGNATURES_MAX, TEXT_BYTES_MAX, Signature, SignedText
from tests.crypto.jose.software import point_of, private_key, public_key

TYP = "manifest+jws"
ANN, BOB, CAY = (private_key(0x7515 + number) for number in range(3))
KEYS: Mapping[str, EcPublicKey] = {"ann": public_key(ANN, "ann"), "bob": public_key(BOB, "bob")}
PAYLOAD = b'{"version":7}'
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def raw(data: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(SHA256())))
    return r.to_bytes(32) + s.to_bytes(32)


def sign(
    key: ec.EllipticCurvePrivateKey,
    header: Mapping[str, object] | bytes,
    payload: bytes = PAYLOAD,
) -> Signature:
    data = header if isinstance(header, bytes) else json_object.serialize(dict(header))
    protected = base64url.encode(data)
    return Signature(protected, raw(jws_json.signing_input(protected, payload), key))


def header(kid: str = "ann", **others: object) -> dict[str, object]:
    return {"alg": "ES256", "kid": kid, "typ": TYP, **others}


def signers(*signatures: Signature, payload: bytes = PAYLOAD, typ: str = TYP) -> set[str]:
    """Write the text, read it again and ask who signed."""
    signed = jws_json.parse(str(SignedText(payload, signatures)))
    return {*jws_json.signers(signed, KEYS, typ)}


def members(*signatures: Signature) -> dict[str, Any]:
    """The members of a text that reads well."""
    given = signatures or (sign(ANN, header()),)
    parsed: dict[str, Any] = json.loads(str(SignedText(PAYLOAD, given)))
    return parsed


def refused(text: str) -> None:
    with pytest.raises(JwsError):
        jws_json.parse(text)


def test_each_key_that_signed_is_named() -> None:
    assert signers() == set()
    assert signers(sign(ANN, header("ann"))) == {"ann"}
    assert signers(sign(BOB, header("bob")), sign(ANN, header("ann"))) == {"ann", "bob"}


@given(st.binary(max_size=64))
def test_a_text_is_read_as_it_was_written(payload: bytes) -> None:
    protected = jws_json.protected_header("ann", TYP)
    signature = Signature(protected, raw(jws_json.signing_input(protected, payload), ANN))
    signed = SignedText(payload, [signature])
    again = jws_json.parse(str(signed))
    assert (again.payload, again.signatures) == (payload, [signature])
    assert again.signatures[0].header == header()


def test_two_signatures_of_one_key_name_it_once() -> None:
    one, other = (sign(ANN, header()) for _ in range(2))
    assert one != other
    r, s = one.signature[:32], int.from_bytes(one.signature[32:])
    mirrored = Signature(one.protected, r + (ORDER - s).to_bytes(32))  # it verifies as well
    assert signers(one) == signers(other) == signers(mirrored) == {"ann"}
    assert signers(one, other, one, mirrored) == {"ann"}


def test_a_signature_counts_for_no_other_key() -> None:
    assert signers(sign(BOB, header("ann"))) == set()
    assert signers(sign(CAY, header("cay"))) == set()
    assert signers(sign(CAY, header("ann")), sign(BOB, header("bob"))) == {"bob"}


def test_a_signature_counts_for_no_other_payload_and_no_other_type() -> None:
    signature = sign(ANN, header())
    assert signers(signature, payload=PAYLOAD + b" ") == set()
    assert signers(signature, payload=b"") == set()
    assert signers(signature, typ="minimum-versions+jws") == set()
    assert signers(sign(ANN, header(typ="minimum-versions+jws"))) == set()


@pytest.mark.parametrize(
    "other",
    [
        header(crit=["b64"], b64=False),
        header(x5u="https://attacker.example"),
        header(alg="none"),
        header(alg="HS256"),
        header(alg="es256"),
        header(typ=TYP.upper()),
        header(typ=None),
        header(kid=["ann"]),  # type: ignore[arg-type]
        {"alg": "ES256", "kid": "ann"},
        {"kid": "ann", "typ": TYP},
        {"alg": "ES256", "typ": TYP},
        {},
    ],
    ids=str,
)
def test_a_header_with_anything_else_does_not_count(other: Mapping[str, object]) -> None:
    assert signers(sign(ANN, other)) == set()


def test_the_members_of_a_header_may_stand_in_any_order() -> None:
    assert signers(sign(ANN, {"typ": TYP, "kid": "ann", "alg": "ES256"})) == {"ann"}
    assert signers(sign(ANN, b'{ "alg":"ES256", "kid":"\\u0061nn", "typ":"manifest+jws" }')) == {
        "ann"
    }


@pytest.mark.parametrize("signature", [bytes(64), b"\xff" * 64, b"\1" * 64], ids=["0", "f", "1"])
def test_numbers_that_are_no_signature_do_not_count(signature: bytes) -> None:
    assert signers(Signature(jws_json.protected_header("ann", TYP), signature)) == set()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{}",
        "{}{}",
        '"text"',
        '{"payload":"e30"}',
        '{"payload":"e30","signatures":null}',
        '{"payload":"e30","signatures":{}}',
        '{"payload":"e30","signatures":[null]}',
        '{"payload":"e30","signatures":[],"signatures":[]}',
        '{"payload":null,"signatures":[]}',
        '{"payload":["e30"],"signatures":[]}',
        '{"payload":"e3","signatures":[]}x',
        '{"payload":"e31","signatures":[]}',
        '{"payload":"e30=","signatures":[]}',
        '{"payload":"e30\\n","signatures":[]}',
        '{"payload":"é30","signatures":[]}',
        '{"payload":"\ud800","signatures":[]}',
        '{"signatures":[]}',
        '{"payload":"e30","signatures":[],"header":{}}',
        '{"payload":"e30","protected":"e30","signature":"AA"}',
        "[" * 100_000,
    ],
    ids=lambda text: text[:40],
)
def test_what_is_not_the_general_serialization_is_refused(text: str) -> None:
    refused(text)


@pytest.mark.parametrize(
    "change",
    [
        {"header": {"kid": "ann"}},
        {"protected": None},
        {"protected": "e3"},
        {"protected": "bnVsbA"},
        {"protected": base64url.encode(b'{"alg":"ES256","alg":"ES256"}')},
        {"protected": base64url.encode(b"[]")},
        {"signature": None},
        {"signature": ""},
        {"signature": base64url.encode(bytes(63))},
        {"signature": base64url.encode(bytes(65))},
        {"signature": base64url.encode(bytes(64)) + "="},
    ],
    ids=str,
)
def test_a_malformed_signature_is_refused_beside_good_ones(change: Mapping[str, object]) -> None:
    good = members(sign(ANN, header("ann")), sign(BOB, header("bob")))
    assert jws_json.parse(json.dumps(good))
    good["signatures"][0] |= change
    refused(json.dumps(good))


def test_a_signature_without_a_member_is_refused() -> None:
    for name in ("protected", "signature"):
        good = members()
        del good["signatures"][0][name]
        refused(json.dumps(good))


def test_there_is_a_limit_to_signatures_and_to_size() -> None:
    one = sign(ANN, header())
    assert signers(*[one] * SIGNATURES_MAX) == {"ann"}
    refused(str(SignedText(PAYLOAD, [one] * (SIGNATURES_MAX + 1))))
    text = str(SignedText(PAYLOAD, [one]))
    assert jws_json.parse(text + " " * (TEXT_BYTES_MAX - len(text)))
    refused(text + " " * (TEXT_BYTES_MAX - len(text) + 1))


# Another implementation


def jwk(key: ec.EllipticCurvePrivateKey, kid: str) -> JWK:
    d = base64url.encode(key.private_numbers().private_value.to_bytes(32))
    return JWK(**point_jwk(point_of(key)), d=d, kid=kid)


def theirs(payload: bytes, keys: Sequence[tuple[ec.EllipticCurvePrivateKey, str]]) -> str:
    jws = JWS(payload)
    for key, kid in keys:
        jws.add_signature(jwk(key, kid), None, json.dumps(header(kid)), None)
    return str(jws.serialize())


def test_what_jwcrypto_signs_is_read_here() -> None:
    signed = jws_json.parse(theirs(PAYLOAD, [(ANN, "ann"), (CAY, "cay"), (BOB, "bob")]))
    assert signed.payload == PAYLOAD
    assert jws_json.signers(signed, KEYS, TYP) == {"ann", "bob"}


def test_one_signature_of_jwcrypto_is_the_flattened_form_which_is_not_taken() -> None:
    refused(theirs(PAYLOAD, [(ANN, "ann")]))


@pytest.mark.parametrize(("key", "kid"), [(ANN, "ann"), (BOB, "bob")])
def test_what_is_signed_here_is_verified_by_jwcrypto(
    key: ec.EllipticCurvePrivateKey, kid: str
) -> None:
    text = str(SignedText(PAYLOAD, [sign(ANN, header("ann")), sign(BOB, header("bob"))]))
    jws = JWS()
    jws.deserialize(text)
    jws.verify(jwk(key, kid))
    assert jws.payload == PAYLOAD
    jws = JWS()
    jws.deserialize(text)
    with pytest.raises(InvalidJWSSignature):
        jws.verify(jwk(CAY, "cay"))

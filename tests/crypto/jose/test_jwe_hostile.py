"""
Tokens that attack a JWE reader. All but the altered ones are honestly encrypted, so
that a lenient reader would open them: only the check under test stands in the way.
"""

import json

import pytest

from crypto.errors import JweError
from crypto.jose import base64url, json_object, jwe
from crypto.jose.jwk import P
from tests.crypto.jose.software import (
    EPHEMERAL,
    KID,
    PLAINTEXT,
    epk,
    forge,
    header,
    opened,
    point_of,
)

POINT = point_of(EPHEMERAL)
GOOD = forge(header())


def raw(text: str) -> bytes:
    """Return the good header with *text* in front of its members."""
    return b"{" + text.encode() + b"," + json_object.serialize(header())[1:]


def b64(data: bytes) -> str:
    return base64url.encode(data)


def refused(token: str) -> None:
    with pytest.raises(JweError):
        jwe.parse(token)


def test_a_good_token_opens() -> None:
    assert opened(GOOD) == PLAINTEXT
    assert opened(forge(header(typ="JWE", cty="json"))) == PLAINTEXT
    assert opened(forge(json.dumps(header(), indent=1).encode())) == PLAINTEXT


UNKNOWN_MEMBERS: dict[str, object] = {
    "zip": "DEF",
    "crit": [],
    "jku": "https://example.com/jwks.json",
    "jwk": epk(),
    "x5u": "https://example.com/cert.pem",
    "x5c": ["MIIB"],
    "x5t": "dGh1bWI",
    "x5t#S256": "dGh1bWI",
    "p2s": "c2FsdHNhbHQ",
    "p2c": 2**31 - 1,
    "b64": True,
    "iv": "AAAAAAAAAAAAAAAA",
    "tag": "AAAAAAAAAAAAAAAAAAAAAA",
    "exp": 1,
    "Alg": "ECDH-ES",
    "": "",
}


@pytest.mark.parametrize("name", UNKNOWN_MEMBERS)
def test_an_unlisted_header_member_is_refused(name: str) -> None:
    refused(forge(header(**{name: UNKNOWN_MEMBERS[name]})))


def test_a_header_member_that_the_reader_was_told_of_is_ignored() -> None:
    token = forge(header(exp=1))
    refused(token)
    assert jwe.parse(token, frozenset({"exp"})).kid == KID


@pytest.mark.parametrize("name", sorted(jwe.NEVER_ALLOWED))
def test_a_header_member_that_changes_the_reading_cannot_be_allowed(name: str) -> None:
    with pytest.raises(JweError):
        jwe.parse(forge(header(**{name: UNKNOWN_MEMBERS[name]})), frozenset({name}))


@pytest.mark.parametrize("value", [["alg"], ["exp"], ["unknown"], "alg", {}])
def test_crit_is_refused_whatever_it_names(value: object) -> None:
    refused(forge(header(crit=value)))


@pytest.mark.parametrize("value", ["ZIP", "", "GZIP", 1])
def test_zip_is_refused_whatever_it_names(value: object) -> None:
    refused(forge(header(zip=value)))


@pytest.mark.parametrize("name", ["alg", "enc", "kid", "epk"])
def test_a_required_member_is_required(name: str) -> None:
    refused(forge(header(**{name: None})))


@pytest.mark.parametrize(
    "alg",
    [
        "none",
        "ecdh-es",
        "ECDH-ES ",
        "dir",
        "RSA1_5",
        "RSA-OAEP",
        "A256KW",
        "ECDH-ES+A256KW",
        "PBES2-HS256+A128KW",
        "",
        ["ECDH-ES"],
        {"ECDH-ES": 1},
        0,
        True,
    ],
)
def test_another_alg_is_refused(alg: object) -> None:
    refused(forge(header(alg=alg)))
    refused(forge(header(alg=alg, p2s="c2FsdHNhbHQ", p2c=2**31 - 1)))


@pytest.mark.parametrize(
    "enc", ["A128GCM", "A192GCM", "A256CBC-HS512", "a256gcm", "", ["A256GCM"], 256, False]
)
def test_another_enc_is_refused(enc: object) -> None:
    refused(forge(header(enc=enc)))


@pytest.mark.parametrize("kid", ["", "x" * 129, "x" * 2**20, 7, True, ["wire-1"], {}, 0.5])
def test_a_kid_is_text_of_1_to_128_characters(kid: object) -> None:
    refused(forge(header(kid=kid)))


@pytest.mark.parametrize("name", ["typ", "cty", "apu", "apv"])
@pytest.mark.parametrize("value", [1, True, ["JWE"], {}, 0.5])
def test_an_optional_member_is_text(name: str, value: object) -> None:
    refused(forge(header(**{name: value})))


@pytest.mark.parametrize("name", ["kid", "epk", "typ", "cty", "apu", "apv"])
def test_no_member_is_null(name: str) -> None:
    refused(forge(json_object.serialize({**header(), name: None})))


@pytest.mark.parametrize("name", ["apu", "apv"])
@pytest.mark.parametrize(
    "value", ["QQ==", "QR", "Q", "a b", "++++", b64(b"u" * 513), "QUFB" * 1000]
)
def test_a_party_is_canonical_base64url_of_at_most_512_bytes(name: str, value: str) -> None:
    refused(forge(header(**{name: value})))


def test_a_party_of_512_bytes_is_read() -> None:
    apu, apv = b"u" * 512, b"v" * 512

    assert opened(forge(header(apu=b64(apu), apv=b64(apv)), apu=apu, apv=apv)) == PLAINTEXT


def test_a_party_of_500_kb_is_refused() -> None:
    refused(forge(header(apu=b64(bytes(500_000))), apu=bytes(500_000)))


@pytest.mark.parametrize(
    "members",
    [
        pytest.param({"kid": "ephemeral-1"}, id="kid"),
        pytest.param({"ext": True, "key_ops": []}, id="as WebCrypto exports"),
        pytest.param({"use": "enc", "alg": "ECDH-ES"}, id="use and alg"),
        pytest.param({"use": "sig", "kid": 1, "key_ops": None}, id="of no meaning"),
    ],
)
def test_further_public_members_of_an_ephemeral_key_are_ignored(members: dict[str, object]) -> None:
    # RFC 7518, 4.6.1.1.
    assert opened(forge(header(epk=epk(**members)))) == PLAINTEXT


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(epk(x=b64(b"\x00" + POINT.x)), id="x of 33 bytes"),
        pytest.param(epk(x=b64(POINT.x[:31])), id="x of 31 bytes"),
        pytest.param(epk(y=b64(POINT.y[1:])), id="y of 31 bytes"),
        pytest.param(epk(d=b64(bytes(31) + b"\x01")), id="with d"),
        pytest.param(epk(ext=True, d=None), id="with d, null, and public members"),
        pytest.param(epk(k="AAAA"), id="with k"),
        pytest.param(epk(oth=[]), id="with oth"),
        pytest.param(epk(y=b64(POINT.x)), id="off the curve"),
        pytest.param(epk(x=b64(bytes(32)), y=b64(bytes(32))), id="(0,0)"),
        pytest.param(epk(x=b64(P.to_bytes(32)), y=b64(bytes(32))), id="x = p"),
        pytest.param(epk(x=b64(b"\xff" * 32)), id="x over p"),
        pytest.param(epk(crv="P-384", x=b64(b"x" * 48), y=b64(b"y" * 48)), id="P-384"),
        pytest.param(epk(crv="secp256k1"), id="secp256k1"),
        pytest.param({"kty": "OKP", "crv": "X25519", "x": b64(bytes(32))}, id="OKP, low order"),
        pytest.param({"kty": "oct", "k": "AAAA"}, id="oct"),
        pytest.param({"kty": "EC", "crv": "P-256", "x": b64(POINT.x)}, id="no y"),
        pytest.param({}, id="empty"),
        pytest.param("AAAA", id="text"),
        pytest.param([epk()], id="list"),
        pytest.param(1, id="number"),
    ],
)
def test_a_bad_ephemeral_key_is_refused(key: object) -> None:
    refused(forge(header(epk=key)))


@pytest.mark.parametrize(
    "protected",
    [
        pytest.param(raw('"alg":"ECDH-ES"'), id="alg twice"),
        pytest.param(raw('"\\u0061lg":"none"'), id="alg twice, once escaped"),
        pytest.param(raw('"kid":"other"'), id="kid twice"),
        pytest.param(raw('"typ":NaN'), id="NaN"),
        pytest.param(raw('"typ":' + "9" * 5000), id="5000 digits"),
        pytest.param(raw('"typ":' + "[" * 2500 + "]" * 2500), id="nesting of 2,500"),
        pytest.param(raw('"typ":' + "[" * 100_000 + "]" * 100_000), id="nesting of 100,000"),
        pytest.param(raw('"typ":"\\ud800"'), id="lone surrogate"),
        pytest.param(json_object.serialize(header()) + b"\x00", id="trailing NUL"),
        pytest.param(json_object.serialize(header()) + b"{}", id="two objects"),
        pytest.param(b"\xef\xbb\xbf" + json_object.serialize(header()), id="byte order mark"),
        pytest.param(b"[" + json_object.serialize(header()) + b"]", id="array"),
        pytest.param(b"null", id="null"),
        pytest.param(b"", id="empty"),
        pytest.param(b"\xff\xfe", id="not UTF-8"),
    ],
)
def test_a_header_that_is_not_a_strict_object_is_refused(protected: bytes) -> None:
    refused(forge(protected))


@pytest.mark.parametrize("size", [8, 11, 13, 16])
def test_an_iv_has_12_bytes(size: int) -> None:
    refused(forge(header(), iv=b"\x01" * size))


def test_an_empty_iv_is_refused() -> None:
    protected, key, _, ciphertext, tag = GOOD.split(".")
    refused(".".join((protected, key, "", ciphertext, tag)))


@pytest.mark.parametrize("size", [*range(16), 17])
def test_a_tag_has_16_bytes(size: int) -> None:
    *rest, tag = GOOD.split(".")
    refused(".".join((*rest, b64((base64url.decode(tag) + b"\x00")[:size]))))


@pytest.mark.parametrize("bit", range(128))
def test_a_flipped_bit_in_the_tag_does_not_open(bit: int) -> None:
    *rest, tag = GOOD.split(".")
    flipped = int.from_bytes(base64url.decode(tag)) ^ 1 << bit
    token = ".".join((*rest, b64(flipped.to_bytes(16))))

    assert jwe.parse(token)
    with pytest.raises(JweError):
        opened(token)


@pytest.mark.parametrize("part", [0, 2, 3])
def test_an_altered_part_does_not_open(part: int) -> None:
    parts = GOOD.split(".")
    # A space after the brace leaves the header as good as before, to a reader of JSON.
    data = base64url.decode(parts[part])
    parts[part] = b64(
        data.replace(b"{", b"{ ", 1) if part == 0 else data[:-1] + bytes([data[-1] ^ 1])
    )

    with pytest.raises(JweError):
        opened(".".join(parts))


def test_an_encrypted_key_is_refused() -> None:
    protected, _, *rest = GOOD.split(".")
    refused(".".join((protected, b64(bytes(40)), *rest)))


@pytest.mark.parametrize(
    "token",
    [
        pytest.param("", id="empty"),
        pytest.param("....", id="five empty parts"),
        pytest.param(GOOD.rpartition(".")[0], id="four parts"),
        pytest.param(GOOD + ".", id="six parts"),
        pytest.param(GOOD + ".AAAA", id="six parts, one more full"),
        pytest.param("." * 8192, id="dots only"),
        pytest.param("." * 10**6, id="a million dots"),
        pytest.param(" " + GOOD, id="space in front"),
        pytest.param(GOOD + " ", id="space behind"),
        pytest.param(GOOD.replace(".", " .", 1), id="space inside"),
        pytest.param(GOOD + "\n", id="newline"),
        pytest.param(GOOD + "\r\n", id="carriage return and newline"),
        pytest.param(GOOD + "=", id="padding"),
        pytest.param(GOOD + "==", id="more padding"),
        pytest.param(GOOD + "\x00", id="NUL"),
        pytest.param(GOOD[:20] + "\x00" + GOOD[20:], id="NUL inside"),
        pytest.param(GOOD[:20] + "é" + GOOD[21:], id="not ASCII"),
        pytest.param(GOOD + "\ufeff", id="byte order mark"),
        pytest.param(GOOD.replace(".", "\uff0e"), id="full-width dots"),
        pytest.param(GOOD[:-1] + "\ud800", id="lone surrogate"),
    ],
)
def test_text_that_is_not_five_parts_of_base64url_is_refused(token: str) -> None:
    refused(token)


def flattened(token: str, **more: object) -> str:
    protected, key, iv, ciphertext, tag = token.split(".")
    members = {"protected": protected, "iv": iv, "ciphertext": ciphertext, "tag": tag}
    return json.dumps({**members, "encrypted_key": key, **more})


def test_json_serialisation_is_refused() -> None:
    refused(flattened(GOOD))
    refused(flattened(GOOD, recipients=[{"header": {"kid": KID}}]))
    refused(flattened(GOOD, recipients=[{"header": {"kid": KID}}] * 1000))


def test_a_token_has_at_most_8192_characters() -> None:
    spare = jwe.JWE_CHARS_MAX - len(forge(header(), plaintext=b""))
    longest = forge(header(), plaintext=bytes(spare * 3 // 4))

    assert len(longest) == jwe.JWE_CHARS_MAX
    assert opened(longest) == bytes(spare * 3 // 4)
    refused(forge(header(), plaintext=bytes(spare * 3 // 4 + 1)))
    refused(forge(header(), plaintext=bytes(2**20)))


def test_a_caller_may_take_longer_tokens() -> None:
    token = forge(header(), plaintext=bytes(10_000))

    assert jwe.parse(token, chars_max=len(token))
    with pytest.raises(JweError):
        jwe.parse(token, chars_max=len(token) - 1)

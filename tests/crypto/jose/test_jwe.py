import base64
from dataclasses import fields, replace
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from hypothesis import given
from hypothesis import strategies as st
from jwcrypto.jwe import JWE
from jwcrypto.jwk import JWK

from crypto.errors import JweError
from crypto.jose import base64url, json_object, jwe
from crypto.jose.jwk import Point, parse_point
from crypto.secret import Secret
from tests.crypto.jose.software import (
    AGREE,
    EPHEMERAL,
    KID,
    PLAINTEXT,
    RANDOM,
    RECIPIENT,
    UnknownKeyError,
    forge,
    header,
    opened,
    point_of,
    private_key,
    public_key,
    software_agreement,
)
from tests.crypto.vectors import Row, rows

FILE = "jwe.json"


def sealed(plaintext: bytes = PLAINTEXT) -> str:
    return jwe.encrypt(plaintext, public_key(RECIPIENT), ephemeral=EPHEMERAL, random=RANDOM)


@given(st.binary(max_size=1000), st.integers(1, 2**255))
def test_what_is_encrypted_opens(plaintext: bytes, number: int) -> None:
    token = jwe.encrypt(
        plaintext, public_key(RECIPIENT), ephemeral=private_key(number), random=RANDOM
    )

    assert opened(token) == plaintext


def test_the_plaintext_comes_back_as_a_secret() -> None:
    secret = jwe.decrypt(jwe.parse(sealed()), AGREE)

    assert isinstance(secret, Secret)
    assert PLAINTEXT.decode() not in repr(secret)


def test_our_header_has_four_members_and_the_ephemeral_key_is_public() -> None:
    members = json_object.parse(base64url.decode(sealed().split(".")[0]))

    assert list(members) == ["alg", "enc", "kid", "epk"]
    assert members == header()


def test_each_message_has_its_own_iv() -> None:
    assert jwe.parse(sealed()).iv != jwe.parse(sealed()).iv


@pytest.mark.parametrize("plaintext", [b"x", PLAINTEXT])
def test_jwcrypto_opens_ours(plaintext: bytes) -> None:
    token = JWE(algs=["ECDH-ES", "A256GCM"])
    token.deserialize(sealed(plaintext), JWK.from_pyca(RECIPIENT))

    assert token.payload == plaintext


@pytest.mark.parametrize(
    "parties",
    [
        {},
        {"apu": "QWxpY2U", "apv": "Qm9i"},
        {"apv": base64url.encode(b"\x00" * 64)},
        {"typ": "JWE", "cty": "json"},
    ],
)
def test_ours_opens_jwcryptos(parties: dict[str, str]) -> None:
    protected = {"alg": "ECDH-ES", "enc": "A256GCM", "kid": KID, **parties}
    token: Any = JWE(PLAINTEXT, json_object.serialize(dict(protected)).decode())
    token.add_recipient(JWK.from_pyca(RECIPIENT.public_key()))

    assert opened(token.serialize(compact=True)) == PLAINTEXT


@pytest.mark.parametrize("row", rows(FILE, "jwe_invalid", "jwe_foreign"))
def test_published_tokens_that_are_invalid_or_not_ours_are_refused(row: Row) -> None:
    with pytest.raises(JweError):
        jwe.parse(row["token"])


@pytest.mark.parametrize("row", rows(FILE, "jwe_ecdh_es"))
def test_published_ecdh_es_tokens_lack_a_kid_or_use_another_cipher(row: Row) -> None:
    with pytest.raises(JweError):
        jwe.parse(row["token"])


def test_a_published_a256gcm_token_decrypts_once_it_is_given_a_kid() -> None:
    (row,) = [case.values[0] for case in rows(FILE, "jwe_ecdh_es") if "A256Gcm" in str(case.id)]
    private = ec.derive_private_key(
        int.from_bytes(base64url.decode(row["key"]["d"])), ec.SECP256R1()
    )
    protected, _, *rest = row["token"].split(".")
    epk: Any = json_object.parse(base64url.decode(protected))["epk"]
    iv, ciphertext, tag = map(base64url.decode, rest)
    parsed = jwe.CompactJwe(
        KID, None, parse_point(epk), b"", b"", protected.encode(), iv, ciphertext, tag
    )

    plaintext = jwe.decrypt(parsed, software_agreement({KID: private}))

    assert plaintext.reveal().hex() == row["plaintext_hex"]


@pytest.mark.parametrize("row", rows(FILE, "ecdh_es_concat_kdf"))
def test_other_info_of_rfc_7518_appendix_c(row: Row) -> None:
    bob = ec.derive_private_key(
        int.from_bytes(base64url.decode(row["recipient"]["d"])), ec.SECP256R1()
    )
    alice = {name: row["ephemeral"][name] for name in ("kty", "crv", "x", "y")}
    info = jwe.other_info(
        row["enc"], base64url.decode(row["apu"]), base64url.decode(row["apv"]), 128
    )

    # The octets as the appendix prints them.
    assert (
        info
        == (b"\x00\x00\x00\x07A128GCM" + b"\x00\x00\x00\x05Alice" + b"\x00\x00\x00\x03Bob")
        + b"\x00\x00\x00\x80"
    )
    z = bob.exchange(ec.ECDH(), parse_point(alice).public_key())
    assert z.hex().upper() == row["z_hex"]
    key = ConcatKDFHash(SHA256(), 16, info).derive(z)
    assert base64url.encode(key) == row["derived_key_b64url"]


def test_the_token_is_asked_with_the_kid_the_point_and_other_info() -> None:
    asked: list[tuple[str, Point, bytes]] = []

    def agree(kid: str, epk: Point, info: bytes) -> bytes:
        asked.append((kid, epk, info))
        return AGREE(kid, epk, info)

    token = forge(header(apu="QQ", apv="QkI"), apu=b"A", apv=b"BB")

    assert opened(token, agree) == PLAINTEXT
    assert asked == [(KID, point_of(EPHEMERAL), jwe.other_info("A256GCM", b"A", b"BB", 256))]


@pytest.mark.parametrize("failure", [OSError("token removed"), InvalidTag()])
def test_what_the_token_raises_passes_unchanged(failure: Exception) -> None:
    def agree(_kid: str, _epk: Point, _info: bytes) -> bytes:
        raise failure

    with pytest.raises(type(failure)) as raised:
        jwe.decrypt(jwe.parse(sealed()), agree)
    assert raised.value is failure


def test_a_token_that_derives_no_key_is_not_a_bad_message() -> None:
    with pytest.raises(ValueError, match="key"):
        jwe.decrypt(jwe.parse(sealed()), lambda *_: b"short")


@pytest.mark.parametrize("kid", ["../../keys/wire-1", "' OR 1=1 --", "x" * 128, "\u0000"])
def test_a_kid_is_a_dictionary_key_and_nothing_else(kid: str) -> None:
    token = forge(header(kid=kid))

    assert jwe.parse(token).kid == kid
    with pytest.raises(UnknownKeyError):
        opened(token)


def test_another_key_does_not_open() -> None:
    with pytest.raises(JweError):
        opened(sealed(), software_agreement({KID: private_key(99)}))


GOOD = jwe.parse(forge(header()))


def test_the_digest_is_over_the_decoded_parts() -> None:
    parsed = jwe.parse(forge(header()))

    assert parsed == GOOD
    assert parsed.digest == GOOD.digest
    assert len(parsed.digest) == 32


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(replace(GOOD, iv=b"\x02" * 12), id="iv"),
        pytest.param(replace(GOOD, ciphertext=GOOD.ciphertext + b"\x00"), id="ciphertext"),
        pytest.param(replace(GOOD, tag=bytes(16)), id="tag"),
        pytest.param(jwe.parse(forge(header(typ="JOSE"))), id="header"),
        pytest.param(jwe.parse(forge(dict(reversed(header().items())))), id="header order"),
        pytest.param(
            replace(GOOD, iv=GOOD.iv + GOOD.ciphertext[:1], ciphertext=GOOD.ciphertext[1:]),
            id="a byte moved to the part before",
        ),
        pytest.param(
            replace(GOOD, ciphertext=GOOD.ciphertext + GOOD.tag, tag=b""), id="parts joined"
        ),
    ],
)
def test_another_message_has_another_digest(other: jwe.CompactJwe) -> None:
    assert other.digest != GOOD.digest


def test_the_digest_does_not_change_between_releases() -> None:
    # Stored digests must be found again: this one was computed apart, with hashlib alone.
    protected = base64url.encode(b"{}").encode()
    fixed = replace(GOOD, protected_ascii=protected, iv=b"i" * 12, ciphertext=b"c", tag=b"t" * 16)

    assert fixed.digest.hex() == (
        "71de1d9ffcb595724d89e923b3e4126e4d89e01213b14f929322eb5740b82b99"
    )


def test_every_field_is_either_in_the_digest_or_read_from_the_header() -> None:
    from_header = {"kid", "cty", "epk", "apu", "apv"}
    in_digest = {"protected_ascii", "iv", "ciphertext", "tag"}

    assert {field.name for field in fields(jwe.CompactJwe)} == from_header | in_digest


def test_what_the_plaintext_is_stands_in_the_header_where_it_is_said() -> None:
    key = public_key(RECIPIENT)
    token = jwe.encrypt(PLAINTEXT, key, ephemeral=EPHEMERAL, random=RANDOM, cty="JWT")

    assert (jwe.parse(token).cty, jwe.parse(sealed()).cty) == ("JWT", None)
    assert opened(token) == PLAINTEXT


def lenient(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def test_no_second_spelling_of_a_token_is_read() -> None:
    token = sealed()
    parts = token.split(".")
    spellings = []
    for index, part in enumerate(parts):
        for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_":
            changed = part[:-1] + letter
            if part and changed != part and lenient(changed) == lenient(part):
                spellings.append([*parts[:index], changed, *parts[index + 1 :]])
        spellings.append([*parts[:index], part + "=", *parts[index + 1 :]])
        spellings.append([*parts[:index], part + "==", *parts[index + 1 :]])
        spellings.append([*parts[:index], part + "\n", *parts[index + 1 :]])
    # Three for each part, and those that differ in unused bits.
    assert len(spellings) > 15
    for spelling in spellings:
        with pytest.raises(JweError):
            jwe.parse(".".join(spelling))


@given(st.data())
def test_a_changed_character_never_opens(data: st.DataObject) -> None:
    token = sealed()
    place = data.draw(st.integers(0, len(token) - 1))
    letter = data.draw(st.characters())
    changed = token[:place] + letter + token[place + 1 :]
    if changed == token:
        return

    with pytest.raises((JweError, UnknownKeyError)):
        opened(changed)

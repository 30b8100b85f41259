"""PUT pin: what is taken, and that nothing of what is refused is stored."""

import json
from collections.abc import AsyncIterator, Iterator

import pytest
from jwcrypto.jwe import JWE
from jwcrypto.jwk import JWK

from cms.domain.errors import JweFault
from cms.sandbox.partners.jwe import encrypt
from cms.sandbox.partners.pin_blocks import iso0_block
from crypto.jose import base64url
from tests.cms.faces.d1 import refusals
from tests.cms.faces.d1_face import PIN, D1Face, put_body, refusal
from tests.issuer_records import PAN, PANS, SampleIssuer

pytestmark = pytest.mark.anyio

CARD = "active"
#: What the audit says of each.
REASONS = {
    refusals.BODY: "REQUEST_INVALID",
    refusals.TYPE: "REQUEST_INVALID",
    refusals.FORM: "REQUEST_INVALID",
    refusals.BLOCK: "WRONG_PIN_DATA",
    refusals.POLICY: "PIN_CHANGE_FORBIDDEN",
    refusals.NOT_OFFERED: "TYPE_NOT_OFFERED",
}
BODY_BYTES_MAX = 16 * 1024
JWE_CHARS_MAX = 8192

NOT_A_JSON_OBJECT = {
    "empty": b"",
    "white-space": b" \r\n\t",
    "junk": b"junk",
    "null": b"null",
    "number": b"1",
    "string": b'"type"',
    "array": b'[{"type":"ISO0","encryptedPinBlock":"a.b.c.d.e"}]',
    "cut-off": b'{"type":"ISO0"',
    "two-objects": b"{}{}",
    "trailing-comma": b'{"type":"ISO0",}',
    "single-quotes": b"{'type':'ISO0'}",
    "not-a-number": b'{"type":NaN}',
    "lone-surrogate": rb'{"type":"\ud800"}',
    "form": b"type=ISO0&encryptedPinBlock=a.b.c.d.e",
    "nul": b'{"type":"ISO0\x00"}',
    "byte-order-mark": b'\xef\xbb\xbf{"type":"ISO0","encryptedPinBlock":"a.b.c.d.e"}',
    "utf-16": '{"type":"ISO0"}'.encode("utf-16"),
    "not-utf-8": b'{"type":"ISO0","encryptedPinBlock":"\xff\xfe"}',
    "duplicate-type": b'{"type":"ISO0","type":"ISO0","encryptedPinBlock":"a.b.c.d.e"}',
    "duplicate-in-a-member": b'{"type":"ISO0","encryptedPinBlock":"a.b.c.d.e","x":{"y":1,"y":1}}',
    "nested-as-deep-as-fits": b"[" * BODY_BYTES_MAX,
    "nested-a-million-deep": b"[" * 1_000_000,
    "nested-objects": b'{"a":' * (BODY_BYTES_MAX // 5),
    "digits": b'{"type":%s}' % (b"9" * 10_000),
    "a-megabyte": b'{"type":"ISO0","x":"%s"}' % (b"x" * 1_000_000),
}

WRONG_TYPES = {
    "missing": {"encryptedPinBlock": "a.b.c.d.e"},
    "null": {"type": None},
    "number": {"type": 0},
    "true": {"type": True},
    "array": {"type": ["ISO0"]},
    "object": {"type": {"ISO0": "ISO0"}},
    "empty": {"type": ""},
    "unknown": {"type": "ISO4"},
    "padded": {"type": " ISO0 "},
    "nul": {"type": "ISO0\0"},
    "long": {"type": "ISO0" * 2000},
}

NOT_A_JWE_STRING: dict[str, dict[str, object]] = {
    "missing": {},
    "null": {"encryptedPinBlock": None},
    "number": {"encryptedPinBlock": 4071},
    "true": {"encryptedPinBlock": True},
    "array": {"encryptedPinBlock": ["a", "b", "c", "d", "e"]},
    "object": {"encryptedPinBlock": {"protected": "a", "iv": "b", "ciphertext": "c", "tag": "d"}},
    "empty": {"encryptedPinBlock": ""},
    "junk": {"encryptedPinBlock": "junk"},
    "dots": {"encryptedPinBlock": "...."},
    "unicode": {"encryptedPinBlock": "ä.ö.ü.ß.€"},
    "nul": {"encryptedPinBlock": "a.b.c.d.\0"},
    "other-member-name": {"encryptedpinblock": "a.b.c.d.e"},
}


@pytest.mark.parametrize("name", NOT_A_JSON_OBJECT)
async def test_a_body_that_is_not_one_json_object_is_refused(d1_face: D1Face, name: str) -> None:
    await refused(d1_face, NOT_A_JSON_OBJECT[name], refusals.BODY)


@pytest.mark.parametrize("name", WRONG_TYPES)
async def test_a_type_that_is_not_one_of_ours_is_refused(d1_face: D1Face, name: str) -> None:
    await refused(d1_face, json.dumps(WRONG_TYPES[name]).encode(), refusals.TYPE)


@pytest.mark.parametrize("name", NOT_A_JWE_STRING)
async def test_an_encrypted_pin_block_that_is_no_jwe_is_refused(d1_face: D1Face, name: str) -> None:
    body = {"type": "ISO0", **NOT_A_JWE_STRING[name]}
    await refused(d1_face, json.dumps(body).encode(), refusals.FORM)


def ill_formed_jwes(sample_issuer: SampleIssuer) -> Iterator[tuple[str, str]]:
    """Yield a good JWE, spoilt in its form."""
    good = sample_issuer.pin_jwe(PIN, CARD)
    header, _, iv, ciphertext, tag = good.split(".")
    yield "four parts", ".".join((header, iv, ciphertext, tag))
    yield "six parts", f"{good}.{tag}"
    yield "an encrypted key", ".".join((header, "AAAA", iv, ciphertext, tag))
    yield "a short tag", ".".join((header, "", iv, ciphertext, tag[:-2]))
    yield "a short iv", ".".join((header, "", iv[:-4], ciphertext, tag))
    yield "padding", f"{good}="
    yield "white space", f" {good}"
    yield "the plaintext instead", json.dumps({"pinBlock": iso0_block(PIN, PAN)})
    members = json.loads(base64url.decode(header))
    point = members["epk"]
    spoilt_headers: dict[str, dict[str, object]] = {
        "alg none": {"alg": "none"},
        "alg dir": {"alg": "dir"},
        "alg with key wrap": {"alg": "ECDH-ES+A256KW"},
        "alg RSA-OAEP": {"alg": "RSA-OAEP"},
        "enc of 128 bits": {"enc": "A128GCM"},
        "enc with CBC": {"enc": "A256CBC-HS512"},
        "zip": {"zip": "DEF"},
        "crit": {"crit": ["exp"], "exp": 1},
        "a key of its own": {"jwk": point},
        "a key by address": {"jku": "https://attacker.test/keys"},
        "no kid": {"kid": None},
        "a number as kid": {"kid": 1},
        "epk off the curve": {"epk": {**point, "y": point["x"]}},
        "epk on another curve": {"epk": {**point, "crv": "P-384"}},
        "epk with a private part": {"epk": {**point, "d": point["x"]}},
        "epk at infinity": {"epk": {**point, "x": "A" * 43, "y": "A" * 43}},
    }
    for name, changed in spoilt_headers.items():
        spoilt = base64url.encode(json.dumps({**members, **changed}).encode())
        yield name, ".".join((spoilt, "", iv, ciphertext, tag))


async def test_a_jwe_of_another_form_is_refused(d1_face: D1Face) -> None:
    for name, jwe in ill_formed_jwes(d1_face.sample_issuer):
        await refused(d1_face, put_body(jwe), refusals.FORM, name)


def unusable_jwes(sample_issuer: SampleIssuer) -> Iterator[tuple[str, str]]:
    """Yield JWEs of the right form that do not open, or hold no JSON object."""
    good = sample_issuer.pin_jwe(PIN, CARD)
    header, _, iv, ciphertext, tag = good.split(".")
    other = json.loads(JWK.generate(kty="EC", crv="P-256").export_public())
    block = iso0_block(PIN, PAN)
    yield "a key that is not ours", encrypt({"pinBlock": block}, {**other, "kid": "x"})
    yield (
        "a key that is not ours, with our kid",
        encrypt({"pinBlock": block}, {**other, "kid": sample_issuer.d1_jwk["kid"]}),
    )
    yield "our intake key", encrypt({"pinBlock": block}, sample_issuer.intake_jwk)
    yield (
        "an unknown kid",
        encrypt({"pinBlock": block}, {**sample_issuer.d1_jwk, "kid": "../etc/passwd"}),
    )
    yield "another tag", ".".join((header, "", iv, ciphertext, base64url.encode(bytes(16))))
    yield "another iv", ".".join((header, "", base64url.encode(bytes(12)), ciphertext, tag))
    yield "another ciphertext", ".".join((header, "", iv, base64url.encode(bytes(30)), tag))
    for name, payload in {
        "nothing": b"",
        "no JSON": block.encode(),
        "an array": json.dumps([block]).encode(),
        "a member twice": f'{{"pinBlock":"{block}","pinBlock":"{block}"}}'.encode(),
    }.items():
        yield name, encrypt_bytes(payload, sample_issuer.d1_jwk)


def unusable_blocks(sample_issuer: SampleIssuer) -> Iterator[tuple[str, str]]:
    """Yield JWEs that open and do not hold a PIN for this card."""
    block = iso0_block(PIN, PAN)
    yield "a PIN block for another PAN", sample_issuer.pin_jwe(PIN, CARD, PANS[1])
    plaintexts: dict[str, dict[str, object]] = {
        "no member": {},
        "an unknown member": {"pin_block": block},
        "the block twice": {"pinBlock": block, "value": block},
        "a number": {"pinBlock": int(PIN)},
        "null": {"pinBlock": None},
        "the PIN itself": {"pinBlock": PIN},
        "15 digits": {"pinBlock": block[:-1]},
        "18 digits": {"pinBlock": block + "FF"},
        "spaces in hex": {"pinBlock": " ".join((block[:8], block[8:]))},
        "not hex": {"pinBlock": "G" * 16},
        "another PAN beside": {"pinBlock": block, "pan": PANS[1]},
        "a PAN that is no text": {"pinBlock": block, "pan": int(PAN)},
        "format 1": {"pinBlock": "1" + block[1:]},
        "format 3": {"pinBlock": "3" + block[1:]},
        "3 digits": {"pinBlock": raw_block("407")},
        "13 digits": {"pinBlock": raw_block("4071938250614")},
        "no digits": {"pinBlock": raw_block("")},
        "a letter in the PIN": {"pinBlock": raw_block("40A1")},
        "a digit in the fill": {"pinBlock": raw_block("4071", fill="0")},
    }
    for name, plaintext in plaintexts.items():
        yield name, encrypt(plaintext, sample_issuer.d1_jwk)


async def test_every_unusable_jwe_has_the_one_answer(d1_face: D1Face) -> None:
    for name, jwe in unusable_jwes(d1_face.sample_issuer):
        await refused(d1_face, put_body(jwe), refusals.BLOCK, name, "PIN_REFUSED")
    for name, jwe in unusable_blocks(d1_face.sample_issuer):
        await refused(d1_face, put_body(jwe), refusals.BLOCK, name)


async def test_a_spoilt_jwe_does_not_spoil_the_good_one(d1_face: D1Face) -> None:
    card = await d1_face.add_card(pin=PIN)
    good = d1_face.sample_issuer.pin_jwe("9382", card)
    *head, _ = good.split(".")
    spoilt = ".".join((*head, base64url.encode(bytes(16))))
    assert refusal(await d1_face.put(put_body(spoilt), card)) == refusals.BLOCK
    assert (await d1_face.put(put_body(good), card)).status_code == 204
    assert d1_face.counter(card) == 2


@pytest.mark.parametrize(
    "pin", ["0000", "1111", "9999999", "1234", "4321", "0123", "9876", "01234567", "87654321"]
)
async def test_a_weak_pin_is_refused_by_policy(d1_face: D1Face, pin: str) -> None:
    await refused(d1_face, put_body(d1_face.sample_issuer.pin_jwe(pin, CARD)), refusals.POLICY)


@pytest.mark.parametrize("pin", ["407193825", "407193825061", "1" * 9])
async def test_a_length_outside_the_policy_is_refused_by_policy(d1_face: D1Face, pin: str) -> None:
    await refused(d1_face, put_body(d1_face.sample_issuer.pin_jwe(pin, CARD)), refusals.POLICY)


@pytest.mark.parametrize("pin", ["4071", "40719382", "1112", "7890", "1235", "0000001"])
async def test_a_pin_of_4_to_8_digits_is_taken(d1_face: D1Face, pin: str) -> None:
    card = await d1_face.add_card()
    assert (await d1_face.put_pin(pin, card)).status_code == 204
    assert await d1_face.d1.pin(card) == pin


@pytest.mark.parametrize(
    "literal",
    [
        "3DES_SECCOS",
        "SECCOS",
        "SECCOS_3DES",
        "PIN_3DES_SECCOS",
        "pin_block_3des_seccos",
        "PIN Block 3DES Seccos",
    ],
)
async def test_seccos_is_not_offered(d1_face: D1Face, literal: str) -> None:
    await refused(
        d1_face, put_body(d1_face.sample_issuer.pin_jwe(PIN, CARD), literal), refusals.NOT_OFFERED
    )


@pytest.mark.parametrize(
    "literal",
    [
        "ISO0",
        "iso0",
        "Iso0",
        "ISO_0",
        "ISO-0",
        "PIN_ISO0",
        "pin_block_iso0",
        "PINBLOCK_ISO0",
        "PIN Block ISO0",
    ],
)
async def test_every_alias_of_iso0_is_taken_in_any_case(d1_face: D1Face, literal: str) -> None:
    card = await d1_face.add_card()
    body = put_body(d1_face.sample_issuer.pin_jwe(PIN, card), literal)
    assert (await d1_face.put(body, card)).status_code == 204
    assert await d1_face.d1.pin(card) == PIN


@pytest.mark.parametrize("member", ["pinBlock", "pinblock", "block", "value"])
async def test_every_name_of_the_block_is_taken(d1_face: D1Face, member: str) -> None:
    card = await d1_face.add_card()
    jwe = encrypt({member: iso0_block(PIN, PAN).lower()}, d1_face.sample_issuer.d1_jwk)
    assert (await d1_face.put(put_body(jwe), card)).status_code == 204
    assert await d1_face.d1.pin(card) == PIN


async def test_the_right_pan_and_unknown_members_in_the_jwe_are_taken(d1_face: D1Face) -> None:
    card = await d1_face.add_card()
    plaintext = {"pinBlock": iso0_block(PIN, PAN), "pan": PAN, "new": [None, {"in": 2031}]}
    jwe = encrypt(plaintext, d1_face.sample_issuer.d1_jwk)
    assert (await d1_face.put(put_body(jwe), card)).status_code == 204


async def test_unknown_members_and_headers_are_ignored(d1_face: D1Face) -> None:
    card = await d1_face.add_card()
    body = put_body(
        d1_face.sample_issuer.pin_jwe(PIN, card), extra={"deep": [1, None]}, keyVersion=3
    )
    answer = await d1_face.put(body, card, **{"x-issuer-id": "another", "x-new": "new"})
    assert answer.status_code == 204
    assert answer.content == b""


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": ""},
        {"content-type": "application/json; charset=utf-16"},
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "junk; ;;"},
    ],
)
async def test_the_body_is_read_whatever_its_content_type(
    d1_face: D1Face, headers: dict[str, str]
) -> None:
    card = await d1_face.add_card()
    body = put_body(d1_face.sample_issuer.pin_jwe(PIN, card))
    assert (await d1_face.put(body, card, **headers)).status_code == 204


async def test_a_body_in_chunks_is_taken_and_its_length_is_bounded(d1_face: D1Face) -> None:
    card = await d1_face.add_card()
    body = put_body(d1_face.sample_issuer.pin_jwe(PIN, card))
    assert (await d1_face.put(chunks(body, 7), card)).status_code == 204
    await refused(d1_face, chunks(body.ljust(BODY_BYTES_MAX + 1), 1024), refusals.BODY)


async def test_a_body_of_16_kib_is_taken_and_one_byte_more_is_not(d1_face: D1Face) -> None:
    card = await d1_face.add_card()
    body = put_body(d1_face.sample_issuer.pin_jwe(PIN, card))
    assert (await d1_face.put(body.ljust(BODY_BYTES_MAX), card)).status_code == 204
    await refused(d1_face, body.ljust(BODY_BYTES_MAX + 1), refusals.BODY)


async def test_a_jwe_of_8192_characters_is_taken_and_a_longer_one_is_not(d1_face: D1Face) -> None:
    card = await d1_face.add_card()
    longest, longer = (
        jwe_of_length(d1_face.sample_issuer, n) for n in (JWE_CHARS_MAX, JWE_CHARS_MAX + 1)
    )
    assert (await d1_face.put(put_body(longest), card)).status_code == 204
    assert await d1_face.d1.pin(card) == PIN
    await refused(d1_face, put_body(longer), refusals.FORM)


async def test_an_unknown_card_id_is_never_stored(d1_face: D1Face) -> None:
    for card_id in ("card-of-nobody", PAN):
        answer = await d1_face.put(put_body(d1_face.sample_issuer.pin_jwe(PIN, CARD)), card_id)
        assert refusal(answer) == (404, "CARD_NOT_FOUND", "Unknown card")
        actor = d1_face.sample_issuer.client_id
        assert d1_face.audit(answer) == [("pin.set.refused", None, actor, "CARD_NOT_FOUND", None)]


async def test_a_refusal_at_another_issuers_path_is_audited_at_the_callers(d1_face: D1Face) -> None:
    other = await d1_face.open_issuer("otherbank1")
    path = f"/cms/api/v1/issuers/{other.issuer_id}/cards/card-1/pin"
    answer = await d1_face.send("PUT", path, put_body(other.pin_jwe(PIN)))
    assert refusal(answer) == (404, "ISSUER_NOT_FOUND", "Unknown issuer")
    actor = d1_face.sample_issuer.client_id
    assert d1_face.audit(answer) == [("pin.set.refused", None, actor, "ISSUER_NOT_FOUND", None)]


async def test_what_nobody_authenticated_asked_leaves_no_audit_row(d1_face: D1Face) -> None:
    answer = await d1_face.put(b"junk", CARD, Authorization="Bearer junk")
    assert refusal(answer)[0] == 401
    assert d1_face.audit(answer) == []


async def refused(
    d1_face: D1Face,
    body: bytes | AsyncIterator[bytes],
    expected: tuple[int, str, str],
    name: str = "",
    expected_reason: str | None = None,
) -> None:
    """Send *body* as a PIN: it must get *expected*, leave one audit row, and change nothing."""
    await d1_face.forget_failures()
    before = d1_face.stored(CARD)
    answer = await d1_face.put(body, CARD)
    assert (name, *refusal(answer)) == (name, *expected)
    assert d1_face.stored(CARD) == before, name
    actor = d1_face.sample_issuer.client_id
    ((*row, reason, counter),) = d1_face.audit(answer)
    assert (name, *row, counter) == (name, "pin.set.refused", CARD, actor, None)
    # What is wrong with the form of a JWE, the audit says more exactly.
    wanted = expected_reason or REASONS[expected]
    assert reason == wanted or (expected == refusals.FORM and reason in set(JweFault)), (
        name,
        reason,
    )


async def chunks(body: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


def raw_block(digits: str, fill: str = "F") -> str:
    """Build a format-0 block whose PIN need not be one."""
    pin_field = f"0{len(digits):X}{digits}".ljust(16, fill)
    return f"{int(pin_field, 16) ^ int(PAN[-13:-1], 16):016X}"


def encrypt_bytes(payload: bytes, jwk: dict[str, str], **more: object) -> str:
    """Encrypt as the D1 client does, but not only JSON."""
    header = json.dumps({"alg": "ECDH-ES", "enc": "A256GCM", "kid": jwk["kid"], **more})
    key = JWK(**{member: jwk[member] for member in ("kty", "crv", "x", "y")})
    jwe = JWE(payload, header, recipient=key, algs=["ECDH-ES", "A256GCM"])
    return str(jwe.serialize(compact=True))


def jwe_of_length(sample_issuer: SampleIssuer, chars: int) -> str:
    """Encrypt a good PIN block so that the JWE has exactly *chars* characters."""
    block = iso0_block(PIN, PAN)
    for padding in range(chars * 3 // 4 - 500, chars):
        payload = json.dumps({"pinBlock": block, "padding": "x" * padding}).encode()
        # Base64url skips lengths: a header of another length reaches them.
        for cty in ("", "x", "xx", "xxx"):
            jwe = encrypt_bytes(payload, sample_issuer.d1_jwk, cty=cty)
            if len(jwe) == chars:
                return jwe
    raise AssertionError

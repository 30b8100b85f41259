"""What every PinVault promises of a PIN that comes in as a format-0 block and goes out again."""

import json

import pytest

from cms.sandbox.partners.jwe import decrypt
from cms.sandbox.partners.pin_blocks import iso0_pin
from crypto.jose import base64url
from hsm.errors import PinRejected, TypeNotOffered, WeakPinRefused
from hsm.port import PinBlockType, SealedPin, SealedRecord
from tests.contracts.hostile_jwes import forged
from tests.contracts.issuer import LONG_PINS, PIN, Issuer, block, jwe_to
from tests.pans import PAN


@pytest.mark.parametrize("digits", range(4, 13))
@pytest.mark.parametrize("pan", [PAN, "79927398713", "6304000000000000000"])
def test_a_pin_comes_out_as_it_went_in(issuer: Issuer, digits: int, pan: str) -> None:
    issuer = issuer.with_members(policy=LONG_PINS)
    sealed_record = issuer.seal_record(pan)
    pin = "407190283655"[:digits]
    sealed_pin = issuer.set_pin(pin, sealed_record, pan)
    assert issuer.pin(sealed_pin, sealed_record, pan) == pin


def test_the_same_pin_is_sealed_differently_each_time(
    issuer: Issuer, sealed_record: SealedRecord
) -> None:
    assert issuer.set_pin(PIN, sealed_record) != issuer.set_pin(PIN, sealed_record)


def test_an_export_is_fresh_and_its_header_says_no_more_than_it_must(
    issuer: Issuer, sealed_record: SealedRecord, sealed_pin: SealedPin
) -> None:
    exports = [issuer.export(sealed_pin, sealed_record, counter=5).split(".") for _ in range(5)]
    headers = [json.loads(base64url.decode(parts[0])) for parts in exports]
    for header in headers:
        assert header.keys() == {"alg", "enc", "kid", "epk"}
        assert (header["alg"], header["enc"]) == ("ECDH-ES", "A256GCM")
        assert header["kid"] == "d1-2026"
        assert header["epk"].keys() == {"kty", "crv", "x", "y"}
    assert len({header["epk"]["x"] for header in headers}) == len(exports)
    for part in (2, 3, 4):
        assert len({parts[part] for parts in exports}) == len(exports)


def test_an_export_holds_the_block_and_nothing_else(
    issuer: Issuer, sealed_record: SealedRecord, sealed_pin: SealedPin
) -> None:
    export = issuer.export(sealed_pin, sealed_record, counter=5)
    assert decrypt(export, issuer.d1_key) == {"pinBlock": block(PIN)}


def test_the_wire_profile_names_the_member_and_the_case_of_the_block(
    issuer: Issuer, sealed_record: SealedRecord, sealed_pin: SealedPin
) -> None:
    issuer = issuer.with_members(wire={"iso0": {"field": "data", "hex_case": "lower"}})
    export = issuer.export(sealed_pin, sealed_record, counter=5)
    assert decrypt(export, issuer.d1_key) == {"data": block(PIN).lower()}
    assert issuer.set_jwe(issuer.pin_jwe({"data": block(PIN)}), sealed_record)


@pytest.mark.parametrize("member", ["pinBlock", "pinblock", "block", "value"])
def test_the_block_may_come_under_each_alias_and_in_either_case(
    issuer: Issuer, sealed_record: SealedRecord, member: str
) -> None:
    for text in (block(PIN), block(PIN).lower()):
        sealed_pin = issuer.set_jwe(issuer.pin_jwe({member: text}), sealed_record)
        assert issuer.pin(sealed_pin, sealed_record) == PIN


@pytest.mark.parametrize("member", ["pinBlock", "pinblock", "block", "value"])
def test_a_profile_may_choose_an_alias_as_its_member(
    issuer: Issuer, sealed_record: SealedRecord, member: str
) -> None:
    issuer = issuer.with_members(wire={"iso0": {"field": member}})
    sealed_pin = issuer.set_jwe(issuer.pin_jwe({member: block(PIN)}), sealed_record)
    assert issuer.pin(sealed_pin, sealed_record) == PIN


def test_the_plaintext_may_repeat_the_pan_and_say_more(
    issuer: Issuer, sealed_record: SealedRecord
) -> None:
    jwe = issuer.pin_jwe({"pinBlock": block(PIN), "pan": PAN, "nonce": "6e5f"})
    assert issuer.pin(issuer.set_jwe(jwe, sealed_record), sealed_record) == PIN


@pytest.mark.parametrize(
    "header", [{"apu": "QWxpY2U"}, {"apv": "Qm9i"}, {"apu": "QWxpY2U", "apv": "Qm9i"}], ids=repr
)
def test_party_names_in_the_header_enter_the_key(
    issuer: Issuer, sealed_record: SealedRecord, header: dict[str, str]
) -> None:
    jwe = jwe_to(issuer.d1_jwk, {"pinBlock": block(PIN)}, **header, typ="JOSE", cty="json")
    assert issuer.pin(issuer.set_jwe(jwe, sealed_record), sealed_record) == PIN
    without = forged(issuer.d1_jwk, {"pinBlock": block(PIN)}, header)
    with pytest.raises(PinRejected):
        issuer.set_jwe(without, sealed_record)


def test_a_header_member_that_the_profile_names_is_ignored(
    issuer: Issuer, sealed_record: SealedRecord
) -> None:
    jwe = jwe_to(issuer.d1_jwk, {"pinBlock": block(PIN)}, iat="1764000000")
    with pytest.raises(PinRejected):
        issuer.set_jwe(jwe, sealed_record)
    lenient = issuer.with_members(wire={"jwe": {"extra_header_members": ["iat"]}})
    assert lenient.pin(lenient.set_jwe(jwe, sealed_record), sealed_record) == PIN
    another = jwe_to(issuer.d1_jwk, {"pinBlock": block(PIN)}, exp="1764000000")
    with pytest.raises(PinRejected):
        lenient.set_jwe(another, sealed_record)


def test_without_a_profile_only_blocks_of_format_0_are_taken(
    issuer: Issuer, sealed_record: SealedRecord
) -> None:
    jwe = issuer.pin_jwe({"pinBlock": block(PIN)})
    with pytest.raises(TypeNotOffered):
        issuer.change(jwe, sealed_record, PinBlockType.SECCOS)
    assert issuer.change(jwe, sealed_record).values == {}


@pytest.mark.parametrize("pin", ["1111", "00000000", "1234", "456789", "9876", "76543210"])
def test_a_weak_pin_is_refused_unless_the_policy_allows_it(
    issuer: Issuer, sealed_record: SealedRecord, pin: str
) -> None:
    with pytest.raises(WeakPinRefused) as refusal:
        issuer.set_pin(pin, sealed_record)
    assert refusal.value.args == ()
    lax = issuer.with_members(policy={"refuse_repeated": False, "refuse_runs": False})
    assert lax.pin(lax.set_pin(pin, sealed_record), sealed_record) == pin


def test_a_jwe_of_the_hostile_sender_opens_when_nothing_is_wrong_with_it(
    issuer: Issuer, sealed_record: SealedRecord
) -> None:
    jwe = forged(issuer.d1_jwk, {"pinBlock": block(PIN)})
    sealed_pin = issuer.set_jwe(jwe, sealed_record)
    content = decrypt(issuer.export(sealed_pin, sealed_record), issuer.d1_key)
    assert iso0_pin(content["pinBlock"], PAN) == PIN

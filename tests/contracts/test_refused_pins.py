"""Every way in which a PIN can be wrong has one answer."""

import json
from collections.abc import Callable, Mapping

import pytest

from hsm.errors import (
    HsmError,
    KeyMissing,
    PinRejected,
    ValueNotPossible,
    WeakPinRefused,
    WrongPinData,
)
from hsm.port import PublicKeyRole, SealedRecord
from tests.contracts.hostile_jwes import flip_first_of_tag, forged
from tests.contracts.issuer import PIN, Issuer, block, jwe_to
from tests.pans import PAN, PANS

OTHER_PAN = PANS[1]


GOOD = block(PIN)
BAD_PLAINTEXTS: Mapping[str, object] = {
    "not JSON": b"junk",
    "not UTF-8": b'{"pinBlock":"\xff"}',
    "empty": b"",
    "not an object": [GOOD],
    "a bare block": GOOD,
    "a member twice": f'{{"pinBlock":"{GOOD}","pinBlock":"{GOOD}"}}'.encode(),
    "nested deep": b"[" * 4000,
}
BAD_BLOCKS: Mapping[str, object] = {
    "no member": {"pan": PAN},
    "another member": {"PINBLOCK": GOOD},
    "two aliases": {"pinBlock": GOOD, "block": GOOD},
    "null": {"pinBlock": None},
    "a number": {"pinBlock": int(GOOD, 16)},
    "an object": {"pinBlock": {"pinBlock": GOOD}},
    "empty block": {"pinBlock": ""},
    "15 digits": {"pinBlock": GOOD[:-1]},
    "17 digits": {"pinBlock": GOOD + "0"},
    "14 digits": {"pinBlock": GOOD[:-2]},
    "not hexadecimal": {"pinBlock": GOOD[:-1] + "G"},
    "separated": {"pinBlock": f"{GOOD[:8]} {GOOD[8:]}"},
    "0x in front": {"pinBlock": "0x" + GOOD[2:]},
    "a clear PIN": {"pinBlock": PIN},
    "for another PAN": {"pinBlock": block(PIN, OTHER_PAN)},
    "for no PAN": {"pinBlock": "044071FFFFFFFFFF"},
    "control 8": {"pinBlock": block(PIN, control="8")},
    "control F": {"pinBlock": block(PIN, control="F")},
    "length 0": {"pinBlock": block(PIN, length="0")},
    "length 3": {"pinBlock": block("407")},
    "length less than the digits": {"pinBlock": block("40719", length="4")},
    "length more than the digits": {"pinBlock": block(PIN, length="5")},
    "length 13": {"pinBlock": block("4071902836550")},
    "length F": {"pinBlock": block("40719028365502", length="F")},
    "fill 0": {"pinBlock": block(PIN, fill="0")},
    "fill A": {"pinBlock": block(PIN, fill="A")},
    "last fill nibble": {"pinBlock": f"{GOOD[:-1]}{int(GOOD[-1], 16) ^ 1:X}"},
    "a digit that is a letter": {"pinBlock": block("40A1")},
    "format 1": {"pinBlock": "144071902836550C"},
    "format 2": {"pinBlock": "244071FFFFFFFFFF"},
    "format 3": {"pinBlock": block(PIN, control="3", fill="C")},
    "format 4": {"pinBlock": "444071AAAAAAAAAA0123456789ABCDEF"},
    "PAN of another card": {"pinBlock": GOOD, "pan": OTHER_PAN},
    "PAN cut": {"pinBlock": GOOD, "pan": PAN[-13:-1]},
    "PAN as a number": {"pinBlock": GOOD, "pan": int(PAN)},
    "PAN null": {"pinBlock": GOOD, "pan": None},
}
BAD_JWES: Mapping[str, Callable[[Issuer], str]] = {
    "nothing": lambda _: "",
    "a block": lambda _: GOOD,
    "five empty parts": lambda _: "....",
    "not ASCII": lambda issuer: issuer.pin_jwe({"pinBlock": GOOD}) + "é",
    "flipped tag": lambda issuer: flip_first_of_tag(issuer.pin_jwe({"pinBlock": GOOD})),
    "too long": lambda issuer: issuer.pin_jwe({"pinBlock": GOOD, "pad": "x" * 8192}),
    "another key under our kid": lambda issuer: jwe_to(
        {**json.loads(issuer.d1_key.export_public()), "kid": issuer.d1_jwk["kid"]},
        {"pinBlock": GOOD},
    ),
    "our key under another kid": lambda issuer: jwe_to(
        {**issuer.d1_jwk, "kid": "d1.g1"}, {"pinBlock": GOOD}
    ),
    "our intake key": lambda issuer: jwe_to(issuer.intake_jwk, {"pinBlock": GOOD}),
    "our signing key": lambda issuer: jwe_to(
        issuer.vault.public_jwks(PublicKeyRole.TOKEN_SIGN)["keys"][0], {"pinBlock": GOOD}
    ),
    "D1's own key": lambda issuer: jwe_to(
        json.loads(issuer.d1_key.export_public()), {"pinBlock": GOOD}
    ),
    "compressed": lambda issuer: jwe_to(issuer.d1_jwk, {"pinBlock": GOOD}, zip="DEF"),
    "key wrapped": lambda issuer: jwe_to(issuer.d1_jwk, {"pinBlock": GOOD}, alg="ECDH-ES+A256KW"),
    "a shorter key": lambda issuer: jwe_to(issuer.d1_jwk, {"pinBlock": GOOD}, enc="A128GCM"),
    "a point off the curve": lambda issuer: forged(
        issuer.d1_jwk, {"pinBlock": GOOD}, off_curve=True
    ),
}


@pytest.mark.parametrize("plaintext", BAD_PLAINTEXTS.values(), ids=BAD_PLAINTEXTS)
def test_a_pin_that_cannot_be_used_is_refused_without_a_reason(
    issuer: Issuer, sealed_record: SealedRecord, plaintext: object
) -> None:
    jwe = issuer.pin_jwe(plaintext)
    assert_refused_without_a_reason(issuer, jwe, sealed_record, PinRejected)


@pytest.mark.parametrize("plaintext", BAD_BLOCKS.values(), ids=BAD_BLOCKS)
def test_a_block_that_cannot_be_used_is_said_to_be_counted_and_nothing_else(
    issuer: Issuer, sealed_record: SealedRecord, plaintext: object
) -> None:
    assert_refused_without_a_reason(issuer, issuer.pin_jwe(plaintext), sealed_record)


@pytest.mark.parametrize("jwe", BAD_JWES.values(), ids=BAD_JWES)
def test_a_jwe_that_cannot_be_used_is_refused_in_the_same_words(
    issuer: Issuer, sealed_record: SealedRecord, jwe: Callable[[Issuer], str]
) -> None:
    assert_refused_without_a_reason(issuer, jwe(issuer), sealed_record, PinRejected)


@pytest.mark.parametrize("pin", ["4071", "40719", "407190283", "407190283655"])
def test_a_length_that_the_policy_does_not_take_is_refused_as_a_weak_pin_is(
    issuer: Issuer, sealed_record: SealedRecord, pin: str
) -> None:
    strict = issuer.with_members(policy={"length_min": 6})
    with pytest.raises(WeakPinRefused):
        strict.set_pin(pin, sealed_record)
    assert strict.set_pin("407190", sealed_record)


@pytest.mark.parametrize("pan", [PAN, OTHER_PAN, "4111999999111111", "0000000000000000"])
def test_a_length_that_the_policy_does_not_take_says_nothing_of_the_pan(
    issuer: Issuer, sealed_record: SealedRecord, pan: str
) -> None:
    for pin in ("407190283655", "407190283"):
        with pytest.raises(WeakPinRefused):
            issuer.set_jwe(issuer.pin_jwe({"pinBlock": block(pin, pan)}), sealed_record)


@pytest.mark.parametrize(
    ("asked", "refusal"),
    [
        ({"prw": True}, ValueNotPossible),
        ({"pvv": {"key_index": 1, "key_generation": 99}}, KeyMissing),
    ],
    ids=["a PRW that only D1 makes", "a key that is not there"],
)
def test_what_no_pin_of_a_card_can_get_is_said_of_every_block(
    issuer: Issuer,
    sealed_record: SealedRecord,
    asked: Mapping[str, object],
    refusal: type[HsmError],
) -> None:
    asking = issuer.with_members(seccos={}).with_members(verification=asked)
    for pin, pan in ((PIN, PAN), (PIN, OTHER_PAN), ("1111", PAN), ("1111", OTHER_PAN)):
        with pytest.raises(refusal):
            asking.set_jwe(asking.pin_jwe({"pinBlock": block(pin, pan)}), sealed_record)


def assert_refused_without_a_reason(
    issuer: Issuer, jwe: str, sealed_record: SealedRecord, kind: type[HsmError] = WrongPinData
) -> None:
    with pytest.raises(HsmError) as refusal:
        issuer.set_jwe(jwe, sealed_record)
    error = refusal.value
    assert (type(error), error.args, str(error)) == (kind, (), "")
    assert error.__context__ is None or error.__suppress_context__
    assert error.__cause__ is None
    assert not getattr(error, "__notes__", [])

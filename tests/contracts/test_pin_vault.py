"""What every PinVault promises. Put another implementation under it by a row in ``vault``."""

import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from jwcrypto.jwk import JWK
from jwcrypto.jws import JWS

from cms.sandbox.partners.jwe import decrypt
from cms.sandbox.partners.pin_blocks import iso0_pin
from crypto.jose import base64url
from hsm.errors import (
    CardIdHoldsPan,
    ConfigRefused,
    HsmError,
    LuhnInvalid,
    PanRejected,
    PinRejected,
    SealBroken,
    TypeNotOffered,
    VaultUnavailable,
    WeakPinRefused,
)
from hsm.keys import OWN_ROLES, KeyKind, KeyRole
from hsm.local import vault_over
from hsm.port import CardRef, ConfigKind, PinBlockType, PinVault, SealedConfig, SealedPan, SealedPin
from hsm.vault import Vault
from tests.contracts.edits import EDITS, Edit, every_change, flip
from tests.contracts.issuer import (
    CARD,
    ISSUER_ID,
    LONG_PINS,
    PIN,
    Issuer,
    block,
    jwe_to,
    open_issuer,
    page_key,
)
from tests.contracts.software_token import SoftwareToken
from tests.issuer_records import PAN, PANS, config

OTHER_PAN = PANS[1]
EC_ROLES = [role for role in OWN_ROLES if role.kind is KeyKind.EC_P256]
VERBS = {
    ConfigKind.WIRE: ("set_pin", "export"),
    ConfigKind.POLICY: ("set_pin", "digits"),
    ConfigKind.RECIPIENT: ("export",),
}


@pytest.fixture(params=["SoftHSM2", "NSS softoken", "software token"], scope="session")
def vault(request: pytest.FixtureRequest) -> PinVault:
    """Each implementation, with a key of every role and no other."""
    if request.param == "software token":
        return Vault(SoftwareToken(), lambda: datetime.now(UTC))
    name = "token" if request.param == "SoftHSM2" else "second_token"
    return vault_over(request.getfixturevalue(name))


@pytest.fixture(scope="session")
def issuer(vault: PinVault) -> Issuer:
    return open_issuer(vault)


@pytest.fixture(scope="session")
def sealed_pan(issuer: Issuer) -> SealedPan:
    return issuer.seal_pan()


@pytest.fixture(scope="session")
def sealed_pin(issuer: Issuer, sealed_pan: SealedPan) -> SealedPin:
    """The PIN of change 5 of the card."""
    return issuer.set_pin(PIN, sealed_pan, counter=5)


# PANs


def test_a_sealed_pan_comes_with_its_last_four_digits_and_hides_the_others(issuer: Issuer) -> None:
    sealed = issuer.vault.seal_pan(issuer.pan_jwe(PAN), CARD)
    assert sealed.last_four == "1111"
    for form in (PAN.encode(), bytes.fromhex(PAN), int(PAN).to_bytes(7)):
        assert form not in bytes(sealed.sealed_pan)


def test_the_same_pan_is_sealed_differently_each_time(issuer: Issuer) -> None:
    assert issuer.seal_pan() != issuer.seal_pan()


@pytest.mark.parametrize("pan", ["40000002", "79927398713", "6304000000000000000"])
def test_a_pan_has_8_to_19_digits(issuer: Issuer, pan: str) -> None:
    assert issuer.vault.seal_pan(issuer.pan_jwe(pan), CARD).last_four == pan[-4:]


@pytest.mark.parametrize("pan", ["4111111111111112", "1411111111111111", "40000003"])
def test_a_pan_whose_check_digit_is_wrong_is_refused(issuer: Issuer, pan: str) -> None:
    with pytest.raises(LuhnInvalid):
        issuer.seal_pan(pan)


HOLDING_THE_PAN = [PAN, f"card-{PAN}", f"9{PAN}9"]


@pytest.mark.parametrize("card_id", HOLDING_THE_PAN)
def test_a_card_id_does_not_hold_the_pan(issuer: Issuer, card_id: str) -> None:
    with pytest.raises(CardIdHoldsPan):
        issuer.seal_pan(PAN, CardRef(ISSUER_ID, card_id))


@pytest.mark.parametrize("plastic_id", HOLDING_THE_PAN)
def test_no_other_id_of_a_card_holds_the_pan(issuer: Issuer, plastic_id: str) -> None:
    jwe = issuer.pan_jwe(PAN)
    with pytest.raises(CardIdHoldsPan):
        issuer.vault.seal_pan(jwe, CARD, ("1234567890", plastic_id))
    assert issuer.vault.seal_pan(jwe, CARD, ("1234567890", PAN[1:])).last_four == PAN[-4:]


@pytest.mark.parametrize(
    "plaintext",
    [
        {"pan": ""},
        {"pan": "4000006"},
        {"pan": "4111 1111 1111 1111"},
        {"pan": "41111111111111111111"},
        {"pan": "４１１１１１１１１１１１１１１１"},  # noqa: RUF001 - digits that are not ASCII
        {"pan": 4111111111111111},
        {"pan": None},
        {"PAN": PAN},
        {},
        [PAN],
        PAN.encode(),
        b"",
        b'{"pan":"4111111111111111","pan":"4111111111111111"}',
        b"\xff\xfe",
    ],
    ids=repr,
)
def test_what_is_not_a_pan_is_refused(issuer: Issuer, plaintext: object) -> None:
    with pytest.raises(PanRejected) as refusal:
        issuer.vault.seal_pan(jwe_to(issuer.intake_jwk, plaintext), CARD)
    assert refusal.type is PanRejected


@pytest.mark.parametrize(
    "jwe",
    [
        lambda issuer: jwe_to(issuer.d1_jwk, {"pan": PAN}),
        lambda issuer: jwe_to({**issuer.intake_jwk, "kid": "unknown"}, {"pan": PAN}),
        lambda issuer: jwe_to({**issuer.d1_jwk, "kid": issuer.intake_jwk["kid"]}, {"pan": PAN}),
        lambda issuer: flip_last(issuer.pan_jwe(PAN)),
        lambda issuer: issuer.pan_jwe(PAN) + ".",
        lambda _: "",
        lambda _: "....",
        lambda _: PAN,
        lambda _: "é" * 9000,
    ],
    ids=["d1 key", "no such kid", "kid of another key", "flipped", "6 parts", *"abcd"],
)
def test_what_is_not_a_jwe_to_the_intake_key_is_refused(
    issuer: Issuer, jwe: Callable[[Issuer], str]
) -> None:
    with pytest.raises(PanRejected) as refusal:
        issuer.vault.seal_pan(jwe(issuer), CARD)
    assert refusal.type is PanRejected


# A PIN in and out


@pytest.mark.parametrize("digits", range(4, 13))
@pytest.mark.parametrize("pan", [PAN, "79927398713", "6304000000000000000"])
def test_a_pin_comes_out_as_it_went_in(issuer: Issuer, digits: int, pan: str) -> None:
    issuer = issuer.configured(ConfigKind.POLICY, LONG_PINS)
    sealed_pan = issuer.seal_pan(pan)
    pin = "407190283655"[:digits]
    sealed_pin = issuer.set_pin(pin, sealed_pan, pan)
    assert issuer.pin(sealed_pin, sealed_pan, pan) == pin


def test_the_same_pin_is_sealed_differently_each_time(
    issuer: Issuer, sealed_pan: SealedPan
) -> None:
    assert issuer.set_pin(PIN, sealed_pan) != issuer.set_pin(PIN, sealed_pan)


def test_an_export_is_fresh_and_its_header_says_no_more_than_it_must(
    issuer: Issuer, sealed_pan: SealedPan, sealed_pin: SealedPin
) -> None:
    exports = [issuer.export(sealed_pin, sealed_pan, counter=5).split(".") for _ in range(5)]
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
    issuer: Issuer, sealed_pan: SealedPan, sealed_pin: SealedPin
) -> None:
    export = issuer.export(sealed_pin, sealed_pan, counter=5)
    assert decrypt(export, issuer.d1_key) == {"pinBlock": block(PIN)}


def test_the_wire_profile_names_the_member_and_the_case_of_the_block(
    issuer: Issuer, sealed_pan: SealedPan, sealed_pin: SealedPin
) -> None:
    issuer = issuer.configured(ConfigKind.WIRE, {"iso0": {"field": "data", "hex_case": "lower"}})
    export = issuer.export(sealed_pin, sealed_pan, counter=5)
    assert decrypt(export, issuer.d1_key) == {"data": block(PIN).lower()}
    assert issuer.set_jwe(issuer.pin_jwe({"data": block(PIN)}), sealed_pan)


@pytest.mark.parametrize("member", ["pinBlock", "pinblock", "block", "value"])
def test_the_block_may_come_under_each_alias_and_in_either_case(
    issuer: Issuer, sealed_pan: SealedPan, member: str
) -> None:
    for text in (block(PIN), block(PIN).lower()):
        sealed_pin = issuer.set_jwe(issuer.pin_jwe({member: text}), sealed_pan)
        assert issuer.pin(sealed_pin, sealed_pan) == PIN


@pytest.mark.parametrize("member", ["pinBlock", "pinblock", "block", "value"])
def test_a_profile_may_choose_an_alias_as_its_member(
    issuer: Issuer, sealed_pan: SealedPan, member: str
) -> None:
    issuer = issuer.configured(ConfigKind.WIRE, {"iso0": {"field": member}})
    sealed_pin = issuer.set_jwe(issuer.pin_jwe({member: block(PIN)}), sealed_pan)
    assert issuer.pin(sealed_pin, sealed_pan) == PIN


def test_the_plaintext_may_repeat_the_pan_and_say_more(
    issuer: Issuer, sealed_pan: SealedPan
) -> None:
    jwe = issuer.pin_jwe({"pinBlock": block(PIN), "pan": PAN, "nonce": "6e5f"})
    assert issuer.pin(issuer.set_jwe(jwe, sealed_pan), sealed_pan) == PIN


@pytest.mark.parametrize(
    "header", [{"apu": "QWxpY2U"}, {"apv": "Qm9i"}, {"apu": "QWxpY2U", "apv": "Qm9i"}], ids=repr
)
def test_party_names_in_the_header_enter_the_key(
    issuer: Issuer, sealed_pan: SealedPan, header: dict[str, str]
) -> None:
    jwe = jwe_to(issuer.d1_jwk, {"pinBlock": block(PIN)}, **header, typ="JOSE", cty="json")
    assert issuer.pin(issuer.set_jwe(jwe, sealed_pan), sealed_pan) == PIN
    without = forged(issuer.d1_jwk, {"pinBlock": block(PIN)}, header)
    with pytest.raises(PinRejected):
        issuer.set_jwe(without, sealed_pan)


def test_a_header_member_that_the_profile_names_is_ignored(
    issuer: Issuer, sealed_pan: SealedPan
) -> None:
    jwe = jwe_to(issuer.d1_jwk, {"pinBlock": block(PIN)}, iat="1764000000")
    with pytest.raises(PinRejected):
        issuer.set_jwe(jwe, sealed_pan)
    lenient = issuer.configured(ConfigKind.WIRE, {"jwe": {"extra_header_members": ["iat"]}})
    assert lenient.pin(lenient.set_jwe(jwe, sealed_pan), sealed_pan) == PIN
    another = jwe_to(issuer.d1_jwk, {"pinBlock": block(PIN)}, exp="1764000000")
    with pytest.raises(PinRejected):
        lenient.set_jwe(another, sealed_pan)


def test_without_a_profile_only_blocks_of_format_0_are_taken(
    issuer: Issuer, sealed_pan: SealedPan
) -> None:
    jwe = issuer.pin_jwe({"pinBlock": block(PIN)})
    with pytest.raises(TypeNotOffered):
        issuer.change(jwe, sealed_pan, PinBlockType.SECCOS)
    assert issuer.change(jwe, sealed_pan).values == {}


@pytest.mark.parametrize("pin", ["1111", "00000000", "1234", "456789", "9876", "76543210"])
def test_a_weak_pin_is_refused_unless_the_policy_allows_it(
    issuer: Issuer, sealed_pan: SealedPan, pin: str
) -> None:
    with pytest.raises(WeakPinRefused) as refusal:
        issuer.set_pin(pin, sealed_pan)
    assert refusal.value.args == ()
    lax = issuer.configured(ConfigKind.POLICY, {"refuse_repeated": False, "refuse_runs": False})
    assert lax.pin(lax.set_pin(pin, sealed_pan), sealed_pan) == pin


# Every way in which a PIN can be wrong has one answer

GOOD = block(PIN)
BAD_PLAINTEXTS: Mapping[str, object] = {
    "not JSON": b"junk",
    "not UTF-8": b'{"pinBlock":"\xff"}',
    "empty": b"",
    "not an object": [GOOD],
    "a bare block": GOOD,
    "a member twice": f'{{"pinBlock":"{GOOD}","pinBlock":"{GOOD}"}}'.encode(),
    "nested deep": b"[" * 4000,
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
    "longer than the policy": {"pinBlock": block("407190283")},
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
    "flipped tag": lambda issuer: flip_last(issuer.pin_jwe({"pinBlock": GOOD})),
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
        issuer.vault.public_jwks(KeyRole.TOKEN_SIGN)["keys"][0], {"pinBlock": GOOD}
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
    issuer: Issuer, sealed_pan: SealedPan, plaintext: object
) -> None:
    assert_refused_without_a_reason(issuer, issuer.pin_jwe(plaintext), sealed_pan)


@pytest.mark.parametrize("jwe", BAD_JWES.values(), ids=BAD_JWES)
def test_a_jwe_that_cannot_be_used_is_refused_in_the_same_words(
    issuer: Issuer, sealed_pan: SealedPan, jwe: Callable[[Issuer], str]
) -> None:
    assert_refused_without_a_reason(issuer, jwe(issuer), sealed_pan)


def test_a_pin_shorter_than_the_policy_is_refused_in_the_same_words(
    issuer: Issuer, sealed_pan: SealedPan
) -> None:
    strict = issuer.configured(ConfigKind.POLICY, {"length_min": 6})
    assert_refused_without_a_reason(strict, strict.pin_jwe({"pinBlock": GOOD}), sealed_pan)
    assert strict.set_pin("407190", sealed_pan)


def assert_refused_without_a_reason(issuer: Issuer, jwe: str, sealed_pan: SealedPan) -> None:
    with pytest.raises(HsmError) as refusal:
        issuer.set_jwe(jwe, sealed_pan)
    error = refusal.value
    assert (type(error), error.args, str(error)) == (PinRejected, (), "")
    assert error.__suppress_context__
    assert error.__cause__ is None
    assert not getattr(error, "__notes__", [])


# Sealed values belong to one card and one change


@pytest.mark.parametrize("counter", [0, 4, 6, 5 + 2**32])
def test_a_pin_does_not_open_at_another_counter(
    issuer: Issuer, sealed_pan: SealedPan, sealed_pin: SealedPin, counter: int
) -> None:
    assert issuer.pin(sealed_pin, sealed_pan, counter=5) == PIN
    with pytest.raises(SealBroken):
        issuer.export(sealed_pin, sealed_pan, counter=counter)


@pytest.mark.parametrize(
    "card",
    [CardRef(ISSUER_ID, "card-2"), CardRef(ISSUER_ID, "card-"), CardRef(ISSUER_ID, "card-11")],
)
def test_sealed_values_do_not_open_for_another_card(
    issuer: Issuer, sealed_pan: SealedPan, sealed_pin: SealedPin, card: CardRef
) -> None:
    pan_of_card = issuer.seal_pan(PAN, card)
    for pin, pan in ((sealed_pin, sealed_pan), (sealed_pin, pan_of_card)):
        with pytest.raises(SealBroken):
            issuer.export(pin, pan, card, 5)
    with pytest.raises(SealBroken):
        issuer.set_pin(PIN, sealed_pan, card=card)


def test_sealed_values_do_not_open_for_another_issuer(
    vault: PinVault, issuer: Issuer, sealed_pan: SealedPan, sealed_pin: SealedPin
) -> None:
    card = CardRef("testbank02", CARD.card_id)
    theirs = replace(
        issuer,
        config={
            kind: vault.seal_config(replace(sealed, issuer_id=card.issuer_id))
            for kind, sealed in issuer.config.items()
        },
    )
    their_pan = theirs.seal_pan(PAN, card)
    assert theirs.pin(theirs.set_pin(PIN, their_pan, card=card), their_pan, card=card) == PIN
    for pan in (sealed_pan, their_pan):
        with pytest.raises(SealBroken):
            theirs.export(sealed_pin, pan, card, 5)
    with pytest.raises(SealBroken):
        theirs.set_pin(PIN, sealed_pan, card=card)


def test_card_and_issuer_cannot_borrow_characters_from_each_other(
    vault: PinVault, issuer: Issuer
) -> None:
    # "testbank01" + "23" and "testbank012" + "3" would read the same without their lengths;
    # the port refuses an issuer of 11 characters, so only the card ids can be tried.
    first, second = CardRef(ISSUER_ID, "23"), CardRef(ISSUER_ID, "3")
    sealed_pan = issuer.seal_pan(PAN, first)
    with pytest.raises(SealBroken):
        issuer.set_pin(PIN, sealed_pan, card=second)
    with pytest.raises(ValueError, match="not a card reference"):
        CardRef(ISSUER_ID + "2", "3")


def test_no_byte_of_a_sealed_pin_can_be_changed(
    issuer: Issuer, sealed_pan: SealedPan, sealed_pin: SealedPin
) -> None:
    for changed in every_change(sealed_pin):
        with pytest.raises(SealBroken):
            issuer.export(SealedPin(changed), sealed_pan, counter=5)
    assert issuer.pin(sealed_pin, sealed_pan, counter=5) == PIN


def test_no_byte_of_a_sealed_pan_can_be_changed(
    issuer: Issuer, sealed_pan: SealedPan, sealed_pin: SealedPin
) -> None:
    for changed in every_change(sealed_pan):
        with pytest.raises(SealBroken):
            issuer.export(sealed_pin, SealedPan(changed), counter=5)
    with pytest.raises(SealBroken):
        issuer.set_pin(PIN, SealedPan(flip(sealed_pan, len(sealed_pan) - 1, 1)))
    assert issuer.pin(sealed_pin, sealed_pan, counter=5) == PIN


def test_a_sealed_value_under_a_key_that_the_token_lacks_is_a_missing_key(
    issuer: Issuer, sealed_pan: SealedPan, sealed_pin: SealedPin
) -> None:
    # Another process may have sealed it under a generation that this one has not seen yet.
    policy = issuer.config[ConfigKind.POLICY]
    later_policy = replace(policy, key_label="config-mac.g7")
    with pytest.raises(VaultUnavailable):
        issuer.export(SealedPin(sealed_pin.replace(b"g1", b"g7")), sealed_pan, counter=5)
    with pytest.raises(VaultUnavailable):
        issuer.export(sealed_pin, SealedPan(sealed_pan.replace(b"g1", b"g7")), counter=5)
    with pytest.raises(VaultUnavailable):
        issuer.with_config(ConfigKind.POLICY, later_policy).set_pin(PIN, sealed_pan)


def test_sealed_values_cannot_take_each_others_place(
    issuer: Issuer, sealed_pan: SealedPan, sealed_pin: SealedPin
) -> None:
    with pytest.raises(SealBroken):
        issuer.export(sealed_pin, SealedPan(sealed_pin), counter=5)
    with pytest.raises(SealBroken):
        issuer.export(SealedPin(sealed_pan), sealed_pan, counter=5)


def test_no_two_cards_can_swap_their_pins_or_their_pans(issuer: Issuer) -> None:
    cards = [CardRef(ISSUER_ID, f"card-{number}") for number in range(12)]
    pans = {card: issuer.seal_pan(PAN, card) for card in cards}
    pins = {card: issuer.set_pin(PIN, pans[card], card=card) for card in cards}
    for one, other in itertools.permutations(cards, 2):
        with pytest.raises(SealBroken):
            issuer.export(pins[other], pans[one], one)
        with pytest.raises(SealBroken):
            issuer.export(pins[one], pans[other], one)
    for card in cards:
        assert issuer.pin(pins[card], pans[card], card=card) == PIN


def test_a_pin_does_not_open_with_another_pan_of_the_same_card(
    issuer: Issuer, sealed_pin: SealedPin
) -> None:
    renewed = issuer.seal_pan(OTHER_PAN)
    with pytest.raises(SealBroken):
        issuer.export(sealed_pin, renewed, counter=5)


# Configuration


@pytest.mark.parametrize("edit", [lambda *_: None, *EDITS.values()], ids=["missing", *EDITS])
@pytest.mark.parametrize(
    ("kind", "verb"), [(k, verb) for k, verbs in VERBS.items() for verb in verbs]
)
def test_a_configuration_counts_only_as_it_was_sealed(
    issuer: Issuer,
    sealed_pan: SealedPan,
    sealed_pin: SealedPin,
    kind: ConfigKind,
    verb: str,
    edit: Edit | Callable[[Issuer, SealedConfig], None],
) -> None:
    _, key = page_key()
    issuer = issuer.configured(ConfigKind.POLICY, {"text_reveal": True})

    def use(with_config: Issuer) -> bytes | str:
        if verb == "set_pin":
            return with_config.set_pin(PIN, sealed_pan)
        if verb == "digits":
            return with_config.digits(sealed_pin, sealed_pan, key, counter=5)
        return with_config.export(sealed_pin, sealed_pan, counter=5)

    assert use(issuer)
    with pytest.raises(ConfigRefused):
        use(issuer.with_config(kind, edit(issuer, issuer.config[kind])))
    assert use(issuer)


def test_sealing_a_sealed_configuration_changes_nothing(issuer: Issuer) -> None:
    sealed = issuer.config[ConfigKind.POLICY]
    assert issuer.vault.seal_config(sealed) == sealed


@pytest.mark.parametrize("role", EC_ROLES)
@pytest.mark.parametrize("kid", ["theirs", None])
def test_none_of_our_own_keys_can_be_made_a_recipient(
    issuer: Issuer, role: KeyRole, kid: str | None
) -> None:
    ours = issuer.vault.public_jwks(role)["keys"][0]
    jwk = {member: ours[member] for member in ("kty", "crv", "x", "y")} | (
        {"kid": kid} if kid else {}
    )
    with pytest.raises(ConfigRefused, match="our own keys"):
        issuer.configured(ConfigKind.RECIPIENT, {"jwk": jwk})


@pytest.mark.parametrize("inner", ["encrypted", "3des", "", None])
def test_a_profile_whose_block_is_not_clear_inside_the_jwe_is_refused(
    issuer: Issuer, inner: str | None
) -> None:
    with pytest.raises(ConfigRefused, match=r"iso0\.inner"):
        issuer.configured(ConfigKind.WIRE, {"iso0": {"inner": inner}})


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (ConfigKind.POLICY, {"length_min": 3}),
        (ConfigKind.POLICY, {"length_min": 9, "length_max": 8}),
        (ConfigKind.WIRE, {"iso0": {"pan_field": "pinBlock"}}),
        (ConfigKind.WIRE, {"jwe": {"extra_header_members": ["zip"]}}),
        (ConfigKind.WIRE, {"jwe": {"extra_header_members": ["iat", "crit"]}}),
        (ConfigKind.RECIPIENT, {}),
        (
            ConfigKind.RECIPIENT,
            {"jwk": json.loads(JWK.generate(kty="EC", crv="P-384").export_public())},
        ),
        (
            ConfigKind.RECIPIENT,
            {"jwk": json.loads(JWK.generate(kty="EC", crv="P-256").export_private())},
        ),
    ],
)
def test_a_configuration_that_could_not_work_is_not_sealed(
    issuer: Issuer, kind: ConfigKind, body: Mapping[str, object]
) -> None:
    with pytest.raises(ConfigRefused):
        issuer.configured(kind, body)


@pytest.mark.parametrize(
    "dates",
    [
        (datetime(2030, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC)),
        (datetime(2030, 1, 2, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC)),
    ],
    ids=["empty", "backwards"],
)
def test_a_configuration_that_is_never_valid_is_not_sealed(
    vault: PinVault, dates: tuple[datetime, datetime]
) -> None:
    with pytest.raises(ConfigRefused, match="valid_from, valid_until"):
        vault.seal_config(config(ISSUER_ID, ConfigKind.POLICY, {}, 1, *dates))


# Public keys, access tokens, health


def test_an_access_token_verifies_with_the_published_key(vault: PinVault) -> None:
    claims = {"iss": "https://pins.test", "exp": 2**31, "cnf": {"x5t#S256": "abc"}}
    jwks = vault.public_jwks(KeyRole.TOKEN_SIGN)["keys"]
    token = JWS.from_jose_token(vault.sign_token(claims))
    token.allowed_algs = ["ES256"]
    token.verify(JWK(**jwks[0]))
    assert json.loads(token.payload) == claims
    assert token.jose_header == {"alg": "ES256", "typ": "at+jwt", "kid": jwks[0]["kid"]}


@pytest.mark.parametrize("role", EC_ROLES)
def test_published_keys_are_public_and_named_by_their_thumbprint(
    vault: PinVault, role: KeyRole
) -> None:
    (key,) = vault.public_jwks(role)["keys"]
    assert key.keys() == {"kty", "crv", "x", "y", "kid", "use", "alg"}
    assert JWK(**key).thumbprint() == key["kid"]
    expected = ("sig", "ES256") if role is KeyRole.TOKEN_SIGN else ("enc", "ECDH-ES")
    assert (key["use"], key["alg"]) == expected


@pytest.mark.parametrize("role", [role for role in OWN_ROLES if role not in EC_ROLES])
def test_a_secret_key_is_never_published(vault: PinVault, role: KeyRole) -> None:
    assert vault.public_jwks(role) == {"keys": []}


def test_a_vault_in_order_is_healthy(vault: PinVault) -> None:
    vault.health()


# Helpers


def flip_last(jwe: str) -> str:
    """Change the first character of the last part."""
    head, _, tag = jwe.rpartition(".")
    return f"{head}.{'B' if tag[0] == 'A' else 'A'}{tag[1:]}"


def forged(
    jwk: Mapping[str, str],
    plaintext: object,
    header: Mapping[str, str] | None = None,
    *,
    off_curve: bool = False,
) -> str:
    """Encrypt as a sender does who leaves party names out of the key, or sends a wrong point."""
    ephemeral = ec.generate_private_key(ec.SECP256R1())
    point = ephemeral.public_key().public_numbers()
    x, y = (base64url.encode(number.to_bytes(32)) for number in (point.x, point.y))
    epk = {"kty": "EC", "crv": "P-256", "x": x, "y": x if off_curve else y}
    members = {"alg": "ECDH-ES", "enc": "A256GCM", "kid": jwk["kid"], "epk": epk, **(header or {})}
    protected = base64url.encode(json.dumps(members).encode())
    ours = JWK(**jwk).get_op_key("wrapKey")
    info = b"\0\0\0\7A256GCM" + bytes(8) + (256).to_bytes(4)
    key = ConcatKDFHash(hashes.SHA256(), 32, info).derive(ephemeral.exchange(ec.ECDH(), ours))
    sealed = AESGCM(key).encrypt(bytes(12), json.dumps(plaintext).encode(), protected.encode())
    tail = map(base64url.encode, (bytes(12), sealed[:-16], sealed[-16:]))
    return ".".join((protected, "", *tail))


def test_the_forger_of_this_file_writes_jwes_that_open(
    issuer: Issuer, sealed_pan: SealedPan
) -> None:
    jwe = forged(issuer.d1_jwk, {"pinBlock": GOOD})
    sealed_pin = issuer.set_jwe(jwe, sealed_pan)
    content = decrypt(issuer.export(sealed_pin, sealed_pan), issuer.d1_key)
    assert iso0_pin(content["pinBlock"], PAN) == PIN

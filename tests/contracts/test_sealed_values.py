"""Sealed values belong to one card and one change."""

import itertools

import pytest

from hsm.errors import SealBroken, VaultUnavailable
from hsm.port import CardRef, SealedPin, SealedRecord
from tests.contracts.edits import every_change, flip
from tests.contracts.issuer import (
    CARD,
    ISSUER_ID,
    OTHER_ISSUER_ID,
    PIN,
    Issuer,
    open_issuer,
)
from tests.pans import PAN, PANS

OTHER_PAN = PANS[1]


@pytest.mark.parametrize("counter", [0, 4, 6, 5 + 2**32])
def test_a_pin_does_not_open_at_another_counter(
    issuer: Issuer, sealed_record: SealedRecord, sealed_pin: SealedPin, counter: int
) -> None:
    assert issuer.pin(sealed_pin, sealed_record, counter=5) == PIN
    with pytest.raises(SealBroken):
        issuer.export(sealed_pin, sealed_record, counter=counter)


@pytest.mark.parametrize(
    "card",
    [CardRef(ISSUER_ID, "card-2"), CardRef(ISSUER_ID, "card-"), CardRef(ISSUER_ID, "card-11")],
)
def test_sealed_values_do_not_open_for_another_card(
    issuer: Issuer, sealed_record: SealedRecord, sealed_pin: SealedPin, card: CardRef
) -> None:
    pan_of_card = issuer.seal_record(PAN, card)
    for pin, pan in ((sealed_pin, sealed_record), (sealed_pin, pan_of_card)):
        with pytest.raises(SealBroken):
            issuer.export(pin, pan, card, 5)
    with pytest.raises(SealBroken):
        issuer.set_pin(PIN, sealed_record, card=card)


def test_sealed_values_do_not_open_for_another_issuer(
    issuer: Issuer, sealed_record: SealedRecord, sealed_pin: SealedPin
) -> None:
    theirs = open_issuer(issuer.host.another(), OTHER_ISSUER_ID)
    card = CardRef(OTHER_ISSUER_ID, CARD.card_id)
    their_pan = theirs.seal_record(PAN, card)
    assert theirs.pin(theirs.set_pin(PIN, their_pan, card=card), their_pan, card=card) == PIN
    for pan in (sealed_record, their_pan):
        with pytest.raises(SealBroken):
            theirs.export(sealed_pin, pan, card, 5)
    with pytest.raises(SealBroken):
        theirs.set_pin(PIN, sealed_record, card=card)


def test_card_and_issuer_cannot_borrow_characters_from_each_other(issuer: Issuer) -> None:
    # "testbank01" + "23" and "testbank012" + "3" would read the same without their lengths;
    # the port refuses an issuer of 11 characters, so only the card ids can be tried.
    first, second = CardRef(ISSUER_ID, "23"), CardRef(ISSUER_ID, "3")
    sealed_record = issuer.seal_record(PAN, first)
    with pytest.raises(SealBroken):
        issuer.set_pin(PIN, sealed_record, card=second)
    with pytest.raises(ValueError, match="not a card reference"):
        CardRef(ISSUER_ID + "2", "3")


def test_no_byte_of_a_sealed_pin_can_be_changed(
    issuer: Issuer, sealed_record: SealedRecord, sealed_pin: SealedPin
) -> None:
    for changed in every_change(sealed_pin):
        with pytest.raises(SealBroken):
            issuer.export(SealedPin(changed), sealed_record, counter=5)
    assert issuer.pin(sealed_pin, sealed_record, counter=5) == PIN


def test_no_byte_of_a_sealed_record_can_be_changed(
    issuer: Issuer, sealed_record: SealedRecord, sealed_pin: SealedPin
) -> None:
    for changed in every_change(sealed_record):
        with pytest.raises(SealBroken):
            issuer.export(sealed_pin, SealedRecord(changed), counter=5)
    with pytest.raises(SealBroken):
        issuer.set_pin(PIN, SealedRecord(flip(sealed_record, len(sealed_record) - 1, 1)))
    assert issuer.pin(sealed_pin, sealed_record, counter=5) == PIN


def test_a_sealed_value_under_a_key_that_the_hsm_token_lacks_is_a_missing_key(
    issuer: Issuer, sealed_record: SealedRecord, sealed_pin: SealedPin
) -> None:
    # Another process may have sealed it under a generation that this one has not seen yet.
    with pytest.raises(VaultUnavailable):
        issuer.export(SealedPin(sealed_pin.replace(b"g1", b"g7")), sealed_record, counter=5)
    with pytest.raises(VaultUnavailable):
        issuer.export(sealed_pin, SealedRecord(sealed_record.replace(b"g1", b"g7")), counter=5)


def test_sealed_values_cannot_take_each_others_place(
    issuer: Issuer, sealed_record: SealedRecord, sealed_pin: SealedPin
) -> None:
    with pytest.raises(SealBroken):
        issuer.export(sealed_pin, SealedRecord(sealed_pin), counter=5)
    with pytest.raises(SealBroken):
        issuer.export(SealedPin(sealed_record), sealed_record, counter=5)


def test_no_two_cards_can_swap_their_pins_or_their_pans(issuer: Issuer) -> None:
    cards = [CardRef(ISSUER_ID, f"card-{number}") for number in range(12)]
    pans = {card: issuer.seal_record(PAN, card) for card in cards}
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
    renewed = issuer.seal_record(OTHER_PAN)
    with pytest.raises(SealBroken):
        issuer.export(sealed_pin, renewed, counter=5)


def test_a_pin_belongs_to_the_card_and_its_holder(issuer: Issuer) -> None:
    ann, bob, nobody = (issuer.seal_record(holder=holder) for holder in ("ann", "bob", None))
    sealed_pin = issuer.set_pin(PIN, ann)
    for other in (bob, nobody):
        with pytest.raises(SealBroken):
            issuer.export(sealed_pin, other)
    assert issuer.pin(sealed_pin, ann) == PIN
    assert issuer.pin(sealed_pin, issuer.seal_record(holder="ann")) == PIN

"""What a generation sealed is resealed while operators let it open, and never afterwards."""

from dataclasses import replace
from pathlib import Path

import pytest

from hsm.pkcs11.keyring import Keyring
from hsm.pkcs11.keys import MAC_ROLES
from hsm.port import CardPart, SealedPin, StoredCard, ValueKind
from hsm.seals import PinOf, Seals
from hsm.verification import Value
from tests.contracts.issuer import CARD, PIN
from tests.contracts.rotating import Rotating
from tests.key_tables import FIRST

PVV = Value.of(pvv="5812", keyIndex=1)
OUT_OF_USE = ("retired", "compromised", "destroyed")
#: Of the roles, what is refused once the first key of one lets nothing be opened.
REFUSED = {
    "pin": {CardPart.PIN},
    # Whose PIN it is, is in the record.
    "record": {CardPart.RECORD, CardPart.PIN, CardPart.PVV},
    "values": {CardPart.PVV},
}


@pytest.fixture
def rotating(tmp_path: Path) -> Rotating:
    rotating = Rotating(tmp_path)
    rotating.load(FIRST)
    return rotating


def stored_before(rotating: Rotating) -> StoredCard:
    """A card under the first keys, which then only decrypt."""
    issuer = rotating.issuer
    record = issuer.seal_record()
    seals = Seals(rotating.hsm_token, Keyring(rotating.hsm_token))
    value = seals.seal_value(PVV, ValueKind.PVV, PinOf(seals.open_record(record, CARD), CARD, 1))
    stored = StoredCard(CARD, 1, record, issuer.set_pin(PIN, record), {ValueKind.PVV: value})
    rotating.rotate(*MAC_ROLES)
    return stored


def take_out_of_use(rotating: Rotating, role: str, state: str) -> None:
    if state == "destroyed":
        take_out_of_use(rotating, role, "compromised")
    labels = (f"{role}.g1", f"{role}-mac.g1")
    rotating.load({**rotating.states, **dict.fromkeys(labels, state)})


@pytest.mark.parametrize("state", OUT_OF_USE)
@pytest.mark.parametrize("role", REFUSED)
def test_what_a_key_sealed_that_opens_nothing_any_more_is_never_resealed(
    rotating: Rotating, role: str, state: str
) -> None:
    stored = stored_before(rotating)
    (sound,) = rotating.vault.reseal([stored]).cards
    assert sound.refused == {}
    take_out_of_use(rotating, role, state)
    (resealed,) = rotating.vault.reseal([stored]).cards
    assert resealed.refused == dict.fromkeys(REFUSED[role], "KeyNotInUse")
    parts = {
        CardPart.RECORD: resealed.sealed_record,
        CardPart.PIN: resealed.sealed_pin,
        CardPart.PVV: resealed.values.get(ValueKind.PVV),
    }
    assert {part for part, sealed in parts.items() if sealed is None} == REFUSED[role]


@pytest.mark.parametrize("role", REFUSED)
def test_what_was_resealed_in_time_outlives_the_key(rotating: Rotating, role: str) -> None:
    stored = stored_before(rotating)
    (resealed,) = rotating.vault.reseal([stored]).cards
    assert resealed.sealed_record is not None
    assert resealed.sealed_pin is not None
    take_out_of_use(rotating, role, "destroyed")
    assert rotating.issuer.pin(resealed.sealed_pin, resealed.sealed_record) == PIN


def test_another_label_does_not_bring_back_what_a_compromised_key_sealed(
    rotating: Rotating,
) -> None:
    stored = stored_before(rotating)
    take_out_of_use(rotating, "pin", "compromised")
    assert stored.sealed_pin is not None
    for label in (b"pin.g2", b"pin.g3"):
        renamed = SealedPin(stored.sealed_pin.replace(b"pin.g1", label))
        (resealed,) = rotating.vault.reseal([replace(stored, sealed_pin=renamed)]).cards
        assert resealed.sealed_pin is None
    # Under its first name it is refused, too: nothing but its label was in the way.
    (resealed,) = rotating.vault.reseal([stored]).cards
    assert resealed.refused == {CardPart.PIN: "KeyNotInUse"}

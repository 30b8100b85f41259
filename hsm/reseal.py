"""What is stored of cards goes from keys of other generations to the active ones.

Nothing new comes in by it. A part is opened as every verb opens it, its CMAC first, for the card
and counter that are named, a PIN and its verification values for the holder of the card's record, a
PIN for the record's PAN too; and is sealed for the same again. What was sealed by a key that may
not be used any more does not open, and stays.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from crypto.types import Pin
from hsm.errors import HsmError, MessageRefused
from hsm.log.lines import Action, Event
from hsm.pkcs11.keyring import Keyring
from hsm.pkcs11.keys import KeyLabel, KeyRole
from hsm.port import (
    RESEAL_CARDS_MAX,
    Beginnings,
    CardPart,
    ResealedCard,
    Resealing,
    SealedPin,
    SealedRecord,
    SealedValue,
    StoredCard,
    ValueKind,
)
from hsm.sealed import beginning, unpack
from hsm.seals import NOT_OPEN, PinOf, Seals

ROLES: Final[Mapping[CardPart, KeyRole]] = {
    **dict.fromkeys(CardPart, KeyRole.VALUES),
    CardPart.RECORD: KeyRole.RECORD,
    CardPart.PIN: KeyRole.PIN,
}
SEALING_ROLES: Final = (KeyRole.RECORD, KeyRole.PIN, KeyRole.VALUES)


@dataclass(slots=True)
class _Card:
    """A card while it is resealed."""

    stored: StoredCard
    sealed: dict[CardPart, bytes] = field(default_factory=dict)
    """What is under the active keys now."""
    left: set[KeyLabel] = field(default_factory=set)
    """Under which that was before."""
    refused: dict[CardPart, str] = field(default_factory=dict)

    def parts(self) -> Mapping[CardPart, bytes]:
        """What is stored of it."""
        stored = self.stored
        found: dict[CardPart, bytes] = {CardPart.RECORD: stored.sealed_record}
        if stored.sealed_pin is not None:
            found[CardPart.PIN] = stored.sealed_pin
        return found | {CardPart(kind): sealed for kind, sealed in stored.values.items()}

    def refuse(self, part: CardPart, error: HsmError) -> None:
        self.refused[part] = type(error).__name__

    def reseal(self, part: CardPart, label: KeyLabel, sealed: bytes) -> None:
        self.sealed[part] = sealed
        self.left.add(label)

    def result(self) -> ResealedCard:
        record, pin = self.sealed.get(CardPart.RECORD), self.sealed.get(CardPart.PIN)
        values = {
            kind: SealedValue(self.sealed[CardPart(kind)])
            for kind in ValueKind
            if CardPart(kind) in self.sealed
        }
        return ResealedCard(
            None if record is None else SealedRecord(record),
            None if pin is None else SealedPin(pin),
            values,
            self.refused,
        )


class Resealer:
    """Reseals cards under the active keys of *keyring*."""

    def __init__(self, seals: Seals, keyring: Keyring) -> None:
        self._seals = seals
        self._keyring = keyring

    def reseal(self, stored: Sequence[StoredCard]) -> tuple[Resealing, Event | None]:
        """Reseal cards; return what became of each, and what the log is to tell of them.

        Raises:
            MessageRefused: there are too many.
            VaultUnavailable: the HSM token does not answer, or lacks an active key.
        """
        if len(stored) > RESEAL_CARDS_MAX:
            raise MessageRefused("more cards than may be resealed at once")
        active = {role: self._keyring.active[role] for role in SEALING_ROLES}
        cards = [_Card(each) for each in stored]
        old_pins: list[tuple[_Card, KeyLabel, PinOf]] = []
        for card in cards:
            old_pins += self._reseal_but_pin(card, active)
        self._reseal_pins(old_pins)
        beginnings = Beginnings(*map(beginning, active.values()))
        return Resealing([card.result() for card in cards], beginnings), _event(cards, active)

    def _reseal_but_pin(
        self, card: _Card, active: Mapping[KeyRole, KeyLabel]
    ) -> Sequence[tuple[_Card, KeyLabel, PinOf]]:
        """Reseal record and values; return the label of a PIN that is to be, and whose it is."""
        labels = self._old_labels(card, active)
        if not labels:
            return ()
        stored = card.stored
        try:
            record = self._seals.open_record(stored.sealed_record, stored.card)
        except NOT_OPEN as error:
            # Of a record under its active key it is told with the parts that need it only.
            for part in labels:
                card.refuse(part, error)
            return ()
        owner = PinOf(record, stored.card, stored.counter)
        if label := labels.get(CardPart.RECORD):
            card.reseal(CardPart.RECORD, label, self._seals.seal_record(record, stored.card))
        for kind, sealed in stored.values.items():
            if label := labels.get(CardPart(kind)):
                self._reseal_value(card, kind, sealed, label, owner)
        old_pin = labels.get(CardPart.PIN)
        return () if old_pin is None else ((card, old_pin, owner),)

    def _old_labels(
        self, card: _Card, active: Mapping[KeyRole, KeyLabel]
    ) -> Mapping[CardPart, KeyLabel]:
        """Return the labels of the parts that are not under the active keys."""
        labels: dict[CardPart, KeyLabel] = {}
        for part, sealed in card.parts().items():
            role = ROLES[part]
            try:
                label = unpack(sealed, role).label
            except NOT_OPEN as error:
                card.refuse(part, error)
            else:
                if label != active[role]:
                    labels[part] = label
        return labels

    def _reseal_value(
        self, card: _Card, kind: ValueKind, sealed: SealedValue, label: KeyLabel, owner: PinOf
    ) -> None:
        try:
            value = self._seals.open_value(sealed, kind, owner)
        except NOT_OPEN as error:
            card.refuse(CardPart(kind), error)
        else:
            card.reseal(CardPart(kind), label, self._seals.seal_value(value, kind, owner))

    def _reseal_pins(self, old: Sequence[tuple[_Card, KeyLabel, PinOf]]) -> None:
        """Reseal PINs together, which takes fewer calls of the HSM token."""
        owners = [owner for *_, owner in old]
        sealed = [SealedPin(card.stored.sealed_pin or b"") for card, *_ in old]
        opened = self._seals.open_pins(sealed, owners)
        pins, pin_owners, good = list[Pin](), list[PinOf](), list[tuple[_Card, KeyLabel]]()
        for (card, label, _), owner, pin in zip(old, owners, opened, strict=True):
            if isinstance(pin, Pin):
                pins.append(pin)
                pin_owners.append(owner)
                good.append((card, label))
            else:
                card.refuse(CardPart.PIN, pin)
        resealed = self._seals.seal_pins(pins, pin_owners)
        for (card, label), new in zip(good, resealed, strict=True):
            card.reseal(CardPart.PIN, label, new)


def _event(cards: Sequence[_Card], active: Mapping[KeyRole, KeyLabel]) -> Event | None:
    """Tell of what was resealed, if anything was."""
    changed = [card for card in cards if card.sealed]
    if not changed:
        return None
    issuers = {card.stored.card.issuer_id for card in cards}
    left = {label for card in changed for label in card.left}
    return Event(
        Action.RESEAL,
        issuers.pop() if len(issuers) == 1 else None,
        count=len(changed),
        keys_from=" ".join(sorted(map(str, left))),
        keys_to=" ".join(sorted(str(active[role]) for role in {label.role for label in left})),
    )

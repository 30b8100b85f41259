"""What is stored of cards goes from keys of other generations to the active ones.

Nothing new comes in by it. A part is opened as every verb opens it, its CMAC first, for the card
and counter that are named and, a PIN, for PAN and holder of the card's record, and is sealed for
the same again. What was sealed by a key that may not be used any more does not open, and stays.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from typing import Final

from hsm.errors import KeyMissing, MessageRefused, SealBroken
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
from hsm.seals import Seals

ROLES: Final[Mapping[CardPart, KeyRole]] = {
    **dict.fromkeys(CardPart, KeyRole.VALUES),
    CardPart.RECORD: KeyRole.RECORD,
    CardPart.PIN: KeyRole.PIN,
}
SEALING_ROLES: Final = (KeyRole.RECORD, KeyRole.PIN, KeyRole.VALUES)
#: Why a part does not open, when the HSM token works.
REFUSALS: Final = (SealBroken, KeyMissing)


class Resealer:
    """Reseals cards under the active keys of *keyring*."""

    def __init__(self, seals: Seals, keyring: Keyring) -> None:
        self._seals = seals
        self._keyring = keyring

    def reseal(self, cards: Sequence[StoredCard]) -> tuple[Resealing, Event | None]:
        """Reseal cards; return what became of each, and what the log is to tell of them.

        Raises:
            MessageRefused: there are too many.
            VaultUnavailable: the HSM token does not answer, or lacks an active key.
        """
        if len(cards) > RESEAL_CARDS_MAX:
            raise MessageRefused("more cards than may be resealed at once")
        active = {role: self._keyring.active[role] for role in SEALING_ROLES}
        left: set[KeyLabel] = set()
        done = [self._card(stored, active, left) for stored in cards]
        resealing = Resealing(done, Beginnings(*map(beginning, active.values())))
        count = sum(_is_changed(card) for card in done)
        return resealing, _event(cards, count, left, active) if count else None

    def _card(
        self, stored: StoredCard, active: Mapping[KeyRole, KeyLabel], left: set[KeyLabel]
    ) -> ResealedCard:
        """Reseal a card; add the keys that it was under to *left*."""
        resealed: dict[CardPart, bytes] = {}
        refused: dict[CardPart, str] = {}
        opening = _Opening(self._seals, stored)
        for part, sealed in _parts(stored):
            try:
                label = unpack(sealed, ROLES[part]).label
                if label == active[label.role]:
                    continue
                seal = opening.open(part, sealed)
            except REFUSALS as error:
                refused[part] = type(error).__name__
            else:
                resealed[part] = seal()
                left.add(label)
        record, pin = resealed.pop(CardPart.RECORD, None), resealed.pop(CardPart.PIN, None)
        values = {ValueKind(part): SealedValue(sealed) for part, sealed in resealed.items()}
        return ResealedCard(
            None if record is None else SealedRecord(record),
            None if pin is None else SealedPin(pin),
            values,
            refused,
        )


class _Opening:
    """Opens the parts of a card, its record once."""

    def __init__(self, seals: Seals, stored: StoredCard) -> None:
        self._seals = seals
        self._stored = stored
        self._record = cache(lambda: seals.open_record(stored.sealed_record, stored.card))

    def open(self, part: CardPart, sealed: bytes) -> Callable[[], bytes]:
        """Open a part; return what seals it again.

        Raises:
            SealBroken: it is not of this card, counter and holder.
            KeyMissing: its key may not be used.
        """
        seals, card, counter = self._seals, self._stored.card, self._stored.counter
        if part is CardPart.RECORD:
            return partial(seals.seal_record, self._record(), card)
        if part is CardPart.PIN:
            record = self._record()
            pin = seals.open_pin(SealedPin(sealed), record, card, counter)
            return partial(seals.seal_pin, pin, record, card, counter)
        kind = ValueKind(part)
        value = seals.open_value(SealedValue(sealed), kind, card, counter)
        return partial(seals.seal_value, value, kind, card, counter)


def _parts(stored: StoredCard) -> Iterator[tuple[CardPart, bytes]]:
    yield CardPart.RECORD, stored.sealed_record
    if stored.sealed_pin is not None:
        yield CardPart.PIN, stored.sealed_pin
    for kind, sealed in stored.values.items():
        yield CardPart(kind), sealed


def _is_changed(card: ResealedCard) -> bool:
    return bool(card.sealed_record or card.sealed_pin or card.values)


def _event(
    cards: Sequence[StoredCard],
    count: int,
    left: set[KeyLabel],
    active: Mapping[KeyRole, KeyLabel],
) -> Event:
    issuers = {stored.card.issuer_id for stored in cards}
    return Event(
        Action.RESEAL,
        issuers.pop() if len(issuers) == 1 else None,
        count=count,
        keys_from=" ".join(sorted(map(str, left))),
        keys_to=" ".join(sorted(str(active[role]) for role in {label.role for label in left})),
    )

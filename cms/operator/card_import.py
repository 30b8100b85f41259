"""Cards come in by feeds, a feed a line (:mod:`hsm.feeds`).

The vault opens a feed and seals the records of its cards. What else a feed says of a card is read
here::

    {"state": "active", "cardType": "PHYSICAL", "personalised": true,
     "encryptedPinBlock": "<JWE>", "type": "ISO0", "pinStatus": "W"}

All of it may be absent. Of a new card ``state`` is inactive unless given, and ``cardType``
(VIRTUAL, PHYSICAL or METAL) PHYSICAL. ``personalised`` tells whether there is a plastic whose PIN
cannot be set at the pincontrol face any more; unless given, a new card that is not inactive is. The
next two members are for a new card whose PIN is known: they are what PUT pin takes, and the change
counter stays 0; without ``type`` the block is of the wire profile's first ISO-0 type. With
``pinStatus`` D the vault makes a PIN of a card that has none (:mod:`cms.persistence.made_pins`);
with W, and unless given, the card waits until its PIN is set.

A card that is there is renewed: it gets the new record whole, so that a holder or a plastic id that
is absent is taken away, and keeps its PIN while PAN and holder stay. What is absent of the members
above stays as it is.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

from cms.domain.cards import NEXT_STATES, CardState, CardType
from cms.operator.vault import read_manifest
from cms.persistence import card_feeds, made_pins
from cms.persistence.admin import LOADED, AdminError, Database
from cms.persistence.card_feeds import CardBefore
from cms.persistence.tables import sealed_columns
from hsm.admin_client import AdminCalls
from hsm.errors import (
    CardRefused,
    CardRefusesForm,
    CounterExhausted,
    FeedRefused,
    HsmError,
    PinRejected,
    TypeNotOffered,
    ValueNotPossible,
    WeakPinRefused,
)
from hsm.manifest.wire import WireProfile
from hsm.messages import GeneratePin, KeepsPin, SealCards, SetPinFromJwe
from hsm.port import PinBlockType, SealedCard, SealedChange

#: The members that are read here, and what each holds.
MEMBERS: Final[Mapping[str, str]] = {
    "state": ", ".join(CardState),
    "cardType": ", ".join(CardType),
    "personalised": "true or false",
    "encryptedPinBlock": "a compact JWE",
    "type": "text, as in PUT pin",
    "pinStatus": "D: a PIN is made; W: the card waits for one",
}
PIN_REASONS: Final[Mapping[type[HsmError], str]] = {
    CardRefusesForm: "too many PINs of this card failed",
    PinRejected: "encryptedPinBlock cannot be used",
    WeakPinRefused: "the PIN policy forbids this PIN",
    TypeNotOffered: "this type of PIN block is not offered",
    ValueNotPossible: "a card of this issuer does not take a PIN in this form",
}
NO_PIN_MADE: Final[Mapping[type[HsmError], str]] = {
    ValueNotPossible: "a verification value that is asked for cannot be made of a PIN of this card",
    CounterExhausted: "the SECCOS profile counts no further change of this card",
}
PLASTIC_ID_TAKEN: Final = "another card has this plastic id"


@dataclass(frozen=True, slots=True)
class Details:
    """What a feed says of a card beside its record; None: nothing."""

    state: CardState | None
    card_type: CardType | None
    personalised: bool | None
    pin_jwe: str | None
    pin_literal: str | None
    pin_is_made: bool
    """Whether a PIN is made if the card has none then."""

    @classmethod
    def read(cls, others: Mapping[str, str | bool]) -> "Details":
        """Read these members.

        Raises:
            CardRefused: naming the member at fault.
        """
        personalised = others.get("personalised")
        if personalised is not None and not isinstance(personalised, bool):
            raise _refused("personalised")
        pin_jwe, pin_literal = _text(others, "encryptedPinBlock"), _text(others, "type")
        if pin_literal is not None and pin_jwe is None:
            raise CardRefused("missing member: encryptedPinBlock (a compact JWE)")
        pin_status = _text(others, "pinStatus")
        if pin_status not in {None, "D", "W"}:
            raise _refused("pinStatus")
        if pin_status == "D" and pin_jwe is not None:
            raise CardRefused("a card that brings its PIN has none made")
        state, card_type = _text(others, "state"), _text(others, "cardType")
        if state is not None and state not in set(CardState):
            raise _refused("state")
        if card_type is not None and card_type not in set(CardType):
            raise _refused("cardType")
        return cls(
            None if state is None else CardState(state),
            None if card_type is None else CardType(card_type),
            personalised,
            pin_jwe,
            pin_literal,
            pin_status == "D",
        )


@dataclass(frozen=True, slots=True)
class FeedResult:
    """What became of one feed: its line, counted from 1, and what was refused of it."""

    line: int
    added: int = 0
    renewed: int = 0
    loaded_before: bool = False
    refused: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class _Incoming:
    """A card that the vault has sealed; *before* is how it was.

    *change* is a PIN that it brings, or that was made of it; *counter* is that PIN's.
    """

    position: int
    sealed: SealedCard
    details: Details
    before: CardBefore | None
    change: SealedChange | None
    keeps_pin: bool
    counter: int = 0

    @property
    def card_id(self) -> str:
        return self.sealed.card.card_id


@dataclass(frozen=True)
class CardImport:
    """Takes cards of one issuer into the database."""

    database: Database
    vault: AdminCalls
    issuer_id: str

    def run(self, lines: Iterable[bytes]) -> Iterator[FeedResult]:
        """Load each feed in a transaction of its own.

        A bad card stops no other, and a bad feed no other feed. One that was loaded before is left
        alone: who is interrupted starts again.

        Raises:
            VaultUnavailable: the HSM token is unavailable.
            ManifestRefused: this host has no manifest of the issuer that is in force.
        """
        for number, line in enumerate(lines, start=1):
            if feed := line.strip():
                yield self._load(number, feed)

    def _load(self, line: int, feed: bytes) -> FeedResult:
        digest = hashlib.sha256(feed).digest()
        loaded_before = card_feeds.is_loaded(self.database, self.issuer_id, digest)
        # No transaction is open while the vault works.
        self.database.commit()
        if loaded_before:
            return FeedResult(line, loaded_before=True)
        try:
            text = feed.decode("ascii", errors="replace")
            cards = self.vault.call(SealCards(text, self.issuer_id))
        except FeedRefused as error:
            return FeedResult(line, refused=[str(error)])
        refused: dict[int, str] = {}
        sealed = {}
        for position, card in enumerate(cards, start=1):
            if isinstance(card, SealedCard):
                sealed[position] = card
            else:
                refused[position] = card.reason
        incoming = [*self._prepared(sealed, refused)]
        try:
            return self._store(line, digest, incoming, refused)
        except AdminError as error:
            self.database.rollback()
            return FeedResult(line, refused=[str(error)])

    def _prepared(
        self, sealed: Mapping[int, SealedCard], refused: dict[int, str]
    ) -> Iterator[_Incoming]:
        """Do what the vault does for each card."""
        ids = {card.card.card_id for card in sealed.values()}
        there = card_feeds.cards_before(self.database, self.issuer_id, ids)
        self.database.commit()
        for position, card in sealed.items():
            before = there.get(card.card.card_id)
            try:
                details = Details.read(card.others)
                if before is None:
                    change = self._first_pin(card, details)
                    yield _Incoming(position, card, details, None, change, keeps_pin=True)
                    continue
                keeps_pin = self._keeps_pin(card, details, before)
                change, counter = None, before.next_counter
                if details.pin_is_made and not (keeps_pin and before.has_pin):
                    change = self._made_pin(card, counter)
                yield _Incoming(position, card, details, before, change, keeps_pin, counter)
            except CardRefused as error:
                refused[position] = str(error)

    def _keeps_pin(self, card: SealedCard, details: Details, before: CardBefore) -> bool:
        if details.pin_jwe is not None:
            raise CardRefused("only a new card brings its PIN")
        return self.vault.call(KeepsPin(before.sealed_record, card.sealed_record, card.card))

    @cached_property
    def _wire(self) -> WireProfile:
        return read_manifest(self.vault, self.issuer_id).wire

    def _first_pin(self, card: SealedCard, details: Details) -> SealedChange | None:
        if details.pin_is_made:
            return self._made_pin(card, 0)
        if details.pin_jwe is None:
            return None
        literal = details.pin_literal or self._wire.put_pin.iso0[0]
        block_type = self._wire.block_type(literal)
        if block_type is None:
            raise CardRefused("unknown type of PIN block")
        if block_type is not PinBlockType.ISO0:
            # A SECCOS PIN is made for one change of the card, and this is none.
            raise CardRefused(PIN_REASONS[TypeNotOffered])
        try:
            return self.vault.call(
                SetPinFromJwe(details.pin_jwe, block_type, card.card, card.sealed_record, 0, None)
            )
        except tuple(PIN_REASONS) as error:
            raise CardRefused(
                next(text for kind, text in PIN_REASONS.items() if isinstance(error, kind))
            ) from None

    def _made_pin(self, card: SealedCard, counter: int) -> SealedChange:
        try:
            return self.vault.call(GeneratePin(card.card, card.sealed_record, counter))
        except tuple(NO_PIN_MADE) as error:
            raise CardRefused(NO_PIN_MADE[type(error)]) from None

    def _store(
        self, line: int, digest: bytes, incoming: Sequence[_Incoming], refused: dict[int, str]
    ) -> FeedResult:
        if not card_feeds.begin_feed(self.database, self.issuer_id, digest):
            self.database.commit()
            return FeedResult(line, loaded_before=True)
        taken = [*self._accepted(incoming, refused)]
        new = [_new_row(one) for one in taken if one.before is None]
        renewed = [_renewed_row(one) for one in taken if one.before is not None]
        card_feeds.forget_pins(
            self.database, self.issuer_id, [one.card_id for one in taken if not one.keeps_pin]
        )
        card_feeds.renew_cards(self.database, self.issuer_id, renewed)
        receipts = {
            one.card_id: (made_pins.MADE if one.details.pin_is_made else LOADED, one.change.receipt)
            for one in taken
            if one.before is None and one.change is not None
        }
        card_feeds.add_cards(self.database, self.issuer_id, new, receipts)
        for one in taken:
            if one.before is not None and one.change is not None:
                made_pins.store(
                    *(self.database, one.sealed.card, one.sealed.sealed_record),
                    *(one.counter, one.change),
                )
        self.database.commit()
        reasons = [f"card {position}: {reason}" for position, reason in sorted(refused.items())]
        return FeedResult(line, len(new), len(renewed), refused=reasons)

    def _accepted(
        self, incoming: Sequence[_Incoming], refused: dict[int, str]
    ) -> Iterator[_Incoming]:
        """Choose those that the database takes, as it is now; nobody changes it until the end."""
        ids = {one.card_id for one in incoming}
        there = card_feeds.cards_before(self.database, self.issuer_id, ids, lock=True)
        wanted = {name for one in incoming if (name := one.sealed.plastic_id) is not None}
        taken = card_feeds.taken_plastic_ids(self.database, self.issuer_id, wanted, ids)
        for one in incoming:
            now, plastic_id = there.get(one.card_id), one.sealed.plastic_id
            if not _is_as_before(one, now):
                raise AdminError("the same cards were changed meanwhile: try again")
            state = one.details.state
            if now and state not in {None, now.state, *NEXT_STATES[now.state]}:
                refused[one.position] = f"a card that is {now.state} cannot become {state}"
            elif plastic_id in taken:
                refused[one.position] = PLASTIC_ID_TAKEN
            else:
                if plastic_id is not None:
                    taken.add(plastic_id)
                yield one


def _is_as_before(one: _Incoming, now: CardBefore | None) -> bool:
    """Tell whether what the vault did for a card still fits it."""
    before = one.before
    if before is None or now is None:
        return before is now
    if one.change is None:
        return before.sealed_record == now.sealed_record
    # A PIN was made for what is the next change no more, or for a card that has one.
    return before == replace(now, state=before.state)


def _record_columns(sealed: SealedCard) -> dict[str, object]:
    return {
        "card_id": sealed.card.card_id,
        "sealed_record": sealed.sealed_record,
        "last_four": sealed.last_four,
        "expiry": sealed.expiry,
        "psn": sealed.psn,
        "plastic_id": sealed.plastic_id,
        "cardholder_id": sealed.cardholder_id,
    }


def _new_row(one: _Incoming) -> dict[str, object]:
    state = one.details.state or CardState.INACTIVE
    personalised, change = one.details.personalised, one.change
    columns = _record_columns(one.sealed) | {
        "state": state.value,
        "card_type": (one.details.card_type or CardType.PHYSICAL).value,
        "personalised": state is not CardState.INACTIVE if personalised is None else personalised,
    }
    if change is not None:
        columns |= sealed_columns(change) | {"pin_type": PinBlockType.ISO0.value}
    return columns


def _renewed_row(one: _Incoming) -> dict[str, object]:
    details = one.details
    return _record_columns(one.sealed) | {
        "state": details.state and details.state.value,
        "card_type": details.card_type and details.card_type.value,
        "personalised": details.personalised,
    }


def _text(others: Mapping[str, str | bool], name: str) -> str | None:
    value = others.get(name)
    if isinstance(value, bool):
        raise _refused(name)
    return value


def _refused(name: str) -> CardRefused:
    return CardRefused(f"refused member: {name} ({MEMBERS[name]})")

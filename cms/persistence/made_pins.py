"""PINs that the vault made of cards that had none.

The first PIN of a card comes with it: its counter stays 0. Later ones, of a card whose PIN was
forgotten, are changes as others are, so that no value of the forgotten PIN fits them; the chip of a
card that is in the field is to have them by a script.
"""

import hashlib
from typing import Final

from sqlalchemy import func, insert, select, update

from cms.domain.cards import CardState, CardType
from cms.persistence.admin import OPERATOR, Database, rules
from cms.persistence.tables import (
    audit_events,
    card_scripts,
    cards,
    pin_changes,
    sealed_columns,
)
from hsm.port import CardRef, PinBlockType, SealedChange, SealedRecord

MADE: Final = "pin.made"
"""The audit event."""


def store(
    database: Database,
    card: CardRef,
    sealed_record: SealedRecord,
    counter: int,
    change: SealedChange,
) -> bool:
    """Store a PIN that was made, of a card that has none.

    Args:
        database: an open transaction.
        card: the card.
        sealed_record: that the PIN was made for.
        counter: that the PIN is sealed for.
        change: what the vault made.

    Returns:
        Whether it is stored: False, the card got a PIN or another record meanwhile, or is closed.

    Raises:
        AdminError: its history has this counter already.
    """
    key = {"issuer_id": card.issuer_id, "card_id": card.card_id}
    before = max(counter - 1, 0)
    without_pin = (
        update(cards)
        .filter_by(**key, counter=before, sealed_record=sealed_record)
        .where(cards.c.pin_type.is_(None), cards.c.state != CardState.CLOSED.value)
    )
    # Shown and exported as one that came as ISO-0.
    stored = without_pin.values(
        **sealed_columns(change),
        pin_type=PinBlockType.ISO0.value,
        pin_changed_at=func.now(),
        counter=counter,
    )
    if database.execute(stored).rowcount != 1:
        return False
    if counter > 0:
        # No request brought it: the receipt stands in the place of one.
        request_key = hashlib.sha256(change.receipt.encode()).digest()
        row = {**key, "counter": counter, "actor": OPERATOR, "request_key": request_key}
        with rules(database, pin_changes):
            database.execute(insert(pin_changes).values(row))
        if change.script_due:
            _begin_script(database, card, counter)
    event = {"event": MADE, "actor": OPERATOR, "counter": counter, "receipt": change.receipt}
    database.execute(insert(audit_events).values(**key, **event))
    return True


def _begin_script(database: Database, card: CardRef, counter: int) -> None:
    """Begin a script; a chip that is yet to be made gets the PIN from the bureau."""
    columns = (cards.c.issuer_id, cards.c.card_id, cards.c.counter)
    in_the_field = (
        select(*columns)
        .filter_by(issuer_id=card.issuer_id, card_id=card.card_id, counter=counter)
        .where(cards.c.personalised, cards.c.card_type != CardType.VIRTUAL.value)
    )
    names = [column.name for column in columns]
    database.execute(insert(card_scripts).from_select(names, in_the_field))

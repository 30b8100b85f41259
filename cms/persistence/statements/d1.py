"""What Thales D1 asks for: set a PIN, get it, read the change counter, activate a card."""

from typing import Final

from sqlalchemy import String, exists, literal, select

from cms.domain.cards import CardState, Verb
from cms.persistence.statements import compiled
from cms.persistence.statements.parts import (
    CARD_TO_READ,
    REQUEST_KEY,
    THIS_CARD,
    audit,
    change_pin,
    of_issuer,
)
from cms.persistence.tables import cards, pin_changes

_IS_KNOWN: Final = exists().where(
    of_issuer(pin_changes),
    pin_changes.c.card_id == cards.c.card_id,
    pin_changes.c.request_key == REQUEST_KEY,
)
READ_FOR_SET: Final = compiled(
    select(
        cards.c.state,
        cards.c.counter,
        cards.c.sealed_record,
        _IS_KNOWN.label("is_known"),
        cards.c.personalised,
    ).where(THIS_CARD)
)
"""One row, or none where there is no such card.

State, counter, sealed record, whether the request key is known, and whether it is personalised.
"""

_changed, _with_it = change_pin()
CHANGE_PIN: Final = compiled(select(_changed.c.counter).add_cte(*_with_it))
"""One row, the new counter, if counter, state and record are still those read.

Else none, and no change.
"""

READ_FOR_GET: Final = compiled(select(*CARD_TO_READ).where(THIS_CARD))
"""One row, or none where there is no such card."""

READ_COUNTER: Final = compiled(select(cards.c.state, cards.c.counter).where(THIS_CARD))
"""One row: state and change counter."""

_before = select(cards.c.state).where(THIS_CARD).cte("before")
_activated = (
    cards.update()
    .where(THIS_CARD, cards.c.state == literal(CardState.INACTIVE.value, String))
    # Whoever activates a physical card has it in hand.
    .values(state=CardState.ACTIVE.value, personalised=True)
    .returning(cards.c.issuer_id, cards.c.card_id)
    .cte("activated")
)
ACTIVATE: Final = compiled(
    select(_before.c.state).add_cte(_before, audit(Verb.ACTIVATE.value, _activated))
)
"""One row: the state before. An inactive card is active, and personalised, afterwards."""

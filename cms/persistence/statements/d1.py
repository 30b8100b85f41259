"""What Thales D1 asks for: set a PIN, get it, read the change counter, activate a card."""

from typing import Final

from sqlalchemy import String, and_, exists, literal, select

from cms.domain.cards import ALLOWED_STATES, GET_PIN_ATTEMPTED, CardState, Verb
from cms.persistence.statements import compiled
from cms.persistence.statements.parts import (
    CARD_TO_READ,
    HAS_PIN_TO_SHOW,
    REQUEST_KEY,
    THIS_CARD,
    audit,
    change_pin,
    in_state,
)
from cms.persistence.tables import cards, pin_changes

_IS_KNOWN: Final = exists().where(
    pin_changes.c.issuer_id == cards.c.issuer_id,
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

_changed, _history, _set_audit = change_pin()
CHANGE_PIN: Final = compiled(select(_changed.c.counter).add_cte(_history, _set_audit))
"""One row, the new counter, if counter and state are still those read; else none and no change."""

_card = (
    select(
        cards.c.issuer_id,
        cards.c.card_id,
        *CARD_TO_READ,
        and_(in_state(ALLOWED_STATES[Verb.GET_PIN]), HAS_PIN_TO_SHOW).label("is_readable"),
    )
    .where(THIS_CARD)
    .cte("card")
)
GET_PIN: Final = compiled(
    select(*(_card.c[column.name] for column in CARD_TO_READ)).add_cte(
        audit(GET_PIN_ATTEMPTED, _card, _card.c.is_readable, counter=_card.c.counter)
    )
)
"""One row; the audit row is written only for a PIN that may be handed out."""

READ_COUNTER: Final = compiled(select(cards.c.state, cards.c.counter).where(THIS_CARD))
"""One row: state and change counter."""

_activated = (
    cards.update()
    .where(THIS_CARD, cards.c.state == literal(CardState.INACTIVE.value, String))
    # Whoever activates a physical card has it in hand.
    .values(state=CardState.ACTIVE.value, personalised=True)
    .returning(cards.c.issuer_id, cards.c.card_id)
    .cte("activated")
)
ACTIVATE: Final = compiled(
    select(cards.c.state)
    .where(THIS_CARD)
    .add_cte(_activated, audit(Verb.ACTIVATE.value, _activated))
)
"""One row: the state before. An inactive card is active, and personalised, afterwards."""

"""How the faces of the cardholder listener find a card."""

from typing import Final

from sqlalchemy import String, literal, select

from cms.domain.cards import CardState
from cms.persistence.statements import compiled
from cms.persistence.statements.parts import matches, of_issuer
from cms.persistence.tables import cards

READ_PLASTIC: Final = compiled(
    select(
        cards.c.issuer_id,
        cards.c.card_id,
        cards.c.state,
        cards.c.personalised,
        cards.c.pin_type,
        cards.c.counter,
        cards.c.sealed_record,
    ).where(of_issuer(cards), matches(cards.c.plastic_id, "plastic_id"))
)
"""One row, a card by its plastic id."""

READ_CARD_OF_HOLDER: Final = compiled(
    select(
        cards.c.issuer_id,
        cards.c.card_id,
        cards.c.state,
        cards.c.last_four,
        cards.c.expiry,
        cards.c.card_type,
        cards.c.created_at,
        cards.c.pin_type,
        cards.c.pin_changed_at,
        cards.c.counter,
        cards.c.sealed_record,
    )
    .where(of_issuer(cards), matches(cards.c.cardholder_id, "cardholder_id"))
    .order_by(
        cards.c.state != literal(CardState.ACTIVE.value, String),
        cards.c.state == literal(CardState.CLOSED.value, String),
        cards.c.created_at.desc(),
        cards.c.card_id,
    )
    .limit(1)
)
"""One row, the card of a cardholder: active before others, closed last, the newest first."""

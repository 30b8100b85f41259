"""What is recorded when a request is refused, by whichever listener."""

from typing import Final

from sqlalchemy import String, bindparam, select

from cms.persistence.statements import compiled
from cms.persistence.statements.parts import (
    ACTOR,
    CORRELATION_ID,
    RECEIPT,
    THIS_CARD,
    insert_from,
)
from cms.persistence.tables import audit_events, cards

REFUSE: Final = compiled(
    insert_from(
        audit_events,
        {
            "issuer_id": bindparam("issuer_id", type_=String),
            # What a caller sends as card id may be anything, a PAN too: only a known one is kept.
            "card_id": select(cards.c.card_id).where(THIS_CARD).scalar_subquery(),
            "event": bindparam("event", type_=String),
            "actor": ACTOR,
            "correlation_id": CORRELATION_ID,
            "reason": bindparam("reason", type_=String),
            "audit_user": bindparam("audit_user", type_=String),
            "error_id": bindparam("error_id", type_=String),
            "receipt": RECEIPT,
        },
    )
)
"""Record a refusal."""

"""What is recorded when a PIN was handed out, by whichever listener."""

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import BigInteger, String, Text, bindparam, column, func, literal
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeEngine

from cms.domain.cards import Verb
from cms.persistence.statements import compiled
from cms.persistence.statements.parts import insert_from
from cms.persistence.tables import audit_events

COLUMNS: Final[Mapping[str, TypeEngine[Any]]] = {
    "card_id": String(),
    "actor": Text(),
    "correlation_id": String(),
    "counter": BigInteger(),
    "reason": String(),
    "audit_user": Text(),
    "receipt": String(),
}
"""What differs from one hand-out to the next."""

_rows: Final = (
    func.jsonb_to_recordset(bindparam("rows", type_=JSONB))
    .table_valued(*(column(name, kind) for name, kind in COLUMNS.items()))
    .render_derived(name="hand_outs", with_types=True)
)
RECORD_HAND_OUTS: Final = compiled(
    insert_from(
        audit_events,
        {
            "issuer_id": bindparam("issuer_id", type_=String),
            "event": literal(Verb.GET_PIN.value, String),
            **{name: _rows.c[name] for name in COLUMNS},
        },
    )
)
"""Record hand-outs of one issuer; *rows* is a JSON array of objects, whose members are columns."""

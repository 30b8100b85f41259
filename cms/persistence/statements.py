"""The statements of the request paths, built by SQLAlchemy Core and compiled once, at import.

Each is one round trip on an autocommit connection. Running them as text spares each request
what compiling and unpacking in Core costs, a third of the throughput.
"""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import (
    ClauseElement,
    ColumnElement,
    LargeBinary,
    String,
    and_,
    bindparam,
    exists,
    func,
    literal,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import distinct_on, psycopg

from cms.domain.cards import CardState, Verb
from cms.persistence.tables import (
    audit_events,
    cards,
    clients,
    issuers,
    pin_changes,
    vault_config,
)
from hsm.port import PinBlockType


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL for psycopg, and the parameters that do not change."""

    sql: str
    constants: dict[str, object]


def _compiled(statement: ClauseElement) -> Statement:
    dialect = psycopg.dialect()  # type: ignore[no-untyped-call] # SQLAlchemy leaves it untyped
    compiled = statement.compile(dialect=dialect)
    constants = {name: value for name, value in compiled.params.items() if value is not None}
    return Statement(str(compiled), constants)


def _this(table_column: ColumnElement[str], name: str) -> ColumnElement[bool]:
    return table_column == bindparam(name, type_=String)


_THIS_CARD: Final = and_(_this(cards.c.issuer_id, "issuer_id"), _this(cards.c.card_id, "card_id"))
_NEWEST: Final = (
    select(func.coalesce(func.max(pin_changes.c.counter), 0))
    .where(pin_changes.c.issuer_id == cards.c.issuer_id, pin_changes.c.card_id == cards.c.card_id)
    .scalar_subquery()
)
_KNOWN: Final = exists().where(
    pin_changes.c.issuer_id == cards.c.issuer_id,
    pin_changes.c.card_id == cards.c.card_id,
    pin_changes.c.request_key == bindparam("request_key", type_=LargeBinary),
)
_AUDIT_COLUMNS: Final = ("issuer_id", "card_id", "event", "actor", "correlation_id", "counter")
_ACTOR: Final = bindparam("actor", type_=String)
_CORRELATION_ID: Final = bindparam("correlation_id", type_=String)

READ_FOR_SET: Final = _compiled(
    select(cards.c.state, cards.c.counter, cards.c.sealed_pan, _KNOWN).where(_THIS_CARD)
)
"""One row: state, counter, sealed PAN, whether the request key is known. None: no such card."""

_changed = (
    cards.update()
    .where(
        _THIS_CARD,
        cards.c.counter == bindparam("counter_read"),
        _this(cards.c.state, "state_read"),
    )
    .values(
        counter=cards.c.counter + 1,
        sealed_pin=bindparam("sealed_pin", type_=LargeBinary),
        pin_type=bindparam("pin_type", type_=String),
        pin_changed_at=func.now(),
    )
    .returning(cards.c.issuer_id, cards.c.card_id, cards.c.counter)
    .cte("changed")
)
_history = (
    pin_changes.insert()
    .from_select(
        ["issuer_id", "card_id", "counter", "actor", "request_key"],
        select(_changed, _ACTOR, bindparam("request_key", type_=LargeBinary)),
    )
    .cte("history")
)
_set_audit = (
    audit_events.insert()
    .from_select(
        _AUDIT_COLUMNS,
        select(
            _changed.c.issuer_id,
            _changed.c.card_id,
            literal(Verb.SET_PIN.value, String),
            _ACTOR,
            _CORRELATION_ID,
            _changed.c.counter,
        ),
    )
    .cte("audit")
)
CHANGE_PIN: Final = _compiled(select(_changed.c.counter).add_cte(_history, _set_audit))
"""One row, the new counter, if counter and state are still those read; else none and no change."""

_readable = and_(
    cards.c.state == literal(CardState.ACTIVE.value, String),
    cards.c.pin_type == literal(PinBlockType.ISO0.value, String),
    cards.c.counter == _NEWEST,
)
_card = (
    select(
        cards.c.issuer_id,
        cards.c.card_id,
        cards.c.state,
        cards.c.pin_type,
        cards.c.counter,
        _NEWEST.label("newest"),
        cards.c.sealed_pan,
        cards.c.sealed_pin,
        _readable.label("readable"),
    )
    .where(_THIS_CARD)
    .cte("card")
)
_get_audit = (
    audit_events.insert()
    .from_select(
        _AUDIT_COLUMNS,
        select(
            _card.c.issuer_id,
            _card.c.card_id,
            literal(Verb.GET_PIN.value, String),
            _ACTOR,
            _CORRELATION_ID,
            _card.c.counter,
        ).where(_card.c.readable),
    )
    .cte("audit")
)
GET_PIN: Final = _compiled(
    select(
        _card.c.state,
        _card.c.pin_type,
        _card.c.counter,
        _card.c.newest,
        _card.c.sealed_pan,
        _card.c.sealed_pin,
    ).add_cte(_get_audit)
)
"""One row; the audit row is written only for a PIN that may be handed out."""

READ_COUNTER: Final = _compiled(select(cards.c.state, cards.c.counter).where(_THIS_CARD))
"""One row: state and change counter."""

_activated = (
    cards.update()
    .where(_THIS_CARD, cards.c.state == literal(CardState.INACTIVE.value, String))
    .values(state=CardState.ACTIVE.value)
    .returning(cards.c.issuer_id, cards.c.card_id)
    .cte("activated")
)
_activate_audit = (
    audit_events.insert()
    .from_select(
        _AUDIT_COLUMNS[:5],
        select(_activated, literal(Verb.ACTIVATE.value, String), _ACTOR, _CORRELATION_ID),
    )
    .cte("audit")
)
ACTIVATE: Final = _compiled(
    select(cards.c.state).where(_THIS_CARD).add_cte(_activated, _activate_audit)
)
"""One row: the state before. An inactive card is active afterwards."""

REFUSE: Final = _compiled(
    audit_events.insert().from_select(
        (*_AUDIT_COLUMNS[:5], "reason"),
        select(
            bindparam("issuer_id", type_=String),
            # What a caller sends as card id may be anything, a PAN too: only a known one is kept.
            select(cards.c.card_id).where(_THIS_CARD).scalar_subquery(),
            bindparam("event", type_=String),
            _ACTOR,
            _CORRELATION_ID,
            bindparam("reason", type_=String),
        ),
    )
)
"""Record a refusal."""

READ_ISSUER: Final = _compiled(
    select(issuers.c.state).where(_this(issuers.c.issuer_id, "issuer_id"))
)
READ_CLIENTS: Final = _compiled(
    select(
        clients.c.client_id, clients.c.auth, clients.c.secret_hash, clients.c.certificate_subjects
    ).where(_this(clients.c.issuer_id, "issuer_id"), clients.c.state == text("'active'"))
)
READ_CONFIG: Final = _compiled(
    select(
        vault_config.c.issuer_id,
        vault_config.c.kind,
        vault_config.c.version,
        vault_config.c.valid_from,
        vault_config.c.valid_until,
        vault_config.c.key_label,
        vault_config.c.body,
        vault_config.c.cmac,
    )
    .ext(distinct_on(vault_config.c.kind))
    .where(
        _this(vault_config.c.issuer_id, "issuer_id"),
        vault_config.c.valid_from <= func.now(),
        vault_config.c.valid_until > func.now(),
    )
    .order_by(vault_config.c.kind, vault_config.c.version.desc())
)
"""The newest version of each kind that is valid now."""

DURABILITY: Final = _compiled(
    select(
        func.current_setting("fsync"),
        func.current_setting("full_page_writes"),
        func.current_setting("synchronous_commit"),
    )
)

"""The statements of the request paths, built by SQLAlchemy Core and compiled once, at import.

Each is one round trip on an autocommit connection. Running them as text spares each request
what compiling and unpacking in Core costs, a third of the throughput.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import (
    CTE,
    ClauseElement,
    Column,
    ColumnElement,
    DateTime,
    LargeBinary,
    String,
    Table,
    and_,
    bindparam,
    case,
    exists,
    func,
    literal,
    not_,
    null,
    or_,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, distinct_on, psycopg

from cms.domain.cards import ALLOWED_STATES, CardState, Verb
from cms.domain.limits import SECCOS_CARD, SECCOS_CLIENT, Limit
from cms.persistence.tables import (
    NEWEST_COUNTER,
    VALUE_COLUMNS,
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


def compiled(statement: ClauseElement) -> Statement:
    """Compile a statement for psycopg."""
    dialect = psycopg.dialect()  # type: ignore[no-untyped-call] # SQLAlchemy leaves it untyped
    made = statement.compile(dialect=dialect)
    constants = {name: value for name, value in made.params.items() if value is not None}
    return Statement(str(made), constants)


def matches(table_column: ColumnElement[str], name: str) -> ColumnElement[bool]:
    """Compare a column with the parameter *name*."""
    return table_column == bindparam(name, type_=String)


def _reached(failed_at: Column[Any], limit: Limit, earlier: int = 0) -> ColumnElement[bool]:
    """Compare the one failure, newest first, that reaches *limit*, and *earlier* ones before."""
    oldest: ColumnElement[datetime | None] = failed_at[limit.failures_max + earlier]
    window = timedelta(seconds=limit.window_seconds)
    return func.coalesce(oldest > func.now() - window, False)


def _count_failure(table: Table, this: ColumnElement[bool], limit: Limit) -> Statement:
    """Note a failure now.

    One more than the limit is kept: so the statement knows whether it is the one that reached it,
    and of failures at the same time just one says so.
    """
    failed_at = table.c.seccos_failed_at
    # Not now(), the start of the transaction: those that wait for one row would be out of order.
    newer = func.array_prepend(func.clock_timestamp(), failed_at, type_=ARRAY(DateTime(True)))
    return compiled(
        table.update()
        .where(this)
        .values(seccos_failed_at=newer[1 : limit.failures_max + 1])
        .returning(and_(_reached(failed_at, limit), not_(_reached(failed_at, limit, earlier=1))))
    )


THIS_CARD: Final = and_(
    matches(cards.c.issuer_id, "issuer_id"), matches(cards.c.card_id, "card_id")
)
_KNOWN: Final = exists().where(
    pin_changes.c.issuer_id == cards.c.issuer_id,
    pin_changes.c.card_id == cards.c.card_id,
    pin_changes.c.request_key == bindparam("request_key", type_=LargeBinary),
)
_THIS_CLIENT: Final = and_(
    matches(clients.c.issuer_id, "issuer_id"), matches(clients.c.client_id, "client_id")
)
_REFUSED: Final = _reached(cards.c.seccos_failed_at, SECCOS_CARD)
_LIMITED: Final = (
    select(_reached(clients.c.seccos_failed_at, SECCOS_CLIENT))
    .where(_THIS_CLIENT)
    .scalar_subquery()
)
AUDIT_COLUMNS: Final = ("issuer_id", "card_id", "event", "actor", "correlation_id", "counter")
ACTOR: Final = bindparam("actor", type_=String)
CORRELATION_ID: Final = bindparam("correlation_id", type_=String)

READ_FOR_SET: Final = compiled(
    select(
        cards.c.state,
        cards.c.counter,
        cards.c.sealed_pan,
        _KNOWN,
        _REFUSED,
        func.coalesce(_LIMITED, False),
        cards.c.personalised,
        cards.c.psn,
        cards.c.expiry,
    ).where(THIS_CARD)
)
"""One row, or none where there is no such card.

State, counter, sealed PAN, whether the request key is known, whether the card and whether the
client has failed with SECCOS too often, whether it is personalised, PSN, expiry.
"""


def change_pin(
    *conditions: ColumnElement[bool], reason: ColumnElement[Any], audit_user: ColumnElement[Any]
) -> tuple[CTE, CTE, CTE]:
    """Build the update of a card whose counter and state are still those read.

    Args:
        *conditions: what else must hold.
        reason: for the audit.
        audit_user: for the audit.

    Returns:
        What is updated (issuer, card, new counter), its row of history and its audit row.
    """
    changed = (
        cards.update()
        .where(
            THIS_CARD,
            cards.c.counter == bindparam("counter_read"),
            matches(cards.c.state, "state_read"),
            *conditions,
        )
        .values(
            counter=cards.c.counter + 1,
            sealed_pin=bindparam("sealed_pin", type_=LargeBinary),
            pin_type=bindparam("pin_type", type_=String),
            pin_changed_at=func.now(),
            **{
                column.name: bindparam(column.name, type_=LargeBinary)
                for column in VALUE_COLUMNS.values()
            },
        )
        .returning(cards.c.issuer_id, cards.c.card_id, cards.c.counter)
        .cte("changed")
    )
    history = (
        pin_changes.insert()
        .from_select(
            ["issuer_id", "card_id", "counter", "actor", "request_key"],
            select(changed, ACTOR, bindparam("request_key", type_=LargeBinary)),
        )
        .cte("history")
    )
    audit = (
        audit_events.insert()
        .from_select(
            (*AUDIT_COLUMNS, "reason", "audit_user"),
            select(
                changed.c.issuer_id,
                changed.c.card_id,
                literal(Verb.SET_PIN.value, String),
                ACTOR,
                CORRELATION_ID,
                changed.c.counter,
                reason,
                audit_user,
            ),
        )
        .cte("audit")
    )
    return changed, history, audit


_changed, _history, _set_audit = change_pin(
    or_(
        bindparam("pin_type", type_=String) != literal(PinBlockType.SECCOS.value, String),
        not_(_REFUSED),
    ),
    reason=null(),
    audit_user=null(),
)
CHANGE_PIN: Final = compiled(select(_changed.c.counter).add_cte(_history, _set_audit))
"""One row, the new counter, if counter and state are still those read; else none and no change.

Nor does a card take SECCOS that has failed too often by now.
"""

COUNT_CARD_FAILURE: Final = _count_failure(cards, THIS_CARD, SECCOS_CARD)
"""One row: whether this was the failure that has the card refused."""

COUNT_CLIENT_FAILURE: Final = _count_failure(clients, _THIS_CLIENT, SECCOS_CLIENT)
"""One row: whether this was the failure that has the client limited."""

HAS_PIN_TO_SHOW: Final = and_(
    cards.c.pin_type == literal(PinBlockType.ISO0.value, String),
    cards.c.counter == NEWEST_COUNTER,
)


def in_state(states: Iterable[CardState]) -> ColumnElement[bool]:
    """Compare the state of a card with each of *states*."""
    return or_(*(cards.c.state == literal(state.value, String) for state in sorted(states)))


_card = (
    select(
        cards.c.issuer_id,
        cards.c.card_id,
        cards.c.state,
        cards.c.pin_type,
        cards.c.counter,
        NEWEST_COUNTER.label("newest"),
        cards.c.sealed_pan,
        cards.c.sealed_pin,
        and_(in_state(ALLOWED_STATES[Verb.GET_PIN]), HAS_PIN_TO_SHOW).label("readable"),
    )
    .where(THIS_CARD)
    .cte("card")
)
_get_audit = (
    audit_events.insert()
    .from_select(
        AUDIT_COLUMNS,
        select(
            _card.c.issuer_id,
            _card.c.card_id,
            literal(Verb.GET_PIN.value, String),
            ACTOR,
            CORRELATION_ID,
            _card.c.counter,
        ).where(_card.c.readable),
    )
    .cte("audit")
)
GET_PIN: Final = compiled(
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
_activate_audit = (
    audit_events.insert()
    .from_select(
        AUDIT_COLUMNS[:5],
        select(_activated, literal(Verb.ACTIVATE.value, String), ACTOR, CORRELATION_ID),
    )
    .cte("audit")
)
ACTIVATE: Final = compiled(
    select(cards.c.state).where(THIS_CARD).add_cte(_activated, _activate_audit)
)
"""One row: the state before. An inactive card is active, and personalised, afterwards."""

REFUSE: Final = compiled(
    audit_events.insert().from_select(
        (*AUDIT_COLUMNS[:5], "reason", "audit_user", "error_id"),
        select(
            bindparam("issuer_id", type_=String),
            # What a caller sends as card id may be anything, a PAN too: only a known one is kept.
            select(cards.c.card_id).where(THIS_CARD).scalar_subquery(),
            bindparam("event", type_=String),
            ACTOR,
            CORRELATION_ID,
            bindparam("reason", type_=String),
            bindparam("audit_user", type_=String),
            bindparam("error_id", type_=String),
        ),
    )
)
"""Record a refusal."""

READ_ISSUER: Final = compiled(
    select(issuers.c.state).where(matches(issuers.c.issuer_id, "issuer_id"))
)
READ_CLIENTS: Final = compiled(
    select(
        clients.c.client_id,
        clients.c.auth,
        clients.c.secret_hash,
        clients.c.certificate_subjects,
        clients.c.redirect_origins,
        clients.c.embed_origins,
        clients.c.failure_image_status,
        clients.c.frame_key,
        clients.c.show_button,
        clients.c.hide_seconds,
        clients.c.view_style,
    ).where(matches(clients.c.issuer_id, "issuer_id"), clients.c.state == text("'active'"))
)
_VALID: Final = vault_config.c.valid_until > func.now()
CONFIG_NOW: Final = (
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
    .where(matches(vault_config.c.issuer_id, "issuer_id"), vault_config.c.valid_from <= func.now())
    .order_by(
        vault_config.c.kind,
        _VALID.desc(),
        case((_VALID, vault_config.c.version)).desc(),
        vault_config.c.valid_from.desc(),
        vault_config.c.version.desc(),
    )
)
"""The newest version of each kind that is valid now, else the one that started last and lapsed.

The vault refuses one that lapsed. Left out, it would pass for one that the issuer never had, and
PINs would be set without the verification values that it asks for.
"""
READ_CONFIG: Final = compiled(CONFIG_NOW)

DURABILITY: Final = compiled(
    select(
        func.current_setting("fsync"),
        func.current_setting("full_page_writes"),
        func.current_setting("synchronous_commit"),
    )
)

"""What Thales D1 asks for: set a PIN, get it, read the change counter, activate a card."""

from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    Column,
    ColumnElement,
    DateTime,
    String,
    Table,
    and_,
    bindparam,
    exists,
    func,
    literal,
    not_,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY

from cms.domain.cards import ALLOWED_STATES, GET_PIN_ATTEMPTED, CardState, Verb
from cms.domain.limits import SECCOS_CARD, SECCOS_CLIENT, Limit
from cms.persistence.statements import Statement, compiled
from cms.persistence.statements.parts import (
    HAS_PIN_TO_SHOW,
    REQUEST_KEY,
    THIS_CARD,
    audit,
    change_pin,
    in_state,
    matches,
    seconds,
)
from cms.persistence.tables import NEWEST_COUNTER, cards, clients, pin_changes
from hsm.port import PinBlockType


def _reached(failed_at: Column[Any], limit: Limit, earlier: int = 0) -> ColumnElement[bool]:
    """Compare the one failure, newest first, that reaches *limit*, and *earlier* ones before."""
    oldest: ColumnElement[datetime | None] = failed_at[limit.failures_max + earlier]
    return func.coalesce(oldest > func.now() - seconds(limit.window_seconds), False)


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
        .returning(
            and_(_reached(failed_at, limit), not_(_reached(failed_at, limit, earlier=1))).label(
                "has_reached"
            )
        )
    )


_THIS_CLIENT: Final = and_(
    matches(clients.c.issuer_id, "issuer_id"), matches(clients.c.client_id, "client_id")
)
_IS_KNOWN: Final = exists().where(
    pin_changes.c.issuer_id == cards.c.issuer_id,
    pin_changes.c.card_id == cards.c.card_id,
    pin_changes.c.request_key == REQUEST_KEY,
)
_IS_REFUSED: Final = _reached(cards.c.seccos_failed_at, SECCOS_CARD)
_IS_LIMITED: Final = (
    select(_reached(clients.c.seccos_failed_at, SECCOS_CLIENT).label("is_limited"))
    .where(_THIS_CLIENT)
    .scalar_subquery()
)

READ_FOR_SET: Final = compiled(
    select(
        cards.c.state,
        cards.c.counter,
        cards.c.sealed_pan,
        _IS_KNOWN.label("is_known"),
        _IS_REFUSED.label("is_refused"),
        func.coalesce(_IS_LIMITED, False).label("is_limited"),
        cards.c.personalised,
        cards.c.psn,
        cards.c.expiry,
    ).where(THIS_CARD)
)
"""One row, or none where there is no such card.

State, counter, sealed PAN, whether the request key is known, whether the card and whether the
client has failed with SECCOS too often, whether it is personalised, PSN, expiry.
"""

_changed, _history, _set_audit = change_pin(
    or_(
        bindparam("pin_type", type_=String) != literal(PinBlockType.SECCOS.value, String),
        not_(_IS_REFUSED),
    )
)
CHANGE_PIN: Final = compiled(select(_changed.c.counter).add_cte(_history, _set_audit))
"""One row, the new counter, if counter and state are still those read; else none and no change.

Nor does a card take SECCOS that has failed too often by now.
"""

COUNT_CARD_FAILURE: Final = _count_failure(cards, THIS_CARD, SECCOS_CARD)
"""One row: whether this was the failure that has the card refused."""

COUNT_CLIENT_FAILURE: Final = _count_failure(clients, _THIS_CLIENT, SECCOS_CLIENT)
"""One row: whether this was the failure that has the client limited."""

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
        and_(in_state(ALLOWED_STATES[Verb.GET_PIN]), HAS_PIN_TO_SHOW).label("is_readable"),
    )
    .where(THIS_CARD)
    .cte("card")
)
GET_PIN: Final = compiled(
    select(
        _card.c.state,
        _card.c.pin_type,
        _card.c.counter,
        _card.c.newest,
        _card.c.sealed_pan,
        _card.c.sealed_pin,
    ).add_cte(audit(GET_PIN_ATTEMPTED, _card, _card.c.is_readable, counter=_card.c.counter))
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

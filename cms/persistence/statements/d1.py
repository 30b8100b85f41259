"""What Thales D1 asks for: set a PIN, get it, read the change counter, activate a card."""

from datetime import datetime
from typing import Final

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    DateTime,
    Integer,
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
from sqlalchemy.dialects.postgresql import ARRAY, array, insert

from cms.domain.cards import CardState, Verb
from cms.domain.limits import CARD_WINDOW_SECONDS, CLIENT_WINDOW_SECONDS, Tally
from cms.persistence.statements import Statement, compiled
from cms.persistence.statements.parts import (
    CARD_TO_READ,
    REQUEST_KEY,
    THIS_CARD,
    audit,
    change_pin,
    matches,
    seconds,
)
from cms.persistence.tables import cards, client_failures, pin_changes
from hsm.port import PinBlockType


def _max(parameter: str) -> BindParameter[int]:
    return bindparam(parameter, type_=Integer)


_FAILURES_MAX: Final = _max("failures_max")
"""How many failures are too many; that, and each other such number, is the issuer's policy."""
_WINDOW_SECONDS: Final = {cards: CARD_WINDOW_SECONDS, client_failures: CLIENT_WINDOW_SECONDS}


def _reached(table: Table, tally: Tally, place: ColumnElement[int]) -> ColumnElement[bool]:
    """Tell whether the failure at *place*, newest first, is within the window."""
    oldest: ColumnElement[datetime | None] = table.c[tally][place]
    return func.coalesce(oldest > func.now() - seconds(_WINDOW_SECONDS[table]), False)


def _one_more(table: Table, tally: Tally) -> ColumnElement[list[datetime]]:
    """Put a failure now before the others.

    One more than the limit is kept: so the statement knows whether it is the one that reached it,
    and of failures at the same time just one says so.
    """
    # Not now(), the start of the transaction: those that wait for one row would be out of order.
    newer = func.array_prepend(func.clock_timestamp(), table.c[tally], type_=ARRAY(DateTime(True)))
    return newer[1 : _FAILURES_MAX + 1]


def _has_reached(table: Table, tally: Tally) -> ColumnElement[bool]:
    """Tell whether the failure that was put before the others is the one that reached the limit."""
    beyond = _FAILURES_MAX + 1
    is_reached = and_(_reached(table, tally, _FAILURES_MAX), not_(_reached(table, tally, beyond)))
    return is_reached.label("has_reached")


def _count_card_failure(tally: Tally) -> Statement:
    return compiled(
        cards.update()
        .where(THIS_CARD)
        .values({cards.c[tally]: _one_more(cards, tally)})
        .returning(_has_reached(cards, tally))
    )


def _count_client_failure(tally: Tally) -> Statement:
    first = insert(client_failures).values(
        issuer_id=bindparam("issuer_id", type_=String),
        client_id=bindparam("client_id", type_=String),
        **{tally: array([func.clock_timestamp()])},
    )
    return compiled(
        first.on_conflict_do_update(
            index_elements=[client_failures.c.issuer_id, client_failures.c.client_id],
            set_={tally: _one_more(client_failures, tally)},
        ).returning(_has_reached(client_failures, tally))
    )


_THIS_CLIENT: Final = and_(
    matches(client_failures.c.issuer_id, "issuer_id"),
    matches(client_failures.c.client_id, "client_id"),
)
_IS_KNOWN: Final = exists().where(
    pin_changes.c.issuer_id == cards.c.issuer_id,
    pin_changes.c.card_id == cards.c.card_id,
    pin_changes.c.request_key == REQUEST_KEY,
)
_TAKES_NO: Final = {
    PinBlockType.ISO0: or_(
        _reached(cards, Tally.ISO0, _max("failures_card_max")),
        _reached(cards, Tally.POLICY, _max("refusals_card_max")),
    ),
    PinBlockType.SECCOS: _reached(cards, Tally.SECCOS, _max("failures_card_max")),
}
"""Whether a card's PINs of this form failed too often."""


def _is_limited(tally: Tally) -> ColumnElement[bool]:
    """Tell whether the client has failed too often; one without a row has not failed yet."""
    is_reached = _reached(client_failures, tally, _max("failures_client_max"))
    limited = select(is_reached.label("is_limited")).where(_THIS_CLIENT)
    return func.coalesce(limited.scalar_subquery(), False)


READ_FOR_SET: Final = compiled(
    select(
        cards.c.state,
        cards.c.counter,
        cards.c.sealed_record,
        _IS_KNOWN.label("is_known"),
        *(_TAKES_NO[form].label(f"takes_no_{form.name.lower()}") for form in PinBlockType),
        _is_limited(Tally.ISO0).label("is_iso0_limited"),
        _is_limited(Tally.SECCOS).label("is_seccos_limited"),
        cards.c.personalised,
    ).where(THIS_CARD)
)
"""One row, or none where there is no such card.

State, counter, sealed record, whether the request key is known; for ISO-0 and for SECCOS whether
the card has failed too often, and whether the client has; whether it is personalised.
"""

_PIN_TYPE: Final = bindparam("pin_type", type_=String)
_changed, _history, _set_audit = change_pin(
    *(
        or_(literal(form.value, String) != _PIN_TYPE, not_(takes_none))
        for form, takes_none in _TAKES_NO.items()
    )
)
CHANGE_PIN: Final = compiled(select(_changed.c.counter).add_cte(_history, _set_audit))
"""One row, the new counter, if counter and state are still those read; else none and no change.

Nor does a card take a PIN in a form in which it has failed too often by now.
"""

COUNT_CARD_ISO0_FAILURE: Final = _count_card_failure(Tally.ISO0)
COUNT_CARD_POLICY_REFUSAL: Final = _count_card_failure(Tally.POLICY)
COUNT_CARD_SECCOS_FAILURE: Final = _count_card_failure(Tally.SECCOS)
COUNT_CARD_FAILURE: Final = {
    Tally.ISO0: COUNT_CARD_ISO0_FAILURE,
    Tally.POLICY: COUNT_CARD_POLICY_REFUSAL,
    Tally.SECCOS: COUNT_CARD_SECCOS_FAILURE,
}
"""One row: whether this was the failure that has the card refused."""

COUNT_CLIENT_ISO0_FAILURE: Final = _count_client_failure(Tally.ISO0)
COUNT_CLIENT_SECCOS_FAILURE: Final = _count_client_failure(Tally.SECCOS)
COUNT_CLIENT_FAILURE: Final = {
    Tally.ISO0: COUNT_CLIENT_ISO0_FAILURE,
    Tally.SECCOS: COUNT_CLIENT_SECCOS_FAILURE,
}
"""One row: whether this was the failure that has the client limited."""

READ_FOR_GET: Final = compiled(select(*CARD_TO_READ).where(THIS_CARD))
"""One row, or none where there is no such card."""

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

"""What statements of more than one module are made of.

The database may be one whose rows are split by issuer, over many servers. So that a statement goes
to one of them, each table in it is compared with the parameter ``issuer_id`` itself, and not only
with the issuer of another; and since its parts may run one after the other there, none reads what
another has written, but from what that returns (``docs/scaling.md``).
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import (
    CTE,
    Boolean,
    ColumnElement,
    FromClause,
    Insert,
    Interval,
    LargeBinary,
    String,
    Table,
    and_,
    bindparam,
    exists,
    func,
    literal,
    null,
    select,
)

from cms.domain.cards import CardType, Verb
from cms.domain.scripts import ScriptState
from cms.persistence.tables import (
    IS_OPEN,
    VALUE_COLUMNS,
    audit_events,
    card_scripts,
    cards,
    newest_counter,
    pin_changes,
)

ACTOR: Final = bindparam("actor", type_=String)
CORRELATION_ID: Final = bindparam("correlation_id", type_=String)
RECEIPT: Final = bindparam("receipt", type_=String)
REQUEST_KEY: Final = bindparam("request_key", type_=LargeBinary)


#: What becomes of a script that is open when the PIN of its card changes, or is forgotten.
SUPERSEDED: Final[Mapping[str, ColumnElement[Any]]] = {
    "state": literal(ScriptState.SUPERSEDED.value, String),
    "superseded_at": func.now(),
    "sealed_earlier_pin": null(),
}


def matches(column: ColumnElement[str], parameter: str) -> ColumnElement[bool]:
    """Compare a column with a parameter."""
    return column == bindparam(parameter, type_=String)


def seconds(count: int) -> ColumnElement[timedelta]:
    """Make an interval."""
    return literal(timedelta(seconds=count), Interval)


def of_issuer(rows: FromClause) -> ColumnElement[bool]:
    """Compare the issuer of a table's rows with the parameter."""
    return matches(rows.c.issuer_id, "issuer_id")


THIS_CARD: Final = and_(of_issuer(cards), matches(cards.c.card_id, "card_id"))

CARD_TO_READ: Final = (
    cards.c.state,
    cards.c.pin_type,
    cards.c.counter,
    newest_counter(bindparam("issuer_id", type_=String)).label("newest"),
    cards.c.sealed_record,
    cards.c.sealed_pin,
)
"""In the order of :class:`cms.domain.records.CardToRead`."""


def insert_from(
    table: Table, values: Mapping[str, ColumnElement[Any]], *conditions: ColumnElement[bool]
) -> Insert:
    """Insert *values*, by the names of their columns, for each row that they are read from."""
    row = select(*(value.label(column) for column, value in values.items()))
    return table.insert().from_select(list(values), row.where(*conditions))


def audit(
    event: str, card: CTE, *conditions: ColumnElement[bool], **columns: ColumnElement[Any]
) -> CTE:
    """Audit *event* on each row of *card*.

    Args:
        event: its name.
        card: has ``issuer_id`` and ``card_id``.
        *conditions: what else must hold.
        **columns: what the audit row has beside card, actor and correlation id.
    """
    return insert_from(
        audit_events,
        {
            "issuer_id": card.c.issuer_id,
            "card_id": card.c.card_id,
            "event": literal(event, String),
            "actor": ACTOR,
            "correlation_id": CORRELATION_ID,
            **columns,
        },
        *conditions,
    ).cte("audit")


def change_pin(
    *conditions: ColumnElement[bool], **audit_columns: ColumnElement[Any]
) -> tuple[CTE, Sequence[CTE]]:
    """Build the update of a card whose counter, state and record are still those read.

    A feed may have given it to another holder since: what the vault sealed is for the one before.

    Args:
        *conditions: what else must hold.
        **audit_columns: what the audit row has beside card, actor, correlation id, counter and
            the receipt of the vault.

    Returns:
        What is updated (issuer, card, new counter), and what goes with it: the card before, its row
        of history, its audit row, and its scripts. The card before is the first.
    """
    before = select(cards.c.card_type, cards.c.sealed_pin).where(THIS_CARD).cte("before")
    changed = (
        cards.update()
        .where(
            THIS_CARD,
            cards.c.counter == bindparam("counter_read"),
            matches(cards.c.state, "state_read"),
            cards.c.sealed_record == bindparam("sealed_record_read", type_=LargeBinary),
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
    history = insert_from(
        pin_changes,
        {
            "issuer_id": changed.c.issuer_id,
            "card_id": changed.c.card_id,
            "counter": changed.c.counter,
            "actor": ACTOR,
            "request_key": REQUEST_KEY,
        },
    ).cte("history")
    audit_columns |= {"counter": changed.c.counter, "receipt": RECEIPT}
    event = audit(Verb.SET_PIN.value, changed, **audit_columns)
    return changed, (before, history, event, *_scripts(before, changed))


def _scripts(before: CTE, changed: CTE) -> tuple[CTE, CTE]:
    """Supersede the script of a card that is *changed*, and begin the next where one is due."""
    superseded = (
        card_scripts.update()
        .where(
            of_issuer(card_scripts),
            matches(card_scripts.c.card_id, "card_id"),
            # One that is open is of the change before. By its key it is found in a table of any
            # size, whatever size that had when the statement was prepared.
            card_scripts.c.counter == bindparam("counter_read"),
            IS_OPEN,
            exists(select(changed.c.counter)),
        )
        .values(SUPERSEDED)
        .cte("superseded")
    )
    begun = insert_from(
        card_scripts,
        {
            "issuer_id": changed.c.issuer_id,
            "card_id": changed.c.card_id,
            "counter": changed.c.counter,
            "sealed_earlier_pin": before.c.sealed_pin,
        },
        before.c.card_type != literal(CardType.VIRTUAL.value, String),
        bindparam("script_due", type_=Boolean),
    ).cte("begun")
    return superseded, begun

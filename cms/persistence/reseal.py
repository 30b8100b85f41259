"""Cards whose sealed values are to go under other keys: which they are, and their new values.

A row gets all its new values or none: only while its counter and every sealed value are still
those that were read.
"""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    LargeBinary,
    Select,
    TableValuedAlias,
    column,
    func,
    insert,
    literal,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY

from cms.persistence.admin import OPERATOR, Database
from cms.persistence.key_labels import is_under_another
from cms.persistence.tables import NEWEST_COUNTER, VALUE_COLUMNS, audit_events, cards, issuers
from hsm.port import Beginnings, CardRef, SealedPin, SealedRecord, SealedValue, StoredCard

RESEALED: Final = "cards.resealed"
SEALED: Final = (cards.c.sealed_record, cards.c.sealed_pin, *VALUE_COLUMNS.values())
"""In the order in which they are read and written."""


def issuer_ids(database: Database) -> Sequence[str]:
    """List the issuers."""
    return database.scalars(select(issuers.c.issuer_id).order_by(issuers.c.issuer_id)).all()


def count_all(database: Database, issuer_id: str) -> int:
    """Count the cards of an issuer."""
    return database.scalar(_of(select(func.count()), issuer_id)) or 0


def count_left(database: Database, issuer_id: str, beginnings: Beginnings) -> int:
    """Count those that have a value that does not begin as it would under the active keys."""
    statement = _of(select(func.count()), issuer_id).where(_is_left(beginnings))
    return database.scalar(statement) or 0


def read_left(
    database: Database, issuer_id: str, beginnings: Beginnings, *, after: str, count_max: int
) -> Sequence[tuple[StoredCard, int]]:
    """Read the next of them by their id, and with each the last counter in its history.

    Args:
        database: an open transaction.
        issuer_id: whose cards.
        beginnings: how every value under the active keys begins.
        after: the id that comes before them; an empty one for the first.
        count_max: at most so many.
    """
    columns = select(cards.c.card_id, cards.c.counter, NEWEST_COUNTER, *SEALED)
    statement = (
        _of(columns, issuer_id)
        .where(cards.c.card_id > after, _is_left(beginnings))
        .order_by(cards.c.card_id)
        .limit(count_max)
    )
    return [
        (_stored(CardRef(issuer_id, card_id), counter, sealed), newest)
        for card_id, counter, newest, *sealed in database.execute(statement)
    ]


def store(
    database: Database, issuer_id: str, changes: Sequence[tuple[StoredCard, StoredCard]]
) -> int:
    """Store cards as they are after resealing, where they are still as before; count these.

    A row that somebody else holds is left out, and so is one that changed.

    Args:
        database: an open transaction.
        issuer_id: whose cards.
        changes: each card as it was read, and as it is to be.
    """
    if not changes:
        return 0
    let_go_soon(database)
    given = _given(changes)
    is_same = (
        cards.c.issuer_id == issuer_id,
        cards.c.card_id == given.c.card_id,
        cards.c.counter == given.c.counter,
        *(one.is_not_distinct_from(given.c[f"old_{one.name}"]) for one in SEALED),
    )
    # In one order, so that two of us wait for one another never.
    mine = (
        select(*given.c)
        .select_from(cards.join(given, is_same[1]))
        .where(*is_same)
        .order_by(cards.c.card_id)
        .with_for_update(of=cards, key_share=True, skip_locked=True)
        .cte("mine")
    )
    stored = (
        update(cards)
        .where(cards.c.issuer_id == issuer_id, cards.c.card_id == mine.c.card_id)
        .values({one.name: mine.c[f"new_{one.name}"] for one in SEALED})
    )
    count = database.execute(stored).rowcount
    if count:
        event = {"issuer_id": issuer_id, "event": RESEALED, "actor": OPERATOR}
        database.execute(insert(audit_events).values(**event, reason=f"{count} cards"))
    return count


def let_go_soon(database: Database) -> None:
    """Commit this transaction without waiting for the disk: others wait for its rows.

    What is lost with the power is done again by the next run.
    """
    database.execute(text("SET LOCAL synchronous_commit TO off"))


def _of(statement: Select[Any], issuer_id: str) -> Select[Any]:
    return statement.select_from(cards).where(cards.c.issuer_id == issuer_id)


def _is_left(beginnings: Beginnings) -> ColumnElement[bool]:
    under = (beginnings.record, beginnings.pin, *[beginnings.values] * len(VALUE_COLUMNS))
    return or_(*map(is_under_another, SEALED, under))


def _stored(card: CardRef, counter: int, sealed: Sequence[bytes | None]) -> StoredCard:
    record, pin, *values = sealed
    found = {
        kind: SealedValue(value)
        for kind, value in zip(VALUE_COLUMNS, values, strict=True)
        if value is not None
    }
    return StoredCard(
        *(card, counter, SealedRecord(record or b"")),
        *(None if pin is None else SealedPin(pin), found),
    )


def _given(changes: Sequence[tuple[StoredCard, StoredCard]]) -> TableValuedAlias:
    """Make a table of what was read and what is to be."""
    columns: dict[str, tuple[Any, list[object]]] = {
        "card_id": (cards.c.card_id.type, [old.card.card_id for old, _ in changes]),
        "counter": (cards.c.counter.type, [old.counter for old, _ in changes]),
    }
    for prefix, position in (("old", 0), ("new", 1)):
        rows = [_values(change[position]) for change in changes]
        for number, one in enumerate(SEALED):
            columns[f"{prefix}_{one.name}"] = (LargeBinary(), [row[number] for row in rows])
    arrays = [literal(values, ARRAY(kind)) for kind, values in columns.values()]
    named = [column(name, kind) for name, (kind, _) in columns.items()]
    return func.unnest(*arrays).table_valued(*named).render_derived(name="given")


def _values(stored: StoredCard) -> Sequence[bytes | None]:
    return (
        stored.sealed_record,
        stored.sealed_pin,
        *(stored.values.get(kind) for kind in VALUE_COLUMNS),
    )

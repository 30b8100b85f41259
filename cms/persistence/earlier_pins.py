"""The earlier PINs that wait for a chip, like cards in :mod:`cms.persistence.reseal`.

Such a PIN is that of the change before the card's newest one, and of the same record.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import LargeBinary, Select, column, func, insert, literal, select, update
from sqlalchemy.dialects.postgresql import ARRAY

from cms.persistence.admin import OPERATOR, Database
from cms.persistence.key_labels import is_under_another
from cms.persistence.reseal import RESEALED, let_go_soon
from cms.persistence.tables import NEWEST_COUNTER, audit_events, card_scripts, cards
from hsm.port import Beginnings, CardRef, SealedPin, SealedRecord, StoredCard

PIN = card_scripts.c.sealed_earlier_pin


def count_all(database: Database, issuer_id: str) -> int:
    """Count the earlier PINs of an issuer."""
    return database.scalar(_of(select(func.count()), issuer_id)) or 0


def count_left(database: Database, issuer_id: str, beginnings: Beginnings) -> int:
    """Count those that do not begin as they would under the active key."""
    left = is_under_another(PIN, beginnings.pin)
    return database.scalar(_of(select(func.count()), issuer_id).where(left)) or 0


def read_left(
    database: Database, issuer_id: str, beginnings: Beginnings, *, after: str, count_max: int
) -> Sequence[tuple[StoredCard, int]]:
    """Read the next of them, by the id of the card: each as a card whose PIN it is."""
    before = (card_scripts.c.counter - 1, NEWEST_COUNTER - 1)
    statement = (
        _of(select(cards.c.card_id, *before, cards.c.sealed_record, PIN), issuer_id)
        .where(cards.c.card_id > after, is_under_another(PIN, beginnings.pin))
        .order_by(cards.c.card_id)
        .limit(count_max)
    )
    return [
        (_stored(CardRef(issuer_id, card_id), counter, record, pin), newest)
        for card_id, counter, newest, record, pin in database.execute(statement)
    ]


def store(
    database: Database, issuer_id: str, changes: Sequence[tuple[StoredCard, StoredCard]]
) -> int:
    """Store those that are still as they were read; count these."""
    changes = [change for change in changes if change[0].sealed_pin != change[1].sealed_pin]
    if not changes:
        return 0
    let_go_soon(database)
    columns = {
        "card_id": (cards.c.card_id.type, [old.card.card_id for old, _ in changes]),
        "counter": (cards.c.counter.type, [old.counter + 1 for old, _ in changes]),
        "old_pin": (LargeBinary(), [old.sealed_pin for old, _ in changes]),
        "new_pin": (LargeBinary(), [new.sealed_pin for _, new in changes]),
    }
    arrays = [literal(values, ARRAY(kind)) for kind, values in columns.values()]
    named = [column(name, kind) for name, (kind, _) in columns.items()]
    given = func.unnest(*arrays).table_valued(*named).render_derived(name="given")
    key = (card_scripts.c.card_id == given.c.card_id, card_scripts.c.counter == given.c.counter)
    mine = (
        select(*given.c)
        .select_from(card_scripts.join(given, key[0]))
        .where(card_scripts.c.issuer_id == issuer_id, *key, given.c.old_pin == PIN)
        .order_by(card_scripts.c.card_id)
        .with_for_update(of=card_scripts, key_share=True, skip_locked=True)
        .cte("mine")
    )
    stored = (
        update(card_scripts)
        .where(
            card_scripts.c.issuer_id == issuer_id,
            card_scripts.c.card_id == mine.c.card_id,
            card_scripts.c.counter == mine.c.counter,
        )
        .values(sealed_earlier_pin=mine.c.new_pin)
    )
    count = database.execute(stored).rowcount
    if count:
        event = {"issuer_id": issuer_id, "event": RESEALED, "actor": OPERATOR}
        database.execute(insert(audit_events).values(**event, reason=f"{count} earlier PINs"))
    return count


def _of(statement: Select[Any], issuer_id: str) -> Select[Any]:
    same = (
        cards.c.issuer_id == card_scripts.c.issuer_id,
        cards.c.card_id == card_scripts.c.card_id,
    )
    waiting = (cards.c.issuer_id == issuer_id, PIN.is_not(None))
    return statement.select_from(cards, card_scripts).where(*same, *waiting)


def _stored(card: CardRef, counter: int, record: bytes, pin: bytes) -> StoredCard:
    return StoredCard(card, counter, SealedRecord(record), SealedPin(pin), {})

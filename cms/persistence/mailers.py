"""Which PINs the personalisation bureau is to get, and which it got.

A card notes the change counter of the PIN that the bureau got last, so that it gets each PIN once.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Select, any_, insert, literal, select, update
from sqlalchemy.dialects.postgresql import ARRAY

from cms.domain.cards import CardState, CardType
from cms.persistence.admin import OPERATOR, Database
from cms.persistence.tables import NEWEST_COUNTER, audit_events, cards
from hsm.port import CardRef, SealedPin, SealedRecord, StoredPin

MAILER: Final = "pin.mailer"
"""The audit event: the bureau got a PIN."""


@dataclass(frozen=True, slots=True)
class PinToMail:
    """A sealed PIN; *newest* is the last counter in the history of its card."""

    stored: StoredPin
    newest: int


@dataclass(frozen=True, slots=True)
class Mailed:
    """A PIN that the bureau got, and the vault's receipt."""

    counter: int
    receipt: str


def due(database: Database, issuer_id: str, *, after: str, count_max: int) -> Sequence[PinToMail]:
    """Read the next PINs, by card id, that the bureau has not got and its cards wait for.

    Those are of cards that are neither personalised nor closed, and no virtual ones.

    Args:
        database: an open transaction.
        issuer_id: whose cards.
        after: the card id that comes before them; an empty one for the first.
        count_max: at most so many.
    """
    waiting = cards.c.personalised.is_(False)
    not_mailed = cards.c.bureau_counter.is_distinct_from(cards.c.counter)
    statement = _with_pin(issuer_id, after, count_max).where(waiting, not_mailed)
    return _read(database, issuer_id, statement)


def named(
    database: Database, issuer_id: str, card_ids: Collection[str], *, after: str, count_max: int
) -> Sequence[PinToMail]:
    """Read the next PINs of these cards, no virtual ones, whether the bureau got them or not."""
    wanted = cards.c.card_id == any_(literal([*card_ids], ARRAY(cards.c.card_id.type)))
    statement = _with_pin(issuer_id, after, count_max).where(wanted)
    return _read(database, issuer_id, statement)


def note(
    database: Database, issuer_id: str, mailed: Mapping[str, Mailed], reason: str | None
) -> None:
    """Note what the bureau got, by card id; what was noted before is left out.

    Args:
        database: an open transaction.
        issuer_id: whose cards.
        mailed: what it got.
        reason: why it got it again; None: it had not.
    """
    receipts = literal([one.receipt for one in mailed.values()], ARRAY(audit_events.c.receipt.type))
    known = select(audit_events.c.receipt).where(
        audit_events.c.issuer_id == issuer_id,
        audit_events.c.card_id == any_(literal([*mailed], ARRAY(cards.c.card_id.type))),
        audit_events.c.event == MAILER,
        audit_events.c.receipt == any_(receipts),
    )
    noted = {*database.scalars(known)}
    common = {"issuer_id": issuer_id, "event": MAILER, "actor": OPERATOR, "reason": reason}
    for card_id, one in mailed.items():
        if one.receipt in noted:
            continue
        got = update(cards).filter_by(issuer_id=issuer_id, card_id=card_id)
        database.execute(got.values(bureau_counter=one.counter))
        row = {"card_id": card_id, "counter": one.counter, "receipt": one.receipt}
        database.execute(insert(audit_events).values(**common, **row))


def _with_pin(issuer_id: str, after: str, count_max: int) -> Select[Any]:
    columns = (cards.c.card_id, cards.c.counter, cards.c.sealed_pin, cards.c.sealed_record)
    return (
        select(*columns, NEWEST_COUNTER)
        .where(
            cards.c.issuer_id == issuer_id,
            cards.c.card_id > after,
            cards.c.sealed_pin.is_not(None),
            cards.c.state != CardState.CLOSED.value,
            cards.c.card_type != CardType.VIRTUAL.value,
        )
        .order_by(cards.c.card_id)
        .limit(count_max)
    )


def _read(database: Database, issuer_id: str, statement: Select[Any]) -> Sequence[PinToMail]:
    return [
        PinToMail(
            StoredPin(
                *(CardRef(issuer_id, card_id), counter),
                *(SealedPin(sealed_pin), SealedRecord(sealed_record)),
            ),
            newest,
        )
        for card_id, counter, sealed_pin, sealed_record, newest in database.execute(statement)
    ]

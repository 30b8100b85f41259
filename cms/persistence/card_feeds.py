"""Cards that come in, a feed at a time: statements that take many cards each.

A feed is one transaction. What it leaves in ``card_feeds`` keeps it from being loaded again.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    Column,
    ColumnElement,
    Select,
    TableValuedAlias,
    and_,
    any_,
    case,
    column,
    func,
    insert,
    literal,
    not_,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import insert as insert_or_nothing

from cms.domain.cards import CardState, CardType
from cms.domain.control import EndReason
from cms.persistence.admin import OPERATOR, Database, rules
from cms.persistence.statements.parts import SUPERSEDED
from cms.persistence.tables import (
    IS_OPEN,
    audit_events,
    card_feeds,
    card_scripts,
    cards,
    control_tokens,
    sealed_columns,
)
from hsm.port import SealedChange, SealedRecord

REASON_CHARS: Final = 40
"""Of the digest that an audit event shows."""
#: What a new card has where nothing else is said.
NEW_CARD: Final[Mapping[str, object]] = {
    **dict.fromkeys(sealed_columns(SealedChange(None, {}, ""))),
    **dict.fromkeys(("pin_type", "cardholder_id", "plastic_id")),
    "card_type": CardType.PHYSICAL.value,
    "personalised": False,
}
NO_RECEIPTS: Final[Mapping[str, tuple[str, str]]] = {}
#: What a feed may leave as it is.
KEPT: Final = ("state", "card_type", "personalised")


@dataclass(frozen=True, slots=True)
class CardBefore:
    """A card that is there before a feed is loaded."""

    state: CardState
    sealed_record: SealedRecord
    counter: int
    has_pin: bool
    had_pin: bool

    @property
    def next_counter(self) -> int:
        """Of a PIN that is made of it: 0 of its first one, which comes with the card."""
        return self.counter + 1 if self.had_pin else 0


def is_loaded(database: Database, issuer_id: str, digest: bytes) -> bool:
    """Tell whether a feed was loaded before.

    Args:
        database: an open transaction.
        issuer_id: whose feed.
        digest: SHA-256 of it.
    """
    found = select(card_feeds.c.digest).filter_by(issuer_id=issuer_id, digest=digest)
    return database.scalar(found) is not None


def begin_feed(database: Database, issuer_id: str, digest: bytes) -> bool:
    """Note that a feed is loaded in this transaction; whoever loads it too waits for its end.

    Returns:
        Whether it was not loaded before.
    """
    row = {"issuer_id": issuer_id, "digest": digest}
    # A row, not a count of rows: of an insert SQLAlchemy does not know it.
    statement = insert_or_nothing(card_feeds).values(row).on_conflict_do_nothing()
    if database.scalar(statement.returning(card_feeds.c.digest)) is not None:
        shown = digest.hex()[:REASON_CHARS]
        values = {"issuer_id": issuer_id, "event": "feed.loaded", "actor": OPERATOR}
        database.execute(insert(audit_events).values(**values, reason=shown))
        return True
    return False


def cards_before(
    database: Database, issuer_id: str, card_ids: Collection[str], *, lock: bool = False
) -> Mapping[str, CardBefore]:
    """Read which of these cards are there; *lock* keeps them as they are to the end."""
    statement = (
        select(
            cards.c.card_id,
            cards.c.state,
            cards.c.sealed_record,
            cards.c.counter,
            cards.c.pin_type.is_not(None),
            cards.c.pin_changed_at.is_not(None),
        )
        .where(*_of(issuer_id, card_ids))
        .order_by(cards.c.card_id)
    )
    if lock:
        # In one order: two feeds wait for one another, and none for ever.
        statement = statement.with_for_update(key_share=True)
    return {
        card_id: CardBefore(CardState(state), SealedRecord(sealed_record), *pin)
        for card_id, state, sealed_record, *pin in database.execute(statement)
    }


def taken_plastic_ids(
    database: Database, issuer_id: str, plastic_ids: Collection[str], card_ids: Collection[str]
) -> set[str]:
    """Name those of *plastic_ids* that cards beside those of *card_ids* have."""
    taken = select(cards.c.plastic_id).where(
        cards.c.issuer_id == issuer_id,
        _is_any(cards.c.plastic_id, plastic_ids),
        not_(_is_any(cards.c.card_id, card_ids)),
    )
    return {*database.scalars(taken)}


def add_cards(
    database: Database,
    issuer_id: str,
    rows: Sequence[Mapping[str, object]],
    receipts: Mapping[str, tuple[str, str]] = NO_RECEIPTS,
) -> None:
    """Add cards.

    Args:
        database: an open transaction.
        issuer_id: whose cards.
        rows: their columns, of which :data:`NEW_CARD` has those that may be absent. With a
            ``pin_type`` a card comes with a PIN: its counter stays 0.
        receipts: of the PINs that came along, each behind its audit event, by the id of the card.

    Raises:
        AdminError: the issuer is unknown, or another card of it has a card id or a plastic id.
    """
    if not rows:
        return
    given = _table([{**NEW_CARD, **row} for row in rows])
    changed_at = case((given.c.pin_type.is_not(None), func.now()))
    columns = [*given.c.keys(), "issuer_id", "pin_changed_at"]
    added = select(*given.c, literal(issuer_id), changed_at)
    with rules(database, cards):
        database.execute(insert(cards).from_select(columns, added))
    _audit(database, _of(issuer_id, [row["card_id"] for row in rows]), "card.added")
    if receipts:
        common = {"issuer_id": issuer_id, "actor": OPERATOR, "counter": 0}
        loaded = [
            {**common, "event": event, "card_id": card_id, "receipt": receipt}
            for card_id, (event, receipt) in receipts.items()
        ]
        database.execute(insert(audit_events), loaded)


def renew_cards(database: Database, issuer_id: str, rows: Sequence[Mapping[str, object]]) -> None:
    """Give cards new records.

    Args:
        database: an open transaction.
        issuer_id: whose cards.
        rows: their columns, each of the same; a ``state``, ``card_type`` or ``personalised`` that
            is None stays as it is.

    Raises:
        AdminError: another card of the issuer has a plastic id.
    """
    if not rows:
        return
    given = _table(rows)
    mine = (cards.c.issuer_id == issuer_id, cards.c.card_id == given.c.card_id)
    # Of another plastic the bureau gets the PIN anew.
    is_reissued = or_(
        cards.c.plastic_id.is_distinct_from(given.c.plastic_id),
        cards.c.psn != given.c.psn,
        cards.c.expiry != given.c.expiry,
        and_(cards.c.personalised, given.c.personalised.is_(False)),
    )
    # Two cards may change plastic ids for one another's, and no two may have one, not for a moment.
    without = {"plastic_id": None, "bureau_counter": None}
    database.execute(update(cards).where(*mine, is_reissued).values(without))
    values = {name: given.c[name] for name in rows[0] if name != "card_id"}
    kept = {name: func.coalesce(given.c[name], cards.c[name]) for name in KEPT}
    with rules(database, cards):
        database.execute(update(cards).where(*mine).values({**values, **kept}))
    _audit(database, _of(issuer_id, [row["card_id"] for row in rows]), "card.renewed")


def forget_pins(database: Database, issuer_id: str, card_ids: Collection[str]) -> None:
    """Forget the PINs of cards, with their verification values, and end what pages began."""
    ended = update(control_tokens).where(
        control_tokens.c.issuer_id == issuer_id,
        _is_any(control_tokens.c.card_id, card_ids),
        control_tokens.c.ended_at.is_(None),
    )
    database.execute(ended.values(ended_at=func.now(), end_reason=EndReason.REVOKED.value))
    with_pin = (*_of(issuer_id, card_ids), cards.c.pin_type.is_not(None))
    _audit(database, with_pin, "pin.forgotten", with_counter=True)
    of_cards = (card_scripts.c.issuer_id == issuer_id, _is_any(card_scripts.c.card_id, card_ids))
    database.execute(update(card_scripts).where(*of_cards, IS_OPEN).values(SUPERSEDED))
    emptied = dict.fromkeys(sealed_columns(SealedChange(None, {}, "")))
    # The host hears of it in the next export: a change that left no value.
    forgotten = update(cards).where(*with_pin)
    database.execute(forgotten.values(**emptied, pin_type=None, pin_changed_at=func.now()))


def _of(issuer_id: str, card_ids: Collection[Any]) -> tuple[Any, ...]:
    return (cards.c.issuer_id == issuer_id, _is_any(cards.c.card_id, card_ids))


def _table(rows: Sequence[Mapping[str, object]]) -> TableValuedAlias:
    """Make a table of rows that all have the same columns of cards, for one statement to take."""
    types = {name: cards.c[name].type for name in rows[0]}
    arrays = [literal([row[name] for row in rows], ARRAY(type_)) for name, type_ in types.items()]
    columns = [column(name, type_) for name, type_ in types.items()]
    return func.unnest(*arrays).table_valued(*columns).render_derived(name="given")


def _is_any(column: Column[Any], values: Collection[Any]) -> ColumnElement[bool]:
    """Compare with one array: a parameter for each value would take longer than the statement."""
    return column == any_(literal([*values], ARRAY(column.type)))


def _audit(
    database: Database, where: tuple[Any, ...], event: str, *, with_counter: bool = False
) -> None:
    """Leave an event of each of these cards."""
    columns = ["issuer_id", "card_id", "event", "actor", "counter"]
    rows: Select[Any] = select(
        cards.c.issuer_id,
        cards.c.card_id,
        literal(event),
        literal(OPERATOR),
        cards.c.counter if with_counter else literal(None, cards.c.counter.type),
    ).where(*where)
    database.execute(insert(audit_events).from_select(columns, rows))

"""What an operator does to the database: issuers, cards, manifests, audit.

Not a request path: a synchronous engine, and transactions of more than one statement. Every change
leaves an audit row in the same transaction.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import datetime
from functools import partial
from typing import Any, Final

import psycopg
from psycopg.abc import RV, PQGen
from psycopg.errors import InsufficientPrivilege, UndefinedColumn, UndefinedTable
from psycopg.pq import TransactionStatus
from sqlalchemy import (
    Connection,
    Engine,
    Select,
    Table,
    and_,
    create_engine,
    delete,
    func,
    insert,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    OperationalError,
)
from sqlalchemy.pool import NullPool

from cms.domain.cards import NEXT_STATES, CardState
from cms.domain.records import TAKEN, ManifestAnswer
from cms.persistence.address import AddressRefused, Tls, connection_string
from cms.persistence.causes import Cause, cause_of
from cms.persistence.connection import ENCODING
from cms.persistence.tables import (
    NEWEST_COUNTER,
    VALUE_COLUMNS,
    audit_events,
    cards,
    issuers,
    manifest_hosts,
    manifests,
    metadata,
)
from hsm.port import CardRef, SealedRecord, SealedValue, ValueKind

OPERATOR: Final = "operator"
EXPORT: Final = "verification.export"
LOADED: Final = "pin.loaded"
"""A PIN came with its card."""
ROWS_AT_ONCE: Final = 1000
STATEMENT_SECONDS_MAX: Final = 60.0
"""How long a command waits for a statement, by our own clock: a stopped server has none."""
WAKE_SECONDS: Final = 0.1
"""How often such a wait looks whether somebody interrupted it."""
#: What Postgres refuses because of how it was set up, and what an operator does about it.
REFUSALS: Final[Mapping[type[psycopg.Error], str]] = {
    UndefinedTable: "the database has no tables: run alembic upgrade head",
    UndefinedColumn: (
        "the tables are of another version: run alembic upgrade head of this release, or use the"
        " one that they were upgraded for"
    ),
    InsufficientPrivilege: "this role of the database may not do that: its owner's may",
}

Database = Connection
"""An open transaction of an operator."""


class AdminError(Exception):
    """The database refused an operator's change; the message says which rule, never a value."""


class DatabaseUnavailable(AdminError):
    """The database is unavailable; what was not committed is not stored."""


@dataclass(frozen=True, slots=True)
class CardWithValues:
    """A card's record and verification values; *newest* is the last counter in its history."""

    card: CardRef
    counter: int
    newest: int
    sealed_record: SealedRecord
    values: Mapping[ValueKind, SealedValue]


@dataclass(frozen=True, slots=True)
class ReceiptRow:
    """What an audit row says of something that the vault wrote a line of, too."""

    event_id: int
    at: datetime
    event: str
    card_id: str | None
    actor: str
    counter: int | None
    receipt: str | None


@contextmanager
def transaction(url: str, tls: Tls = "verify") -> Iterator[Database]:
    """Open a transaction that is committed when the block ends well; it may commit on the way.

    Raises:
        DatabaseUnavailable: the database cannot be reached or changed, or the connection was lost.
        AdminError: it has no tables yet or older ones, its role may not do this, or it cannot
            hold a value.
    """
    with refusals(), connect(url, tls).connect() as database:
        yield database
        database.commit()


@contextmanager
def refusals() -> Iterator[None]:
    """Make an AdminError of what the database refuses, where one line can tell."""
    try:
        yield
    except DBAPIError as error:
        refusal = _refusal(error)
        if refusal is None:
            raise
        raise refusal from None


def connect(
    url: str, tls: Tls = "verify", statement_seconds_max: float = STATEMENT_SECONDS_MAX
) -> Engine:
    """Make an engine on a libpq URI. Errors of its statements show no parameters.

    Opening a connection raises AdminError where the database's encoding is not UTF-8.

    Args:
        url: where the database is.
        tls: as :func:`cms.persistence.address.connection_string` takes it.
        statement_seconds_max: after which the connection is closed; the statement fails then as
            of a database that is unavailable.

    Raises:
        AdminError: it is no such URI, or TLS must be verified and would not be.
    """
    try:
        address = connection_string(url, tls)
    except AddressRefused as error:
        raise AdminError(str(error)) from None
    return create_engine(
        "postgresql+psycopg://",
        creator=partial(_connected, address, statement_seconds_max),
        poolclass=NullPool,
        hide_parameters=True,
    )


class _Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection on which no wait for the server is longer than that for a statement."""

    statement_seconds_max = STATEMENT_SECONDS_MAX

    def wait(
        self, gen: PQGen[RV], interval: float = WAKE_SECONDS, timeout: float | None = None
    ) -> RV:
        """Wait for the server; the connection is lost if that takes too long."""
        try:
            return super().wait(gen, interval, timeout or self.statement_seconds_max)
        except psycopg.OperationalError:
            if self.info.transaction_status is TransactionStatus.ACTIVE:
                self.close()  # a rollback would wait as long again
            raise


def _connected(address: str, statement_seconds_max: float) -> psycopg.Connection:
    # Unprepared: behind a pooler of connections what one command prepares would meet the next one.
    connection = _Connection.connect(address, prepare_threshold=None)
    connection.statement_seconds_max = statement_seconds_max
    if connection.info.parameter_status("server_encoding") != ENCODING:
        connection.close()
        raise AdminError("the encoding of the database is not UTF8: make one that has it")
    return connection


def _refusal(error: DBAPIError) -> AdminError | None:
    """Say in one line why the database did not do it; None where only a traceback can tell."""
    if isinstance(error, DataError):
        return AdminError("a value does not fit its column")
    for kind, advice in REFUSALS.items():
        if isinstance(error.orig, kind):
            return AdminError(advice)
    cause = cause_of(error.orig) if isinstance(error.orig, psycopg.Error) else None
    if cause is Cause.READ_ONLY:
        return DatabaseUnavailable("the database is read-only: it is not the primary")
    if isinstance(error, OperationalError | InterfaceError):
        return DatabaseUnavailable("the database is unavailable")
    return None


def analyze(database: Database) -> None:
    """Have Postgres look at the tables anew, after many rows came at once.

    Until somebody does, and autovacuum takes a minute or leaves small tables alone, one card may be
    looked for among all of its issuer. For a role that does not own the tables it does nothing.

    A table without rows is left out. Postgres would take note that it is empty, and the plans made
    then read it whole, until they are made anew.
    """
    size = text("SELECT pg_relation_size(CAST(:name AS regclass))")
    filled = [name for name in metadata.tables if database.scalar(size, {"name": name})]
    if filled:
        database.execute(text("ANALYZE " + ", ".join(filled)))


def rows(database: Database, table: Table, issuer_id: str | None = None) -> Iterator[Any]:
    """List a table, of one issuer or of all, ordered by its key.

    Raises:
        AdminError: there is no such issuer.
    """
    statement = select(table).order_by(*table.primary_key)
    if issuer_id is not None:
        row(database, issuers, issuer_id=issuer_id)
        statement = statement.where(table.c.issuer_id == issuer_id)
    return iter(
        database.execute(statement, execution_options={"yield_per": ROWS_AT_ONCE}).mappings()
    )


def audit_rows(
    database: Database,
    issuer_id: str,
    *,
    count_max: int,
    since: datetime | None = None,
    until: datetime | None = None,
    **columns: str | None,
) -> Sequence[Any]:
    """Read the newest audit events of an issuer, the oldest of them first.

    Args:
        database: an open transaction.
        issuer_id: whose events.
        count_max: at most so many.
        since: only events of then or later.
        until: only events before then.
        **columns: only events that have these values; None is any.

    Raises:
        AdminError: there is no such issuer.
    """
    row(database, issuers, issuer_id=issuer_id)
    given = {name: value for name, value in columns.items() if value is not None}
    statement = select(audit_events).filter_by(issuer_id=issuer_id, **given)
    if since is not None:
        statement = statement.where(audit_events.c.at >= since)
    if until is not None:
        statement = statement.where(audit_events.c.at < until)
    newest_first = statement.order_by(audit_events.c.event_id.desc()).limit(count_max)
    return list(reversed(database.execute(newest_first).mappings().all()))


def receipt_rows(database: Database, issuer_id: str, events: Iterable[str]) -> Iterator[ReceiptRow]:
    """Read the audit rows of an issuer that are called one of *events*, the oldest first.

    Raises:
        AdminError: there is no such issuer.
    """
    row(database, issuers, issuer_id=issuer_id)
    columns = (audit_events.c[column.name] for column in fields(ReceiptRow))
    statement = (
        select(*columns)
        .filter_by(issuer_id=issuer_id)
        .where(audit_events.c.event.in_(sorted(events)))
        .order_by(audit_events.c.event_id)
    )
    found = database.execute(statement, execution_options={"yield_per": ROWS_AT_ONCE})
    return (ReceiptRow(*values) for values in found)


def row(database: Database, table: Table, **key: object) -> Mapping[str, Any]:
    """Read one row by its key.

    Raises:
        AdminError: there is none.
    """
    return _one(database, table, select(table).filter_by(**key))


def locked_row(database: Database, table: Table, **key: object) -> Mapping[str, Any]:
    """Read one row by its key; nobody changes it until the transaction ends.

    Raises:
        AdminError: there is none.
    """
    # Not so much that new rows that refer to it would have to wait.
    locked = select(table).filter_by(**key).with_for_update(key_share=True)
    return _one(database, table, locked)


def add_issuer(database: Database, issuer_id: str, name: str) -> None:
    """Add an issuer.

    Raises:
        AdminError: there is one with this id.
    """
    _insert(database, issuers, issuer_id=issuer_id, name=name)
    _audit(database, issuer_id, "issuer.added")


def set_issuer_state(database: Database, issuer_id: str, state: str) -> None:
    """Suspend an issuer, or bring it back: the clients of a suspended one are refused.

    Raises:
        AdminError: there is no such issuer.
    """
    _update(database, issuers, {"issuer_id": issuer_id}, state=state)
    _audit(database, issuer_id, f"issuer.{state}")


def require_active(database: Database, issuer_id: str) -> None:
    """Let an issuer pass that is not suspended.

    Raises:
        AdminError: there is no such issuer, or it is suspended.
    """
    if row(database, issuers, issuer_id=issuer_id)["state"] != "active":
        raise AdminError("the issuer is suspended")


def set_card_state(database: Database, card: CardRef, state: CardState) -> None:
    """Move a card to another state.

    Raises:
        AdminError: no such card, or it cannot go there from where it is.
    """
    key = {"issuer_id": card.issuer_id, "card_id": card.card_id}
    now = CardState(row(database, cards, **key)["state"])
    if state not in NEXT_STATES[now]:
        raise AdminError(f"a card that is {now} cannot become {state}")
    moved = update(cards).filter_by(**key, state=now.value).values(state=state.value)
    if database.execute(moved).rowcount != 1:
        raise AdminError("the card changed meanwhile; try again")
    _audit(database, card.issuer_id, f"card.{state}", card.card_id)


def unblock_card(database: Database, card: CardRef) -> None:
    """Record that an operator has failed PINs of a card forgotten, in whatever form.

    Raises:
        AdminError: there is no such card.
    """
    row(database, cards, issuer_id=card.issuer_id, card_id=card.card_id)
    _audit(database, card.issuer_id, "card.unblock", card.card_id)


def mark_personalised(database: Database, card: CardRef) -> None:
    """Note that a card is personalised: from now on the pincontrol face sets no PIN of it.

    Raises:
        AdminError: there is no such card.
    """
    key = {"issuer_id": card.issuer_id, "card_id": card.card_id}
    _update(database, cards, key, personalised=True)
    _audit(database, card.issuer_id, "card.personalised", card.card_id)


def cards_with_values(
    database: Database, issuer_id: str, *, after: str, since: datetime | None, count_max: int
) -> Sequence[CardWithValues]:
    """Read the next cards, by their id, whose host may know a verification value.

    A card whose PIN was changed or forgotten, and that has none now, is among them: the host may
    still hold those of an earlier PIN.

    Args:
        database: an open transaction.
        issuer_id: whose cards.
        after: the id that comes before them; an empty one for the first.
        since: only cards whose PIN changed then or later.
        count_max: at most so many.
    """
    is_forgotten = and_(cards.c.pin_type.is_(None), cards.c.pin_changed_at.is_not(None))
    has_value = (column.is_not(None) for column in VALUE_COLUMNS.values())
    columns = (cards.c.card_id, cards.c.counter, NEWEST_COUNTER, cards.c.sealed_record)
    statement = (
        select(*columns, *VALUE_COLUMNS.values())
        .where(cards.c.issuer_id == issuer_id, cards.c.card_id > after)
        .where(or_(cards.c.counter > 0, is_forgotten, *has_value))
        .order_by(cards.c.card_id)
        .limit(count_max)
    )
    if since is not None:
        statement = statement.where(cards.c.pin_changed_at >= since)
    return [
        CardWithValues(
            CardRef(issuer_id, card_id),
            counter,
            newest,
            SealedRecord(sealed_record),
            {
                kind: SealedValue(value)
                for kind, value in zip(VALUE_COLUMNS, values, strict=True)
                if value is not None
            },
        )
        for card_id, counter, newest, sealed_record, *values in database.execute(statement)
    ]


def audit_export(database: Database, card: CardRef, counter: int, receipt: str) -> None:
    """Record that a card's verification values are handed out; *receipt* is the vault's."""
    _audit(database, card.issuer_id, EXPORT, card.card_id, counter=counter, receipt=receipt)


def audit_failed(database: Database, card: CardRef, event: str, reason: str) -> None:
    """Record why what *event* names cannot be handed out of a card."""
    _audit(database, card.issuer_id, f"{event}.failed", card.card_id, reason=reason)


def load_manifest(database: Database, issuer_id: str, version: int, text: str) -> None:
    """Store the text of a manifest for the hosts to take; what they refused until now is forgotten.

    A version whose text no host has taken can be stored anew, with other signatures.

    Raises:
        AdminError: the issuer is unknown, has a newer manifest, or a host has taken another text
            of this version.
    """
    locked_row(database, issuers, issuer_id=issuer_id)
    key = {"issuer_id": issuer_id, "version": version}
    newest = database.scalar(select(func.max(manifests.c.version)).filter_by(issuer_id=issuer_id))
    if newest is not None and newest > version:
        raise AdminError("the issuer has a newer manifest")
    refused = delete(manifest_hosts).filter_by(issuer_id=issuer_id)
    database.execute(refused.where(manifest_hosts.c.outcome != TAKEN))
    stored = database.scalar(select(manifests.c.text).filter_by(**key))
    if stored == text:
        return
    if stored is None:
        _insert(database, manifests, **key, text=text)
    else:
        answers = manifest_answers(database, issuer_id)
        if ManifestAnswer(version, TAKEN) in answers.values():
            raise AdminError("a host has taken another manifest of this version")
        _update(database, manifests, key, text=text, loaded_at=func.now())
    _audit(database, issuer_id, "manifest.loaded", reason=str(version))


def manifest_text(database: Database, issuer_id: str, version: int | None) -> str:
    """Read the text of a manifest; of the newest one where *version* is None.

    Raises:
        AdminError: the issuer is unknown, or has no such manifest.
    """
    row(database, issuers, issuer_id=issuer_id)
    statement = select(manifests).filter_by(issuer_id=issuer_id)
    if version is not None:
        statement = statement.filter_by(version=version)
    newest = statement.order_by(manifests.c.version.desc()).limit(1)
    return str(_one(database, manifests, newest)["text"])


def manifest_answers(database: Database, issuer_id: str) -> Mapping[str, ManifestAnswer]:
    """Read what each host answered last of an issuer's manifest, by the host's name."""
    statement = select(
        manifest_hosts.c.host, manifest_hosts.c.version, manifest_hosts.c.outcome
    ).filter_by(issuer_id=issuer_id)
    return {host: ManifestAnswer(*answer) for host, *answer in database.execute(statement)}


def manifest_rows(database: Database) -> Sequence[Any]:
    """List the manifests and, with each, the hosts whose last answer was of that version."""
    is_of = and_(
        manifests.c.issuer_id == manifest_hosts.c.issuer_id,
        manifests.c.version == manifest_hosts.c.version,
    )
    # A host may have one that is not here: the database may be an older copy.
    issuer_id = func.coalesce(manifests.c.issuer_id, manifest_hosts.c.issuer_id)
    version = func.coalesce(manifests.c.version, manifest_hosts.c.version)
    statement = (
        select(
            issuer_id.label("issuer_id"),
            version.label("version"),
            manifests.c.loaded_at,
            manifest_hosts.c.host,
            manifest_hosts.c.outcome,
            manifest_hosts.c.at,
        )
        .select_from(manifests.join(manifest_hosts, is_of, full=True))
        .order_by(issuer_id, version, manifest_hosts.c.host)
    )
    return database.execute(statement).mappings().all()


def _one(database: Database, table: Table, statement: Select[Any]) -> Mapping[str, Any]:
    found = database.execute(statement).mappings().one_or_none()
    if found is None:
        raise AdminError(f"no such {_noun(table)}")
    return dict(found)


def _update(database: Database, table: Table, key: Mapping[str, object], **columns: object) -> None:
    with rules(database, table):
        changed = database.execute(update(table).filter_by(**key).values(**columns))
    if changed.rowcount != 1:
        raise AdminError(f"no such {_noun(table)}")


def _insert(database: Database, table: Table, **columns: object) -> None:
    with rules(database, table):
        database.execute(insert(table).values(**columns))


@contextmanager
def rules(database: Database, table: Table) -> Iterator[None]:
    """Name the rule that a statement breaks; the transaction goes on without it."""
    try:
        with database.begin_nested():
            yield
    except IntegrityError as error:
        name = getattr(getattr(error.orig, "diag", None), "constraint_name", "") or ""
        if name.endswith("_issuer_id_fkey"):
            raise AdminError("unknown issuer") from None
        if name.endswith("_plastic_id_key"):
            raise AdminError("another card has this plastic id") from None
        if name.endswith("_pkey"):
            raise AdminError(f"duplicate {_noun(table)}") from None
        raise AdminError(f"refused by rule {name}") from None


def _noun(table: Table) -> str:
    return table.name.rstrip("s").replace("_", " ")


def _audit(
    database: Database,
    issuer_id: str,
    event: str,
    card_id: str | None = None,
    *,
    counter: int | None = None,
    reason: str | None = None,
    receipt: str | None = None,
) -> None:
    database.execute(
        insert(audit_events).values(
            issuer_id=issuer_id,
            event=event,
            card_id=card_id,
            actor=OPERATOR,
            counter=counter,
            reason=reason,
            receipt=receipt,
        )
    )

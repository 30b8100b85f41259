"""A statement that was prepared and is no longer good is run all the same, and changes once."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import LiteralString

import psycopg
import pytest
from psycopg.errors import FeatureNotSupported

from cms.domain.records import Actor
from cms.persistence import admin
from cms.persistence.causes import Cause, cause_of
from cms.persistence.connection import Connection
from cms.persistence.pool import POOL_CONNECTIONS_MAX
from cms.persistence.statements import Statement
from cms.persistence.store import Store
from hsm.port import CardRef
from tests.cms.persistence.patience import connected, without_deadlines
from tests.issuer_records import run_sql
from tests.stored_cards import store_card

pytestmark = pytest.mark.anyio
CARD = CardRef("testbank01", "card-1")
ACTOR = Actor("testbank01", "call-1")
CALLS = 4 * POOL_CONNECTIONS_MAX


@pytest.fixture
async def store(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Store]:
    """A store with a card; what the tests call is prepared on every connection."""
    without_deadlines(monkeypatch)
    with admin.transaction(database_url) as database:
        admin.add_issuer(database, CARD.issuer_id, "A bank")
        store_card(database, CARD)
    store = Store.connect(database_url)
    await store.open()
    await connected(store)
    for _ in range(3):
        await everything(store)
    yield store
    await store.close()


async def everything(store: Store) -> None:
    """Read and write on every connection at once."""
    await asyncio.gather(
        *(store.read_counter(CARD) for _ in range(CALLS)),
        *(store.refuse(CARD.issuer_id, None, "control", "REASON", ACTOR) for _ in range(CALLS)),
    )


def refusals(url: str) -> int:
    ((count,),) = run_sql(url, "SELECT count(*) FROM audit_events WHERE event = 'control.refused'")
    return int(count)


@pytest.mark.parametrize(
    "migration",
    [
        "ALTER TABLE cards ALTER COLUMN state TYPE text",
        "ALTER TABLE cards ALTER COLUMN state TYPE varchar(41)",
        "ALTER TABLE cards ALTER COLUMN counter TYPE bigint",
        "ALTER TABLE cards ADD COLUMN another text",
    ],
)
async def test_a_migration_costs_no_call(
    store: Store, database_url: str, migration: LiteralString
) -> None:
    run_sql(database_url, migration)
    await everything(store)
    await everything(store)
    assert await store.pool.fault() is None


def deallocate(connection: Connection) -> None:
    connection.pgconn.exec_(b"DEALLOCATE ALL")


def discard(connection: Connection) -> None:
    connection.pgconn.exec_(b"DISCARD ALL")


def forget(connection: Connection) -> None:
    """Have it give names that the server has already."""
    connection._prepared.clear()
    connection._names = 0


@pytest.mark.parametrize("behind_its_back", [deallocate, discard, forget])
async def test_prepared_statements_that_are_gone_or_there_already_cost_no_call(
    store: Store, behind_its_back: Callable[[Connection], None]
) -> None:
    for connection in store.pool.connections:
        behind_its_back(connection)
    await everything(store)
    for connection in store.pool.connections:
        assert connection._prepared, "it is prepared again"


async def test_what_is_run_again_is_done_once(store: Store, database_url: str) -> None:
    before = refusals(database_url)
    for connection in store.pool.connections:
        deallocate(connection)
    await store.refuse(CARD.issuer_id, None, "control", "REASON", ACTOR)
    assert refusals(database_url) == before + 1


async def test_what_postgres_does_not_have_is_a_defect_and_no_outage(store: Store) -> None:
    with pytest.raises(FeatureNotSupported):
        await store.run(Statement.of("SELECT count(*) FROM cards FOR UPDATE", {}))
    assert await store.pool.fault() is None


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("0A000", Cause.STALE_STATEMENT),
        ("08006", Cause.CONNECTION_LOST),
        ("08P01", Cause.CONNECTION_LOST),
        ("25006", Cause.READ_ONLY),
        ("25P02", Cause.CONNECTION_LOST),
        ("26000", Cause.STALE_STATEMENT),
        ("40001", Cause.STATEMENT_STOPPED),
        ("40P01", Cause.STATEMENT_STOPPED),
        ("42P05", Cause.STALE_STATEMENT),
        ("53100", Cause.SERVER_FULL),
        ("53300", Cause.SERVER_FULL),
        ("55P03", Cause.STATEMENT_STOPPED),
        ("57014", Cause.STATEMENT_STOPPED),
        ("57P01", Cause.SERVER_ENDS),
        ("57P02", Cause.SERVER_ENDS),
        ("57P03", Cause.SERVER_ENDS),
        ("57P05", Cause.SERVER_ENDS),
        ("58030", Cause.SERVER_BROKEN),
        ("22001", None),
        ("23505", None),
        ("42703", None),
    ],
)
def test_an_sqlstate_has_one_meaning(code: str, cause: Cause | None) -> None:
    assert cause_of(psycopg.errors.lookup(code)()) is cause


def test_a_connection_that_ended_without_a_word_is_lost() -> None:
    assert cause_of(psycopg.OperationalError("the connection is lost")) is Cause.CONNECTION_LOST
    assert cause_of(psycopg.InterfaceError("the connection is closed")) is Cause.CONNECTION_LOST

"""Behind PgBouncer, whose sessions other callers share, everything works; nothing is prepared."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Literal

import psycopg
import pytest

from cms.domain.errors import ServiceUnavailable
from cms.domain.records import Actor
from cms.persistence import admin
from cms.persistence.migrate import upgrade
from cms.persistence.store import Store
from cms.sandbox import HANG_SECONDS
from cms.sandbox.machine.postgres import Postgres
from hsm.port import CardRef, PinBlockType, SealedChange
from tests.cms.persistence.patience import connected, without_deadlines
from tests.issuer_records import run_sql
from tests.pgbouncer import pgbouncer
from tests.stored_cards import store_card

pytestmark = pytest.mark.anyio
CARD = CardRef("testbank01", "card-1")
ACTOR = Actor("testbank01", "call-1")
Mode = Literal["session", "transaction", "statement"]


@pytest.fixture(params=["session", "transaction", "statement"])
def pool_mode(request: pytest.FixtureRequest) -> Mode:
    mode: Mode = request.param
    return mode


@pytest.fixture
def pooled_url(database_url: str, pool_mode: Mode) -> Iterator[str]:
    """A PgBouncer with fewer sessions than callers, where its mode allows that."""
    with admin.transaction(database_url) as database:
        admin.add_issuer(database, CARD.issuer_id, "A bank")
        store_card(database, CARD)
    with pgbouncer(database_url, pool_mode, 20 if pool_mode == "session" else 3) as url:
        yield url


@pytest.fixture
async def store(pooled_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Store]:
    without_deadlines(monkeypatch)
    store = Store.connect(pooled_url)
    await store.open()
    await connected(store)
    yield store
    await store.close()


async def test_every_call_works(store: Store, database_url: str) -> None:
    for _ in range(5):
        await asyncio.gather(
            *(store.read_counter(CARD) for _ in range(16)),
            *(store.is_in_service(CARD.issuer_id) for _ in range(16)),
            *(store.activate(CARD, ACTOR) for _ in range(2)),
        )
    for counter in range(3):
        key = bytes([counter])
        found = await store.read_for_set(CARD, key)
        assert found is not None
        change = SealedChange(None, {}, "receipt")
        assert await store.change_pin(CARD, found, change, PinBlockType.ISO0, key, ACTOR)
    assert await store.pool.fault() is None
    assert run_sql(database_url, "SELECT counter FROM cards") == [(3,)]


async def test_a_session_is_left_as_it_was_found(store: Store, pooled_url: str) -> None:
    await asyncio.gather(*(store.is_in_service(CARD.issuer_id) for _ in range(16)))
    with psycopg.connect(pooled_url, autocommit=True) as other:
        assert other.execute("SELECT name FROM pg_prepared_statements").fetchall() == []
        assert other.execute("SHOW statement_timeout").fetchall() == [("0",)]


async def test_a_call_that_gets_no_session_is_not_waited_for(database_url: str) -> None:
    with pgbouncer(database_url, "session", 1) as url:
        store = Store.connect(url)
        async with asyncio.timeout(HANG_SECONDS):
            with psycopg.connect(url, autocommit=True) as other:
                other.execute("SELECT 1")  # the only session is its own now
                await store.open()
                with pytest.raises(ServiceUnavailable):
                    await store.read_counter(CARD)
            while await store.pool.fault() is not None:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.05)
            await store.close()


@pytest.mark.parametrize("pool_mode", ["session", "transaction"], indirect=True)
def test_an_operators_commands_work(pooled_url: str, database_url: str) -> None:
    for _ in range(3):
        with admin.transaction(pooled_url) as database:
            for _ in range(10):  # as often as psycopg takes to prepare what it repeats
                admin.unblock_card(database, CARD)
    event = "SELECT count(*) FROM audit_events WHERE event = 'card.unblock'"
    assert run_sql(database_url, event) == [(30,)]


@pytest.mark.parametrize("pool_mode", ["session", "transaction"])
def test_migrations_run(postgres: Postgres, pool_mode: Mode) -> None:
    postgres.create_database(name := f"pooled_{pool_mode}")
    with pgbouncer(postgres.url(name), pool_mode, 3) as url:
        upgrade(url)
        upgrade(url)
        assert run_sql(url, "SELECT count(*) FROM issuers") == [(0,)]
    postgres.drop_database(name)

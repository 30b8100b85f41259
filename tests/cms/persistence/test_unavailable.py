"""A database that goes away comes back without anybody's help, and must not forget commits."""

import asyncio
import logging
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import LiteralString
from urllib.parse import quote

import pytest
from psycopg.conninfo import conninfo_to_dict

from cms.domain.cards import CardState, Verb
from cms.domain.errors import ServiceUnavailable
from cms.domain.records import TAKEN, Actor, CardToChange, ManifestAnswer
from cms.persistence import admin, connection, pool
from cms.persistence.admin import AdminError
from cms.persistence.causes import Cause
from cms.persistence.migrate import upgrade
from cms.persistence.statements import Statement
from cms.persistence.store import Store
from cms.sandbox import HANG_SECONDS
from cms.sandbox.machine.postgres import Postgres
from cms.services.health import DatabaseUnfit
from hsm.port import CardRef, PinBlockType, SealedChange, SealedRecord
from hsm.vault import Vault
from tests.cms.persistence.patience import connected, finds, until
from tests.database_files import database_directory
from tests.deployment import in_sql_ascii, stopped, wait_for
from tests.issuer_records import run_sql
from tests.service import running
from tests.stored_cards import store_card

pytestmark = pytest.mark.anyio
ALL = range(pool.POOL_CONNECTIONS_MAX)
CARD = CardRef("testbank01", "card-1")
ACTOR = Actor("testbank01", "call-1")


class Server:
    """A Postgres server that has the same address each time it runs."""

    def __init__(self, data: Path, directory: Path) -> None:
        self.postgres = Postgres(data)
        self._link = directory / "pg"
        self.url = f"postgresql://cms@/cms?host={quote(str(self._link), safe='')}&port=5432"

    def start(self) -> None:
        self.postgres.start()
        self._link.unlink(missing_ok=True)
        self._link.symlink_to(str(conninfo_to_dict(self.postgres.url())["host"]))

    def stop(self) -> None:
        self.postgres.stop()


@pytest.fixture(scope="module")
def migrated() -> Iterator[Server]:
    # A socket's path is short.
    with database_directory() as data, tempfile.TemporaryDirectory() as directory:
        server = Server(data / "data", Path(directory))
        server.start()
        upgrade(server.url)
        server.stop()
        yield server


@pytest.fixture
def server(migrated: Server) -> Iterator[Server]:
    migrated.start()
    yield migrated
    migrated.stop()


@pytest.fixture
async def store(server: Server, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Store]:
    monkeypatch.setattr(pool, "WAIT_SECONDS_MAX", 0.1)
    store = Store.connect(server.url)
    await store.open()
    await connected(store)
    yield store
    await store.close()


async def every_call_works(store: Store) -> None:
    """Ask on all connections at once, until none of them is one that was lost."""

    async def answered() -> bool:
        try:
            await asyncio.gather(*(store.read_counter(CARD) for _ in ALL))
        except ServiceUnavailable:
            return False
        return True

    await until(answered)


async def test_every_call_says_try_later_while_the_database_is_unavailable(
    store: Store, server: Server
) -> None:
    await every_call_works(store)
    server.stop()
    found = CardToChange(CardState.ACTIVE, 0, SealedRecord(b""), False, True)
    for call in (
        store.is_in_service("testbank01"),
        store.newest_manifests(),
        store.manifest_answers("host"),
        store.read_manifest("testbank01", 1),
        store.answer_manifest("testbank01", "host", ManifestAnswer(1, TAKEN)),
        store.read_for_set(CARD, b"key"),
        store.change_pin(
            CARD, found, SealedChange(None, {}, "receipt"), PinBlockType.ISO0, b"key", ACTOR
        ),
        store.read_for_get(CARD),
        store.read_counter(CARD),
        store.activate(CARD, ACTOR),
        store.refuse("testbank01", "card-1", Verb.GET_PIN, "REASON", ACTOR),
        *(store.read_counter(CARD) for _ in range(pool.POOL_CONNECTIONS_MAX)),
    ):
        with pytest.raises(ServiceUnavailable):
            await call
    server.start()
    await every_call_works(store)


async def test_a_server_that_stands_still_is_waited_for_once(
    store: Store, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    await every_call_works(store)
    before = sessions(store)
    with caplog.at_level(logging.INFO, pool.__name__), stopped(server.postgres):
        async with asyncio.timeout(HANG_SECONDS):
            answers = await asyncio.gather(
                *(store.read_counter(CARD) for _ in range(32)), return_exceptions=True
            )
            assert {type(answer) for answer in answers} == {ServiceUnavailable}
            assert await store.pool.fault() is Cause.NO_ANSWER
            for _ in range(100):
                with pytest.raises(ServiceUnavailable):
                    await store.read_counter(CARD)

    with caplog.at_level(logging.INFO, pool.__name__):
        await finds(store, None)
        await every_call_works(store)
    assert sessions(store).isdisjoint(before)
    ours = [each for each in caplog.records if each.name == pool.__name__]
    assert [(each.getMessage(), each.__dict__["reason"]) for each in ours] == [
        ("database.unavailable", Cause.NO_ANSWER),
        ("database.available", Cause.NO_ANSWER),
    ]


@pytest.mark.parametrize("begun", [False, True], ids=["first statement", "commit"])
async def test_a_command_is_not_held_up_by_a_server_that_stands_still(
    server: Server, monkeypatch: pytest.MonkeyPatch, begun: bool
) -> None:
    engine = admin.connect(server.url, statement_seconds_max=0.1)
    monkeypatch.setattr(admin, "connect", lambda *_: engine)

    async def command() -> None:
        with admin.transaction(server.url) as database:
            add = partial(admin.add_issuer, database, "stillbank1", "A bank")
            if begun:
                add()
            with stopped(server.postgres):
                async with asyncio.timeout(HANG_SECONDS):
                    await asyncio.to_thread(database.commit if begun else add)

    with pytest.raises(admin.DatabaseUnavailable):
        await command()


async def test_a_change_that_the_server_took_and_did_not_answer_is_there_once(
    store: Store, server: Server
) -> None:
    with admin.transaction(server.url) as database:
        admin.add_issuer(database, CARD.issuer_id, "A bank")
        store_card(database, CARD)
    change, kind, key = SealedChange(None, {}, "receipt"), PinBlockType.SECCOS, b"key"
    found = await store.read_for_set(CARD, key)
    assert found is not None
    blocked = replace(found, state=CardState.BLOCKED)
    await asyncio.gather(  # prepared on each connection, it is sent at once
        *(store.change_pin(CARD, blocked, change, kind, key, ACTOR) for _ in range(32))
    )
    with stopped(server.postgres):
        async with asyncio.timeout(HANG_SECONDS):
            with pytest.raises(ServiceUnavailable):
                await store.change_pin(CARD, found, change, kind, key, ACTOR)

    async def is_there() -> bool:
        if await store.pool.fault() is None:
            now = await store.read_for_set(CARD, key)
            assert now is not None
            return now.request_known
        return False

    await until(is_there)
    assert not await store.change_pin(CARD, found, change, kind, key, ACTOR)
    assert run_sql(server.url, "SELECT counter FROM cards") == [(1,)]


async def test_a_server_that_became_read_only_is_neither_written_nor_read_from(
    store: Store, server: Server
) -> None:
    await every_call_works(store)
    await set_server(server, "default_transaction_read_only", "on")
    with pytest.raises(ServiceUnavailable):
        await store.refuse("testbank01", "card-1", Verb.GET_PIN, "REASON", ACTOR)
    await finds(store, Cause.READ_ONLY)
    with pytest.raises(ServiceUnavailable):
        await store.read_counter(CARD)
    await set_server(server, "default_transaction_read_only", "off")
    await every_call_works(store)
    await store.refuse("testbank01", "card-1", Verb.GET_PIN, "REASON", ACTOR)
    await finds(store, None)


async def test_a_check_alone_finds_that_a_server_became_read_only(
    store: Store, server: Server
) -> None:
    await every_call_works(store)
    await set_server(server, "default_transaction_read_only", "on")
    await every_call_works(store)  # to read it still lets those that are connected
    await finds(store, Cause.READ_ONLY)
    with pytest.raises(ServiceUnavailable):
        await store.read_counter(CARD)
    await set_server(server, "default_transaction_read_only", "off")
    await every_call_works(store)


def end_every_session(server: Server) -> None:
    """Return when the server has ended them; nothing else of this process runs meanwhile."""
    others: LiteralString = (
        "FROM pg_stat_activity WHERE datname = 'cms' AND pid <> pg_backend_pid()"
    )
    run_sql(server.url, f"SELECT pg_terminate_backend(pid) {others}")
    wait_for(lambda: run_sql(server.url, f"SELECT {others}") == [])


async def test_with_a_connection_that_the_server_ended_all_are_replaced(
    store: Store, server: Server
) -> None:
    await every_call_works(store)
    before = sessions(store)
    end_every_session(server)
    with pytest.raises(ServiceUnavailable):
        await store.read_counter(CARD)
    assert sessions(store).isdisjoint(before), "nobody meets another one that is dead"
    await every_call_works(store)


async def test_sessions_that_the_server_ended_are_replaced_before_anybody_asks(
    store: Store, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "WAIT_SECONDS_MAX", HANG_SECONDS)
    await every_call_works(store)
    before = sessions(store)
    end_every_session(server)

    async def heard() -> bool:
        return sessions(store).isdisjoint(before)

    await until(heard)
    await asyncio.gather(*(store.read_counter(CARD) for _ in ALL))
    assert store.pool.cause is None


async def test_the_servers_own_deadline_comes_first_and_a_stricter_one_stays(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "WAIT_SECONDS_MAX", HANG_SECONDS)
    for option, expected in (("0", "1500ms"), ("30s", "1500ms"), ("700", "700ms")):
        store = Store.connect(f"{database_url}&options=-c%20statement_timeout%3D{option}")
        await store.open()
        shown = await store.one(Statement.of("SHOW statement_timeout", {}))
        await store.close()
        assert shown == (expected,)


def sessions(store: Store) -> set[int]:
    return {each.pgconn.backend_pid for each in store.pool.connections if each.is_open}


async def test_a_restart_leaves_no_statement_that_was_prepared_before(
    store: Store, server: Server
) -> None:
    await every_call_works(store)
    server.stop()
    server.start()
    await every_call_works(store)


async def test_connecting_is_tried_until_it_succeeds(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "WAIT_SECONDS_MAX", 0.1)
    server.stop()
    store = Store.connect(server.url)
    await store.open()

    for _ in range(2):
        with pytest.raises(ServiceUnavailable):
            await store.read_counter(CARD)
    await finds(store, Cause.NO_CONNECTION)
    server.start()
    await every_call_works(store)
    await store.close()


async def test_a_card_that_somebody_holds_too_long_is_try_later(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "SERVER_STATEMENT_MS_MAX", 10)
    store = Store.connect(database_url)
    await store.open()
    with pytest.raises(ServiceUnavailable):
        await store.one(Statement.of("SELECT pg_sleep(60)", {}))
    await store.close()


@pytest.mark.parametrize("setting", ["fsync", "full_page_writes"])
async def test_a_server_that_can_lose_a_commit_is_not_served_from(
    store: Store, server: Server, vault: Vault, tmp_path: Path, setting: str
) -> None:
    await finds(store, None)
    await set_server(server, setting, "off")
    await finds(store, Cause.NOT_DURABLE)
    with pytest.raises(ServiceUnavailable):
        await store.read_counter(CARD)
    with pytest.raises(DatabaseUnfit):
        async with running(server.url, tmp_path, vault):
            pass
    await set_server(server, setting, "on")
    await finds(store, None)
    async with running(server.url, tmp_path, vault) as application:
        assert application.health.ready


async def test_a_database_in_another_encoding_is_neither_migrated_nor_used(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "WAIT_SECONDS_MAX", 0.1)
    with in_sql_ascii(postgres) as url:
        with pytest.raises(AdminError, match="not UTF8"):
            upgrade(url)
        store = Store.connect(url)
        await store.open()

        await finds(store, Cause.NOT_UTF8)
        with pytest.raises(ServiceUnavailable):
            await store.read_counter(CARD)
        await store.close()


async def set_server(server: Server, setting: str, value: str) -> None:
    run_sql(server.url, f"ALTER SYSTEM SET {setting} = {value}")
    run_sql(server.url, "SELECT pg_reload_conf()")

    async def loaded() -> bool:
        return run_sql(server.url, f"SHOW {setting}") == [(value,)]

    await until(loaded)

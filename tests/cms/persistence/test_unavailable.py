"""A database that goes away comes back without anybody's help, and must not forget commits."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from psycopg.conninfo import conninfo_to_dict

from cms.domain.cards import CardState, Verb
from cms.domain.errors import ServiceUnavailable
from cms.domain.records import Actor, CardToChange
from cms.persistence import store as store_module
from cms.persistence.migrate import upgrade
from cms.persistence.statements import Statement
from cms.persistence.store import Store
from cms.sandbox import HANG_SECONDS
from cms.sandbox.machine.postgres import Postgres
from cms.services.health import NotDurable
from hsm.port import CardFacts, CardRef, PinBlockType, SealedChange, SealedPan
from hsm.vault import Vault
from tests.issuer_records import run_sql
from tests.service import running

pytestmark = pytest.mark.anyio
ALL = range(store_module.POOL_CONNECTIONS_MAX)
CARD = CardRef("testbank01", "card-1")
ACTOR = Actor("testbank01", "call-1")


class Server:
    """A Postgres server that has the same address each time it runs."""

    def __init__(self, data: Path, directory: Path) -> None:
        self._postgres = Postgres(data)
        self._link = directory / "pg"
        self.url = f"postgresql://cms@/cms?host={quote(str(self._link), safe='')}&port=5432"

    def start(self) -> None:
        self._postgres.start()
        self._link.unlink(missing_ok=True)
        self._link.symlink_to(str(conninfo_to_dict(self._postgres.url())["host"]))

    def stop(self) -> None:
        self._postgres.stop()


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as directory:  # a socket's path is short
        server = Server(tmp_path_factory.mktemp("pg") / "data", Path(directory))
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
    with monkeypatch.context() as patch:
        patch.setattr(store_module, "WAIT_SECONDS_MAX", 0.1)
        store = Store.connect(server.url)
    await store.open()
    await store._pool.wait(HANG_SECONDS)
    yield store
    await store.close()


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Ask again and again."""
    async with asyncio.timeout(HANG_SECONDS):
        while not await holds():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.05)


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
    facts = CardFacts(0, "1230")
    found = CardToChange(
        CardState.ACTIVE, 0, SealedPan(b""), False, False, False, facts, personalised=True
    )
    for call in (
        store.is_durable(),
        store.read_issuer("testbank01"),
        store.read_for_set(CARD, b"key", ACTOR),
        store.change_pin(CARD, found, SealedChange(None, {}), PinBlockType.ISO0, b"key", ACTOR),
        store.count_card_failure(CARD),
        store.count_client_failure("testbank01", "testbank01"),
        store.read_for_get(CARD, ACTOR),
        store.read_counter(CARD),
        store.activate(CARD, ACTOR),
        store.refuse("testbank01", "card-1", Verb.GET_PIN, "REASON", ACTOR),
        *(store.read_counter(CARD) for _ in ALL),
    ):
        with pytest.raises(ServiceUnavailable):
            await call
    server.start()
    await every_call_works(store)


async def test_a_restart_leaves_no_statement_that_was_prepared_before(
    store: Store, server: Server
) -> None:
    await every_call_works(store)
    server.stop()
    server.start()
    await every_call_works(store)


async def test_connecting_is_tried_again_after_it_was_given_up(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "RECONNECT_SECONDS", 0.1)
    monkeypatch.setattr(store_module, "WAIT_SECONDS_MAX", 0.1)
    server.stop()
    store = Store.connect(server.url)
    await store.open()

    async def given_up() -> bool:
        return store._pool._nconns == 0

    await until(given_up)
    with pytest.raises(ServiceUnavailable):
        await store.read_counter(CARD)
    server.start()
    await every_call_works(store)
    await store.close()


async def test_a_card_that_somebody_holds_too_long_is_try_later(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "STATEMENT_TIMEOUT_OPTION", "-c statement_timeout=10")
    store = Store.connect(database_url)
    await store.open()
    with pytest.raises(ServiceUnavailable):
        await store.one(Statement("SELECT pg_sleep(60)", {}))
    await store.close()


@pytest.mark.parametrize("setting", ["fsync", "full_page_writes"])
async def test_a_server_that_can_lose_a_commit_is_not_served_from(
    store: Store, server: Server, vault: Vault, tmp_path: Path, setting: str
) -> None:
    assert await store.is_durable()
    await set_server(server, setting, "off")
    assert not await store.is_durable()
    with pytest.raises(NotDurable):
        async with running(server.url, tmp_path, vault):
            pass
    await set_server(server, setting, "on")
    assert await store.is_durable()
    async with running(server.url, tmp_path, vault) as application:
        assert application.health.ready


async def set_server(server: Server, setting: str, value: str) -> None:
    run_sql(server.url, f"ALTER SYSTEM SET {setting} = {value}")
    run_sql(server.url, "SELECT pg_reload_conf()")

    async def loaded() -> bool:
        return run_sql(server.url, f"SHOW {setting}") == [(value,)]

    await until(loaded)

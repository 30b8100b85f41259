"""A primary and its standby: the primary is found, and a commit of one alone is none."""

import asyncio
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import LiteralString

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from cms.domain.cards import Verb
from cms.domain.errors import ServiceUnavailable
from cms.domain.records import Actor
from cms.persistence import admin
from cms.persistence.admin import DatabaseUnavailable
from cms.persistence.causes import Cause
from cms.persistence.migrate import upgrade
from cms.persistence.store import Store
from cms.sandbox import HANG_SECONDS
from cms.sandbox.machine import postgres
from cms.sandbox.machine.postgres import Postgres
from hsm.port import CardRef
from tests.cms.persistence.opened_store import opened_store
from tests.cms.persistence.patience import connected, finds, until
from tests.database_files import database_directory
from tests.issuer_records import run_sql

pytestmark = pytest.mark.anyio
ISSUER = "testbank01"
CARD = CardRef(ISSUER, "card-1")
ACTOR = Actor(ISSUER, "call-1")

SERVICE = "service"
"""A role that may do what the service does, and nothing else: it sees little of the server."""
GRANTS: LiteralString = (
    "CREATE ROLE service LOGIN; GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public"
    " TO service; GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO service"
)


@dataclass(frozen=True)
class Pair:
    """Two servers, of which the first is the primary."""

    primary: Postgres
    standby: Postgres

    def url(self, *servers: Postgres) -> str:
        """An address of several servers, for the service's role."""
        hosts = ",".join(str(conninfo_to_dict(each.url())["host"]) for each in servers)
        return make_conninfo("", host=hosts, dbname="cms", user=SERVICE)


@contextmanager
def running() -> Iterator[Pair]:
    with database_directory() as directory, Postgres(directory / "primary") as primary:
        upgrade(primary.url())
        run_sql(primary.url(), GRANTS)
        with admin.transaction(primary.url()) as database:
            admin.add_issuer(database, ISSUER, "A bank")
        backup = [postgres._binary("pg_basebackup"), "-R", "--checkpoint=fast", "-d", primary.url()]
        copy = directory / "standby"
        subprocess.run(
            [*backup, "-D", str(copy)], check=True, capture_output=True, timeout=HANG_SECONDS
        )
        with Postgres(copy) as standby:
            yield Pair(primary, standby)


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A pair whose standby may become the primary."""
    with running() as pair:
        yield pair


@pytest.fixture(scope="module")
def synchronous() -> Iterator[Pair]:
    """A pair whose primary waits with each commit until the standby has it."""
    with running() as pair:
        run_sql(pair.primary.url(), "ALTER SYSTEM SET synchronous_standby_names = '*'")
        run_sql(pair.primary.url(), "SELECT pg_reload_conf()")
        yield pair


async def write(store: Store) -> None:
    await store.refuse(ISSUER, None, Verb.GET_PIN, "REASON", ACTOR)


async def can_write(store: Store) -> bool:
    if await store.pool.fault() is not None:
        return False
    try:
        await write(store)
    except ServiceUnavailable:
        return False
    return True


def refusals(server: Postgres) -> int:
    ((count,),) = run_sql(server.url(), "SELECT count(*) FROM audit_events")
    return int(count)


def waiting(server: Postgres) -> int:
    """How many commits wait for the standby."""
    ((count,),) = run_sql(
        server.url(), "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    )
    return int(count)


async def test_the_primary_is_found_and_after_it_the_next(pair: Pair) -> None:
    standby_url = pair.url(pair.standby)
    async with (
        opened_store(Store.connect(pair.url(pair.standby, pair.primary))) as either,
        opened_store(Store.connect(standby_url)) as standby,
    ):
        await until(lambda: can_write(either))
        await finds(standby, Cause.READ_ONLY)
        with pytest.raises(ServiceUnavailable):
            await standby.is_in_service(ISSUER)
        with (
            pytest.raises(DatabaseUnavailable, match="read-only"),
            admin.transaction(standby_url) as database,
        ):
            admin.set_issuer_state(database, ISSUER, "suspended")
        pair.primary.stop()
        with pytest.raises(ServiceUnavailable):
            await write(either)
        assert await either.pool.fault() is not None
        run_sql(pair.standby.url(), "SELECT pg_promote()")
        await until(lambda: can_write(either))
        await until(lambda: can_write(standby))


async def test_commits_that_wait_for_a_standby_that_is_gone_are_not_ready(
    synchronous: Pair,
) -> None:
    primary = synchronous.primary
    async with opened_store(Store.connect(synchronous.url(primary))) as store:
        await until(lambda: can_write(store))
        before = refusals(primary)
        synchronous.standby.stop()
        async with asyncio.timeout(HANG_SECONDS):
            with pytest.raises(ServiceUnavailable):
                await write(store)
        await finds(store, Cause.NOT_REPLICATED)
        for _ in range(50):
            with pytest.raises(ServiceUnavailable):
                await write(store)
        assert waiting(primary) == 1, "none but the first left a session behind"
        assert refusals(primary) == before, "and nobody sees yet what may get lost"
        synchronous.standby.start()
        await until(lambda: can_write(store))
        assert refusals(primary) == before + 2


async def test_a_standby_that_confirms_nothing_is_seen_by_the_commits_that_wait(
    synchronous: Pair,
) -> None:
    primary, standby = synchronous.primary, synchronous.standby
    run_sql(primary.url(), "ALTER DATABASE cms SET synchronous_commit = remote_apply")
    async with opened_store(Store.connect(synchronous.url(primary))) as store:
        await until(lambda: can_write(store))
        run_sql(standby.url(), "SELECT pg_wal_replay_pause()")
        await finds(store, None)  # it is connected
        async with asyncio.timeout(HANG_SECONDS):
            with pytest.raises(ServiceUnavailable):
                await write(store)
        await finds(store, Cause.NOT_REPLICATED)
        run_sql(standby.url(), "SELECT pg_wal_replay_resume()")
        await until(lambda: can_write(store))


async def test_a_commit_whose_wait_somebody_cancelled_is_not_reported_as_done(
    synchronous: Pair,
) -> None:
    primary = synchronous.primary
    before = refusals(primary)
    async with opened_store(Store.connect(synchronous.url(primary))) as store:
        await connected(store)
        synchronous.standby.stop()
        writing = asyncio.create_task(write(store))

        async def cancelled() -> bool:
            cancel: LiteralString = (
                "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
            )
            return run_sql(primary.url(), cancel) != []

        await until(cancelled)
        with pytest.raises(ServiceUnavailable):
            await writing
        assert refusals(primary) == before + 1, "on this server alone"
        synchronous.standby.start()

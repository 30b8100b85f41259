"""A connection to a real server: what goes over it, and what becomes of a statement."""

import asyncio
import os
import tempfile
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import cache
from uuid import UUID

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.errors import CharacterNotInRepertoire, UniqueViolation
from sqlalchemy import Boolean, Integer, LargeBinary, String
from sqlalchemy.dialects.postgresql import JSONB

from cms.persistence.address import connection_string
from cms.persistence.causes import Cause, DatabaseFailed
from cms.persistence.connection import Connection
from cms.persistence.statements import PARAMETER_TYPES, ParameterType, Statement
from cms.sandbox import HANG_SECONDS
from cms.sandbox.machine.postgres import Postgres
from tests.cms.persistence.patience import until
from tests.deployment import stopped
from tests.issuer_records import run_sql

pytestmark = pytest.mark.anyio
SLEEP = Statement.of("SELECT pg_sleep(60)", {})
TEXT = PARAMETER_TYPES[String]
BYTES, NUMBER = PARAMETER_TYPES[LargeBinary], PARAMETER_TYPES[Integer]
TRUTH, JSON = PARAMETER_TYPES[Boolean], PARAMETER_TYPES[JSONB]


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[Connection]:
    connection = await Connection.open(connection_string(database_url))
    yield connection
    connection.close()


@cache
def statement(sql: str, types: frozenset[tuple[str, ParameterType]]) -> Statement:
    return Statement.of(sql, dict(types))


async def ask(connection: Connection, sql: str, **parameters: object) -> list[tuple[object, ...]]:
    """Run a statement whose parameters are typed by their values."""
    kinds = {bytes: BYTES, bool: TRUTH, int: NUMBER, dict: JSON}
    types = frozenset((name, kinds.get(type(value), TEXT)) for name, value in parameters.items())
    return await connection.rows(statement(sql, types), parameters, seconds=HANG_SECONDS)


VALUES: tuple[object, ...] = (
    *("", "a", "é \U0001f4b3 'x' \\ %s", "x" * 100_000),
    *(b"", b"\x00\xff\\x", os.urandom(100_000)),
    *(0, -1, 2**63 - 1, -(2**63), True, False),
    *({}, {"a": [1, None, "é"]}, None),
)


@pytest.mark.parametrize("prepares", [True, False])
async def test_what_is_sent_comes_back(connection: Connection, prepares: bool) -> None:
    connection._prepares = prepares
    sql = "SELECT %(value)s, nullif(%(value)s, %(value)s)"
    for value in (*VALUES, *VALUES):
        ((same, none),) = await ask(connection, sql, value=value)
        assert (same, none) == (value, None)
        assert type(same) is type(value)


async def test_what_only_comes_is_read(connection: Connection) -> None:
    await ask(connection, "SET TimeZone = 'Asia/Kolkata'")
    sql = (
        "SELECT timestamptz '2026-11-27 18:30:00.5+05:30', interval '90 s', ARRAY['a', NULL],"
        " uuid '00000000-0000-4000-8000-000000000001', 1::smallint, 2.5::float8, NULL::bytea"
    )
    assert await ask(connection, sql) == [
        (
            datetime(2026, 11, 27, 13, 0, 0, 500_000, UTC),
            timedelta(seconds=90),
            ["a", None],
            UUID("00000000-0000-4000-8000-000000000001"),
            *(1, 2.5, None),
        )
    ]


async def test_a_text_does_not_end_at_a_nul(connection: Connection) -> None:
    with pytest.raises(CharacterNotInRepertoire):
        await ask(connection, "SELECT %(card_id)s = 'card-1'", card_id="card-1\x00junk")
    assert await ask(connection, "SELECT 1") == [(1,)]


async def test_what_is_larger_than_the_socket_takes_is_sent_when_there_is_room(
    connection: Connection,
) -> None:
    assert await ask(connection, "SELECT length(%(value)s)", value="x" * 30_000_000) == [
        (30_000_000,)
    ]
    assert not connection._has_rest
    assert await ask(connection, "SELECT 1") == [(1,)]


async def test_what_the_server_said_of_a_commit_is_not_believed_of_the_next_statement(
    connection: Connection,
) -> None:
    """Its caller left, or got an error, before the notice could be told."""
    connection._not_replicated = True
    assert await ask(connection, "SELECT 1") == [(1,)]


async def test_a_statement_whose_caller_goes_away_is_stopped_and_the_connection_stays_good(
    connection: Connection, database_url: str
) -> None:
    asked = asyncio.create_task(connection.rows(SLEEP, {}, seconds=HANG_SECONDS))
    await until(lambda: sleeps(database_url))
    freed = list[Connection]()
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    connection.release(freed.append)
    assert not await sleeps(database_url)
    assert freed == [connection]
    assert await ask(connection, "SELECT 1") == [(1,)]


async def test_it_is_not_free_before_the_statement_has_ended(
    connection: Connection, database_url: str
) -> None:
    asked = asyncio.create_task(connection.rows(SLEEP, {}, seconds=HANG_SECONDS))
    await until(lambda: sleeps(database_url))
    freed = list[Connection]()
    for _ in range(2):  # who is in a hurry cancels again, as anyio does
        asked.cancel()
        await asyncio.sleep(0)
    connection.release(freed.append)
    assert freed == []

    async def is_free() -> bool:
        return freed == [connection]

    await until(is_free)
    assert not await sleeps(database_url)
    assert await ask(connection, "SELECT 1") == [(1,)]


async def test_who_goes_away_when_the_answer_has_come_stops_nothing(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle = Connection._settle

    def settle_and_cancel(self: Connection, *lost: Exception) -> None:
        settle(self, *lost)
        asked.cancel()

    with monkeypatch.context() as patch:
        patch.setattr(Connection, "_settle", settle_and_cancel)
        asked = asyncio.create_task(ask(connection, "SELECT 1"))
        with pytest.raises(asyncio.CancelledError):
            await asked
    assert connection._stopping is None
    assert await ask(connection, "SELECT 1") == [(1,)]


async def sleeps(url: str) -> bool:
    return run_sql(url, "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'") != []


async def test_at_its_deadline_a_statement_may_be_committed_and_the_connection_is_closed(
    connection: Connection, postgres: Postgres
) -> None:
    with stopped(postgres), pytest.raises(DatabaseFailed) as failed:
        await connection.rows(SLEEP, {}, seconds=0.01)
    assert failed.value.cause is Cause.NO_ANSWER
    assert not connection.is_open


async def test_an_answer_that_is_there_at_the_deadline_counts(connection: Connection) -> None:
    connection._prepares = False
    connection._loop.remove_reader(connection._socket)  # as if the process had been held up
    assert await connection.rows(Statement.of("SELECT 1", {}), {}, seconds=0.5) == [(1,)]
    assert connection.is_open


async def test_a_deadline_that_has_passed_leaves_the_next_statement_alone(
    connection: Connection,
) -> None:
    for _ in range(3):
        assert await connection.rows(Statement.of("SELECT 1", {}), {}, seconds=0.2) == [(1,)]
    await asyncio.sleep(0.3)
    assert await ask(connection, "SELECT 1") == [(1,)]


DEFERRED = """
    CREATE TABLE held (n int UNIQUE DEFERRABLE INITIALLY DEFERRED);
    CREATE FUNCTION at_commit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {} RETURN NULL; END $$;
    CREATE CONSTRAINT TRIGGER held AFTER INSERT ON held DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION at_commit()
"""
INSERT = "INSERT INTO held VALUES (%(n)s) RETURNING n, repeat('x', 100000)"
"""Its row is so large that it comes at once, before the commit."""


async def test_a_commit_that_fails_after_the_rows_came_is_a_failure(
    connection: Connection, database_url: str
) -> None:
    run_sql(database_url, DEFERRED.format(""))
    await ask(connection, INSERT, n=1)
    with pytest.raises(UniqueViolation):
        await ask(connection, INSERT, n=1)
    assert await ask(connection, "SELECT count(*) FROM held") == [(1,)]


async def test_a_session_that_is_ended_in_its_commit_says_so(
    connection: Connection, database_url: str
) -> None:
    run_sql(database_url, DEFERRED.format("PERFORM pg_terminate_backend(pg_backend_pid());"))
    with pytest.raises(DatabaseFailed) as failed:
        await ask(connection, INSERT, n=1)
    assert failed.value.cause is Cause.SERVER_ENDS
    assert not connection.is_open
    assert run_sql(database_url, "SELECT count(*) FROM held") == [(0,)]


READY_FOR_QUERY = b"Z\x00\x00\x00\x05I"
"""The server's last message of a statement, which tells that it is committed."""


class Proxy:
    """Stands between a connection and its server, and can lose the end of an answer."""

    loses_the_end = False

    def __init__(self, behind: str) -> None:
        self._behind = behind

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        from_server, to_server = await asyncio.open_unix_connection(self._behind)
        await asyncio.gather(
            self._pass(reader, to_server, b""), self._pass(from_server, writer, READY_FOR_QUERY)
        )

    async def _pass(self, reader: StreamReader, writer: StreamWriter, end: bytes) -> None:
        while received := await reader.read(1_000_000):
            if end and self.loses_the_end:
                received = received.removesuffix(end)
            writer.write(received)
            if end and self.loses_the_end:
                break
        writer.close()


async def test_rows_without_a_commit_are_no_answer(database_url: str) -> None:
    at = conninfo_to_dict(database_url)
    socket = f".s.PGSQL.{at['port']}"
    proxy = Proxy(f"{at['host']}/{socket}")
    with tempfile.TemporaryDirectory() as directory:  # a socket's path is short
        async with await asyncio.start_unix_server(proxy.serve, f"{directory}/{socket}"):
            connection = await Connection.open(make_conninfo(database_url, host=directory))
            assert await ask(connection, "SELECT 1") == [(1,)]
            proxy.loses_the_end = True
            with pytest.raises(DatabaseFailed) as failed:
                await ask(connection, "SELECT 1")
    assert failed.value.cause is Cause.CONNECTION_LOST
    assert not connection.is_open


async def test_a_session_that_ends_between_two_statements_is_heard_of(
    connection: Connection, database_url: str
) -> None:
    pid = connection.pgconn.backend_pid
    run_sql(database_url, "SELECT pg_terminate_backend(%s)", pid)
    async with asyncio.timeout(HANG_SECONDS):
        await connection.ended
    assert not connection.is_open


async def test_where_nobody_listens_there_is_no_connection() -> None:
    for address in ("host=/nowhere", "host=127.0.0.1 port=1", f"host={'x' * 70}.example"):
        with pytest.raises(DatabaseFailed) as failed:
            await Connection.open(address)
        assert failed.value.cause is Cause.NO_CONNECTION

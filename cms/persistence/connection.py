"""A connection of the request paths: it speaks to libpq, one statement at a time.

psycopg connects, and tells by its classes what an error means. What is between costs more than all
else of a statement, and is left out: a statement is prepared once on each connection, its
parameters and its rows are binary, and the event loop watches the socket for as long as the
connection is open. What is guaranteed:

* A statement has a deadline of our own. A server that was stopped or cut off applies no
  ``statement_timeout``. At the deadline the connection is closed and its caller goes on.
* When its caller goes away, the server is asked to stop the statement. The connection is free
  again when it has ended, or else is closed at the deadline.
* Where the answer is lost, what is raised says that the statement may have been committed.
* What was prepared and is no longer good did not run. It is run again once, without.
* A plan that was made while a table was small does not stay when it has grown.
* A connection that the server ended is closed when that is heard, not when it is wanted next.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from time import monotonic
from typing import Any, Final, Self

import psycopg
from psycopg import abc
from psycopg.adapt import Transformer
from psycopg.errors import Diagnostic, error_from_result
from psycopg.pq import ExecStatus, Format
from psycopg.pq.abc import PGresult

from cms.persistence.causes import WRONG_CONNECTION, Cause, DatabaseFailed, cause_of
from cms.persistence.statements import Statement
from cms.persistence.statements.server import LIMIT_CONNECTION, READ_CONNECTION

STATEMENT_SECONDS_MAX: Final = 2.0
SERVER_STATEMENT_MS_MAX: Final = 1500
"""The server's own deadline comes first: a lock that is held too long costs no connection."""
FORGET_PREPARED: Final = Statement.of("DEALLOCATE ALL", {})
FORGET_PLANS: Final = Statement.of("DISCARD PLANS", {})
PLANNED_ANEW_FROM: Final = 16
"""After so many statements, twice as many, and so on, a connection has its plans made anew.

Postgres plans what is prepared by the size that the tables have then, and again when there are new
statistics: within a minute or two. A table that was empty is full by then, and each statement would
read the whole of it.
"""
ENCODING: Final = "UTF8"
REPLICATION_WAIT: Final = "SyncRepWaitForLSN"
"""The function of the server that warns of a commit whose wait for a standby was cancelled.

Source: PostgreSQL, ``src/backend/replication/syncrep.c``. A warning has no SQLSTATE of its own, and
its text is translated.
"""

Row = tuple[Any, ...]


class Connection:
    """An autocommit connection that was opened by :meth:`open`."""

    def __init__(self, opened: psycopg.AsyncConnection) -> None:
        self.made_at = monotonic()
        self.pgconn = opened.pgconn
        self.ended = asyncio.get_running_loop().create_future()
        """Has a result once the connection is closed, by whomever."""
        self._opened = opened
        self._loop = asyncio.get_running_loop()
        self._socket = opened.pgconn.socket
        self._prepares = False
        self._prepared = dict[Statement, tuple[bytes, abc.Transformer]]()
        self._names = 0
        self._runs = 0
        self._answer: asyncio.Future[PGresult] | None = None
        """Of the statement on its way, whether or not its caller still waits."""
        self._result: PGresult | None = None
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._has_rest = False
        """Whether not all is sent: it waits for room in the socket."""
        self._not_replicated = False
        opened.add_notice_handler(self._notice)
        self._loop.add_reader(self._socket, self._read)

    @classmethod
    async def open(cls, address: str) -> Self:
        """Connect, find out to what, and let it limit our statements.

        Behind a pooler of connections (PgBouncer) the next statement may run in another session
        of the server: nothing is prepared there, and nothing set.

        Raises:
            DatabaseFailed: there is no connection, or it cannot be used.
        """
        try:
            opened = await psycopg.AsyncConnection.connect(address, autocommit=True)
        except (psycopg.Error, UnicodeError):  # a name of a host may be none
            raise DatabaseFailed(Cause.NO_CONNECTION) from None
        connection = cls(opened)
        try:
            await connection._set_up()
        except psycopg.Error:
            connection.close()
            raise DatabaseFailed(Cause.SERVER_BROKEN) from None
        except BaseException:
            connection.close()
            raise
        return connection

    @property
    def is_open(self) -> bool:
        """Whether a statement can be sent."""
        return not self.ended.done()

    def close(self) -> None:
        """Close it; who waits for an answer is told that it is lost. Again is harmless."""
        self._end(psycopg.OperationalError("the connection is closed"))

    def release(self, when_free: Callable[["Connection"], None]) -> None:
        """Call *when_free* once no statement is on its way: now, unless its caller went away."""
        if self._stopping is None or self._stopping.done():
            when_free(self)
        else:
            self._stopping.add_done_callback(lambda _: when_free(self))

    async def rows(
        self, statement: Statement, parameters: Mapping[str, object], *, seconds: float
    ) -> list[Row]:
        """Run a statement and return its rows.

        Raises:
            DatabaseFailed: the database cannot be used. The statement is not committed, unless the
                cause is among ``WRONG_CONNECTION`` or ``NOT_REPLICATED``: then it may be.
            psycopg.Error: any other error of the statement.
        """
        values = [
            None if (value := parameters[name]) is None else type_.encode(value)
            for name, type_ in statement.parameters
        ]
        self._deadline = self._loop.time() + seconds
        # What was said to a caller who left, or got an error, is not about this statement.
        self._not_replicated = False
        try:
            rows = await self._run(statement, values)
        except psycopg.Error as error:
            cause = cause_of(error)
            if cause is None or cause is Cause.STALE_STATEMENT:
                raise
            if cause in WRONG_CONNECTION:
                self.close()
            raise DatabaseFailed(cause) from None
        except asyncio.CancelledError:
            if self._answer is not None:
                self._answer = self._loop.create_future()
                self._stopping = self._loop.create_task(self._stop(self._answer))
                await asyncio.shield(self._stopping)
            raise
        if self._not_replicated:
            raise DatabaseFailed(Cause.NOT_REPLICATED)
        return rows

    async def _set_up(self) -> None:
        ((backend_pid, encoding, read_only),) = await self.rows(
            READ_CONNECTION, {}, seconds=STATEMENT_SECONDS_MAX
        )
        if encoding != ENCODING or read_only:
            raise DatabaseFailed(Cause.READ_ONLY if read_only else Cause.NOT_UTF8)
        # A pooler shows a process id of its own making.
        if backend_pid == self.pgconn.backend_pid:
            limit = {"statement_ms": SERVER_STATEMENT_MS_MAX}
            await self.rows(LIMIT_CONNECTION, limit, seconds=STATEMENT_SECONDS_MAX)
            self._prepares = True

    async def _run(self, statement: Statement, values: list[abc.Buffer | None]) -> list[Row]:
        if self._prepares:
            self._runs += 1
            try:
                if self._runs >= PLANNED_ANEW_FROM and self._runs.bit_count() == 1:
                    await self._run_unprepared(FORGET_PLANS, [])
                name, transformer = self._prepared.get(statement) or await self._prepare(statement)
                self.pgconn.send_query_prepared(name, values, statement.formats, Format.BINARY)
                return _loaded(await self._answered(), transformer)
            except psycopg.Error as error:
                if cause_of(error) is not Cause.STALE_STATEMENT:
                    raise
            self._prepared.clear()
            await self._run_unprepared(FORGET_PREPARED, [])
        return await self._run_unprepared(statement, values)

    async def _prepare(self, statement: Statement) -> tuple[bytes, abc.Transformer]:
        self._names += 1
        name = b"s%d" % self._names
        self.pgconn.send_prepare(name, statement.numbered, statement.oids)
        _loaded(await self._answered(), Transformer())
        self._prepared[statement] = name, Transformer()
        return self._prepared[statement]

    async def _run_unprepared(
        self, statement: Statement, values: list[abc.Buffer | None]
    ) -> list[Row]:
        self.pgconn.send_query_params(
            statement.numbered, values, statement.oids, statement.formats, Format.BINARY
        )
        return _loaded(await self._answered(), Transformer())

    def _answered(self) -> asyncio.Future[PGresult]:
        """Send what was given to libpq, and promise the answer."""
        answer = self._answer = self._loop.create_future()
        self._timer = self._loop.call_at(self._deadline, self._cut)
        self._write()
        return answer

    def _write(self) -> None:
        """Send what fits into the socket, and the rest when there is room."""
        try:
            rest = self.pgconn.flush()
        except psycopg.OperationalError as error:
            self._end(error)
            return
        if rest and not self._has_rest:
            self._loop.add_writer(self._socket, self._write)
        elif self._has_rest and not rest:
            self._loop.remove_writer(self._socket)
        self._has_rest = bool(rest)

    def _read(self) -> None:
        """Take what came: an answer, a part of one, a notice, or the end of the connection."""
        try:
            self.pgconn.consume_input()
            while self._answer is not None and not self.pgconn.is_busy():
                result = self.pgconn.get_result()
                if result is None:
                    self._settle()
                elif self._result is None or result.status == ExecStatus.FATAL_ERROR:
                    self._result = result  # its commit may fail after a statement has not
        except psycopg.OperationalError as error:
            self._end(error)

    def _settle(self, lost: Exception | None = None) -> None:
        """Give the answer to its caller, if there is one still."""
        answer, self._answer = self._answer, None
        result, self._result = self._result, None
        if self._timer is not None:
            self._timer.cancel()
        if answer is None or answer.done():
            return  # nobody waits for it
        # The rows of a statement come before its commit. Of what came before the connection was
        # lost an error counts alone: it says why.
        if result is not None and (lost is None or result.status == ExecStatus.FATAL_ERROR):
            answer.set_result(result)
        else:
            answer.set_exception(lost or psycopg.OperationalError("there is no answer"))

    async def _stop(self, answer: asyncio.Future[PGresult]) -> None:
        """Have the server stop a statement whose caller went away, and wait until it has."""
        with suppress(psycopg.Error, OSError):
            await self._opened.cancel_safe(timeout=STATEMENT_SECONDS_MAX)
        with suppress(psycopg.Error, DatabaseFailed):
            await answer

    def _cut(self) -> None:
        """End what has had its time, unless its answer is there."""
        self._read()
        if self._answer is not None:
            self._end(DatabaseFailed(Cause.NO_ANSWER))

    def _end(self, error: Exception) -> None:
        if self.ended.done():
            return
        self.ended.set_result(None)
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self.pgconn.finish()
        self._settle(error)

    def _notice(self, notice: Diagnostic) -> None:
        self._not_replicated |= notice.source_function == REPLICATION_WAIT


def _loaded(result: PGresult, transformer: abc.Transformer) -> list[Row]:
    """Read the rows of a result; what *transformer* found out of its columns it still knows."""
    if result.status == ExecStatus.FATAL_ERROR:
        raise error_from_result(result)
    transformer.set_pgresult(result, set_loaders=transformer.pgresult is None)
    return transformer.load_rows(0, result.ntuples, tuple)

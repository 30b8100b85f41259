"""A connection of the request paths: prepared statements, each with a deadline of our own.

A server that was stopped or cut off applies no ``statement_timeout``. So a timer ends what has had
its time: it closes the socket, and psycopg finds the connection lost. Cancelling the task instead
would have psycopg ask that same server to cancel, and wait for its answer.
"""

import asyncio
import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from time import monotonic
from typing import Any, Final

import psycopg
from psycopg import AsyncConnection, AsyncCursor
from psycopg.errors import Diagnostic

from cms.persistence.causes import WRONG_CONNECTION, Cause, DatabaseFailed, cause_of
from cms.persistence.statements import Statement
from cms.persistence.statements.server import LIMIT_CONNECTION, READ_CONNECTION

STATEMENT_SECONDS_MAX: Final = 2.0
SERVER_STATEMENT_MS_MAX: Final = 1500
"""The server's own deadline comes first: a lock that is held too long costs no connection."""
FORGET_PREPARED: Final = "DEALLOCATE ALL"
"""psycopg takes note of it too."""
ENCODING: Final = "UTF8"
REPLICATION_WAIT: Final = "SyncRepWaitForLSN"
"""The function of the server that warns of a commit whose wait for a standby was cancelled.

Source: PostgreSQL, ``src/backend/replication/syncrep.c``. A warning has no SQLSTATE of its own, and
its text is translated.
"""

Row = tuple[Any, ...]


class Connection(AsyncConnection[Row]):
    """An autocommit connection of the pool, made without preparing anything."""

    _timed_out = False
    _not_replicated = False

    def __init__(self, *arguments: Any) -> None:  # noqa: ANN401 - psycopg's own
        super().__init__(*arguments)
        self.made_at = monotonic()
        self.add_notice_handler(self._notice)

    async def set_up(self) -> None:
        """Find out what was connected to; let it limit our statements, and prepare them.

        Behind a pooler of connections (PgBouncer) the next statement may run in another session
        of the server: nothing is prepared there, and nothing set.

        Raises:
            DatabaseFailed: it cannot be used.
        """
        ((backend_pid, encoding, read_only),) = await self.rows(
            READ_CONNECTION, {}, fetch=True, seconds=STATEMENT_SECONDS_MAX
        )
        if encoding != ENCODING or read_only:
            await self.close()
            raise DatabaseFailed(Cause.READ_ONLY if read_only else Cause.NOT_UTF8)
        # A pooler shows a process id of its own making.
        if backend_pid == self.info.backend_pid:
            limit = {"statement_ms": SERVER_STATEMENT_MS_MAX}
            await self.rows(LIMIT_CONNECTION, limit, fetch=False, seconds=STATEMENT_SECONDS_MAX)
            self.prepare_threshold = 0

    async def rows(
        self,
        statement: Statement,
        parameters: Mapping[str, object],
        *,
        fetch: bool,
        seconds: float,
    ) -> list[Row]:
        """Run a statement, and with *fetch* return its rows.

        Raises:
            DatabaseFailed: the database cannot be used. The statement is not committed, unless the
                cause is among ``WRONG_CONNECTION`` or ``NOT_REPLICATED``: then it may be.
            psycopg.Error: any other error of the statement.
        """
        timer = asyncio.get_running_loop().call_later(seconds, self._cut)
        try:
            cursor = await self._execute(statement, {**statement.constants, **parameters})
            rows = await cursor.fetchall() if fetch else []
        except psycopg.Error as error:
            cause = Cause.NO_ANSWER if self._timed_out else cause_of(error)
            if cause is None or cause is Cause.STALE_STATEMENT:
                raise
            if cause in WRONG_CONNECTION:
                await self.close()
            raise DatabaseFailed(cause) from None
        finally:
            timer.cancel()
        if self._timed_out:
            await self.close()  # the answer was there when the timer struck
        if self._not_replicated:
            self._not_replicated = False
            raise DatabaseFailed(Cause.NOT_REPLICATED)
        return rows

    async def _execute(
        self, statement: Statement, parameters: Mapping[str, object]
    ) -> AsyncCursor[Row]:
        """Run a statement prepared; where that is stale, and so did not run, once more without."""
        try:
            return await self.execute(statement.sql, parameters, prepare=True)
        except psycopg.Error as error:
            if cause_of(error) is not Cause.STALE_STATEMENT:
                raise
        await self.execute(FORGET_PREPARED, prepare=False)
        return await self.execute(statement.sql, parameters, prepare=False)

    def _cut(self) -> None:
        self._timed_out = True
        with (
            suppress(OSError, psycopg.OperationalError),
            socket.socket(fileno=os.dup(self.fileno())) as server,
        ):
            server.shutdown(socket.SHUT_RDWR)

    def _notice(self, notice: Diagnostic) -> None:
        self._not_replicated |= notice.source_function == REPLICATION_WAIT

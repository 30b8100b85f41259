"""The connections of a process: what becomes of them when the database does not do what it should.

A connection that is wrong is closed and never handed out again, and those beside it are made anew.
"""

import logging
from collections.abc import Mapping
from time import monotonic
from typing import Final

import psycopg
from psycopg_pool import AsyncConnectionPool

from cms.persistence.causes import WRONG_CONNECTION, Cause, DatabaseFailed
from cms.persistence.connection import ENCODING, STATEMENT_SECONDS_MAX, Connection, Row
from cms.persistence.statements import Statement
from cms.persistence.statements.server import READ_FITNESS

POOL_CONNECTIONS_MAX: Final = 8
WAIT_SECONDS_MAX: Final = 2.0
RECONNECT_SECONDS: Final = 1.0
"""The pool doubles its pauses for this long; then whoever wants a connection has it try anew.

Its default, five minutes, lets it sit out minutes after a database that was unavailable came back.
"""
CHECK_SECONDS_MAX: Final = 1.0
REFUSED_AT_ONCE: Final = frozenset({Cause.NO_ANSWER, Cause.NOT_REPLICATED, Cause.NOT_DURABLE})
"""Until a check finds it well no statement is sent: each would leave a session there that waits."""

log = logging.getLogger(__name__)


class Pool:
    """Connections that are made in the background, at the start and after each loss.

    Args:
        address: what :func:`cms.persistence.address.connection_string` made.
    """

    def __init__(self, address: str) -> None:
        self._connections = AsyncConnectionPool(
            address,
            connection_class=Connection,
            min_size=POOL_CONNECTIONS_MAX,
            max_size=POOL_CONNECTIONS_MAX,
            timeout=WAIT_SECONDS_MAX,
            reconnect_timeout=RECONNECT_SECONDS,
            kwargs={"autocommit": True, "prepare_threshold": None},
            configure=self._set_up,
            reconnect_failed=lambda _: self._note(Cause.NO_CONNECTION),
            open=False,
        )
        self.cause: Cause | None = None
        """Why the database was unavailable since the last check that found it well, if it was."""
        self._refused_at_once = False
        self._drained_at = 0.0

    async def open(self) -> None:
        """Start connecting; does not wait for a connection."""
        await self._connections.open()

    async def close(self) -> None:
        """Close every connection."""
        await self._connections.close()

    async def rows(
        self, statement: Statement, parameters: Mapping[str, object], *, fetch: bool
    ) -> list[Row]:
        """Run a statement, and with *fetch* return its rows.

        Raises:
            DatabaseFailed: as :meth:`cms.persistence.connection.Connection.rows`, or no connection
                was to be had.
            psycopg.Error: any other error of the statement.
        """
        if self._refused_at_once:
            raise DatabaseFailed(self.cause or Cause.NO_ANSWER)
        try:
            return await self._run(statement, parameters, fetch, STATEMENT_SECONDS_MAX)
        except DatabaseFailed as failed:
            if failed.cause not in (Cause.NO_CONNECTION, Cause.STATEMENT_STOPPED):
                self._note(failed.cause)
                self._refused_at_once |= failed.cause in REFUSED_AT_ONCE
            raise

    async def fault(self) -> Cause | None:
        """Ask the database whether it can be used; if not, tell why.

        The answer takes no longer than the wait for a connection and a second.
        """
        cause: Cause | None
        try:
            ((encoding, durable, read_only, not_replicated),) = await self._run(
                READ_FITNESS, {}, True, CHECK_SECONDS_MAX
            )
        except DatabaseFailed as failed:
            # Why no connection could be made was seen where it was tried.
            cause = self.cause if failed.cause is Cause.NO_CONNECTION else failed.cause
            cause = cause or Cause.NO_CONNECTION
        except psycopg.Error:
            cause = Cause.SERVER_BROKEN
        else:
            faults = {
                Cause.NOT_UTF8: encoding != ENCODING,
                Cause.NOT_DURABLE: not durable,
                Cause.READ_ONLY: read_only,
                Cause.NOT_REPLICATED: not_replicated,
            }
            cause = next((fault for fault, found in faults.items() if found), None)
            if cause is Cause.READ_ONLY:
                await self._drop_connections()
        self._refused_at_once = cause in REFUSED_AT_ONCE
        self._note(cause)
        return cause

    async def _run(
        self, statement: Statement, parameters: Mapping[str, object], fetch: bool, seconds: float
    ) -> list[Row]:
        try:
            async with self._connections.connection() as connection:
                try:
                    return await connection.rows(
                        statement, parameters, fetch=fetch, seconds=seconds
                    )
                except DatabaseFailed as failed:
                    if failed.cause in WRONG_CONNECTION and connection.made_at > self._drained_at:
                        await self._drop_connections()
                    raise
        except (psycopg.OperationalError, psycopg.InterfaceError):
            # What a connection meets it tells itself; this is of the pool.
            raise DatabaseFailed(Cause.NO_CONNECTION) from None

    async def _set_up(self, connection: Connection) -> None:
        """Set up a new connection; the pool takes none that fails here."""
        try:
            await connection.set_up()
        except DatabaseFailed as failed:
            self._note(failed.cause)
            raise

    async def _drop_connections(self) -> None:
        """Have the pool make all anew: one that is wrong is seldom the only one."""
        self._drained_at = monotonic()
        await self._connections.drain()

    def _note(self, cause: Cause | None) -> None:
        """Log the first cause of an outage, and its end, which only a check can tell."""
        if cause is None and self.cause is not None:
            log.info("database.available", extra={"reason": self.cause})
            self.cause = None
        elif cause is not None and self.cause is None:
            log.error("database.unavailable", extra={"reason": cause})
            self.cause = cause

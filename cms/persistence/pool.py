"""The connections of a process: what becomes of them when the database does not do what it should.

A connection that is wrong is closed and never handed out again, and those beside it are made anew.
"""

import asyncio
import logging
import random
from collections import OrderedDict, deque
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Final

import psycopg

from cms import metrics
from cms.persistence.causes import WRONG_CONNECTION, Cause, DatabaseFailed
from cms.persistence.connection import ENCODING, STATEMENT_SECONDS_MAX, Connection, Row
from cms.persistence.statements import Statement
from cms.persistence.statements.server import READ_FITNESS

POOL_CONNECTIONS_MAX: Final = 8
WAIT_SECONDS_MAX: Final = 2.0
CONNECTING_MAX: Final = 3
"""Who connects holds one of these places, and while that fails, during the pause after it too."""
RECONNECT_SECONDS_MIN: Final = 0.1
RECONNECT_SECONDS_MAX: Final = 1.0
"""The pause doubles up to this, and is not given up: nobody has to ask for a connection."""
LIFE_SECONDS_MAX: Final = 3600.0
"""A server that was moved, or a role that was changed, is noticed in an hour at the latest."""
CHECK_SECONDS_MAX: Final = 1.0
REFUSED_AT_ONCE: Final = frozenset({Cause.NO_ANSWER, Cause.NOT_REPLICATED, Cause.NOT_DURABLE})
"""Until a check finds it well no statement is sent: each would leave a session there that waits."""

log = logging.getLogger(__name__)


class Pool:
    """Connections that are made in the background, at the start and after each loss.

    Those who wait for one get it in the order in which they came.

    Args:
        address: what :func:`cms.persistence.address.connection_string` made.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._connecting = asyncio.Semaphore(CONNECTING_MAX)
        self._keepers = list[asyncio.Task[None]]()
        self.connections = set[Connection]()
        """Those that are open."""
        self._free = deque[Connection]()
        self._waiting = OrderedDict[asyncio.Future[Connection], None]()
        self.cause: Cause | None = None
        """Why the database was unavailable since the last check that found it well, if it was."""
        self.clock_difference_seconds = 0.0
        """By how much the server's clock was ahead of this host's when last read, or, below 0,
        behind: no more than is certain, as the answer takes its time."""
        self._refused_at_once = False
        self._drained_at = 0.0

    async def open(self) -> None:
        """Start connecting; does not wait for a connection."""
        self._keepers = [asyncio.create_task(self._keep_one()) for _ in range(POOL_CONNECTIONS_MAX)]

    async def close(self) -> None:
        """Close every connection."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)

    def occupancy(self) -> tuple[int, int, int]:
        """Count the connections that are open and those that are free, and who waits for one."""
        return len(self.connections), len(self._free), len(self._waiting)

    async def rows(self, statement: Statement, parameters: Mapping[str, object]) -> list[Row]:
        """Run a statement and return its rows.

        Raises:
            DatabaseFailed: as :meth:`cms.persistence.connection.Connection.rows`, or no connection
                was to be had.
            psycopg.Error: any other error of the statement.
        """
        if self._refused_at_once:
            cause = self.cause or Cause.NO_ANSWER
            metrics.database_failed(cause)
            raise DatabaseFailed(cause)
        try:
            return await self._run(statement, parameters, STATEMENT_SECONDS_MAX)
        except DatabaseFailed as failed:
            metrics.database_failed(failed.cause)
            if failed.cause not in (Cause.NO_CONNECTION, Cause.STATEMENT_STOPPED):
                self._note(failed.cause)
                self._refused_at_once |= failed.cause in REFUSED_AT_ONCE
            raise

    async def fault(self) -> Cause | None:
        """Ask the database whether it can be used; if not, tell why.

        The answer takes no longer than the wait for a connection and a second.
        """
        cause: Cause | None
        asked_at = _host_time()
        try:
            ((encoding, durable, read_only, not_replicated, clock),) = await self._run(
                READ_FITNESS, {}, CHECK_SECONDS_MAX
            )
        except DatabaseFailed as failed:
            # Why no connection could be made was seen where it was tried.
            cause = self.cause if failed.cause is Cause.NO_CONNECTION else failed.cause
            cause = cause or Cause.NO_CONNECTION
        except psycopg.Error:
            cause = Cause.SERVER_BROKEN
        else:
            self.clock_difference_seconds = _seconds_outside(clock, asked_at, _host_time())
            faults = {
                Cause.NOT_UTF8: encoding != ENCODING,
                Cause.NOT_DURABLE: not durable,
                Cause.READ_ONLY: read_only,
                Cause.NOT_REPLICATED: not_replicated,
            }
            cause = next((fault for fault, found in faults.items() if found), None)
            if cause is Cause.READ_ONLY:
                self._drop_connections()
        self._refused_at_once = cause in REFUSED_AT_ONCE
        self._note(cause)
        return cause

    async def _run(
        self, statement: Statement, parameters: Mapping[str, object], seconds: float
    ) -> list[Row]:
        connection = self._take() or await self._wait_for_one()
        try:
            return await connection.rows(statement, parameters, seconds=seconds)
        except DatabaseFailed as failed:
            if failed.cause in WRONG_CONNECTION and connection.made_at > self._drained_at:
                self._drop_connections()
            raise
        finally:
            connection.release(self._give_back)

    def _take(self) -> Connection | None:
        """Take the connection that was free longest: what is used is not forgotten on the way."""
        while self._free:
            connection = self._free.popleft()
            if connection.is_open:
                return connection
        return None

    async def _wait_for_one(self) -> Connection:
        loop = asyncio.get_running_loop()
        promised: asyncio.Future[Connection] = loop.create_future()
        self._waiting[promised] = None
        timer = loop.call_later(WAIT_SECONDS_MAX, _refuse, promised)
        try:
            return await promised
        except asyncio.CancelledError:
            if promised.done() and not promised.cancelled() and promised.exception() is None:
                self._give_back(promised.result())  # it came as its caller went away
            raise
        finally:
            timer.cancel()
            self._waiting.pop(promised, None)

    def _give_back(self, connection: Connection) -> None:
        """Hand a connection to who waits longest, or keep it; one from before a drop goes."""
        if connection.made_at <= self._drained_at:
            connection.close()
        if not connection.is_open:
            return
        while self._waiting:
            promised, _ = self._waiting.popitem(last=False)
            if not promised.done():
                promised.set_result(connection)
                return
        self._free.append(connection)

    async def _keep_one(self) -> None:
        """Have one connection, and after it another one, until the pool is closed."""
        while True:
            connection = await self._connected()
            self.connections.add(connection)
            self._give_back(connection)
            try:
                lifetime = LIFE_SECONDS_MAX * random.uniform(0.9, 1)  # noqa: S311 - not all at once
                await asyncio.wait({connection.ended}, timeout=lifetime)
                self._retire(connection)
                await connection.ended
            finally:
                connection.close()
                self.connections.remove(connection)
                with suppress(ValueError):
                    self._free.remove(connection)

    async def _connected(self) -> Connection:
        """Connect, however often it fails."""
        pause = RECONNECT_SECONDS_MIN
        while True:
            async with self._connecting:
                try:
                    return await Connection.open(self._address)
                except DatabaseFailed as failed:
                    if failed.cause is not Cause.NO_CONNECTION or not self.connections:
                        self._note(failed.cause)
                await asyncio.sleep(pause)
            pause = min(2 * pause, RECONNECT_SECONDS_MAX)

    def _retire(self, connection: Connection) -> None:
        """Close a connection once its statement has ended."""
        connection.made_at = 0.0
        if connection in self._free:
            connection.close()

    def _drop_connections(self) -> None:
        """Make all anew: one that is wrong is seldom the only one."""
        self._drained_at = monotonic()
        while self._free:
            self._free.pop().close()

    def _note(self, cause: Cause | None) -> None:
        """Log the first cause of an outage, and its end, which only a check can tell."""
        if cause is None and self.cause is not None:
            log.info("database.available", extra={"reason": self.cause})
            self.cause = None
        elif cause is not None and self.cause is None:
            log.error("database.unavailable", extra={"reason": cause})
            self.cause = cause


def _refuse(promised: asyncio.Future[Connection]) -> None:
    if not promised.done():
        promised.set_exception(DatabaseFailed(Cause.NO_CONNECTION))


def _host_time() -> datetime:
    return datetime.now(UTC)


def _seconds_outside(moment: datetime, begin: datetime, end: datetime) -> float:
    """Measure how long *moment* is after *end* or, below 0, before *begin*; 0: it is between."""
    return (max(moment - end, timedelta()) + min(moment - begin, timedelta())).total_seconds()

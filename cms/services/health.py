"""Whether this process can do its work: asked again and again, answered from what was last seen."""

import asyncio
import logging
from contextlib import suppress
from typing import Final

from cms.persistence.causes import Cause
from cms.persistence.store import Store
from hsm.worker_thread import WorkerThread

PAUSE_SECONDS: Final = 1.0
PAUSES_WHILE_READY: Final = 5
UNFIT: Final = frozenset({Cause.NOT_DURABLE, Cause.NOT_UTF8})
"""What no waiting changes: somebody has to set the database up otherwise."""
log = logging.getLogger(__name__)


class DatabaseUnfit(Exception):
    """Postgres may lose a commit that it reported, or does not hold every text."""


class Health:
    """The state of the vault and the database as this process last saw it."""

    def __init__(self, worker_thread: WorkerThread, store: Store) -> None:
        self.worker_thread = worker_thread
        self.store = store
        self._database_answered = False
        self._unfit: Cause | None = None

    @property
    def vault(self) -> bool:
        """Whether the HSM token answered its last heartbeat and nothing is stuck."""
        return self.worker_thread.ready

    @property
    def database(self) -> bool:
        """Whether the database could be used when last asked, and no statement failed since."""
        return self._database_answered and self.store.pool.cause is None

    @property
    def ready(self) -> bool:
        """Whether requests can be served."""
        return self.vault and self.database

    async def check(self) -> None:
        """Ask both now.

        Raises:
            DatabaseUnfit: the database answers, and its settings or encoding forbid using it.
        """
        await self.worker_thread.check()
        cause = await self.ask_database()
        known, self._unfit = self._unfit, cause if cause in UNFIT else None
        if self._unfit is not None:
            if self._unfit is not known:
                log.critical("database.unfit", extra={"reason": cause})
            raise DatabaseUnfit

    async def ask_database(self) -> Cause | None:
        """Ask the database now, with a bound; if it cannot be used, tell why."""
        cause = await self.store.pool.fault()
        self._database_answered = cause is None
        return cause

    async def beat(self) -> None:
        """Keep asking, more often while something is unavailable."""
        while True:
            for _ in range(PAUSES_WHILE_READY):
                await asyncio.sleep(PAUSE_SECONDS)
                if not self.ready:
                    break
            with suppress(DatabaseUnfit):
                await self.check()

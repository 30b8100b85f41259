"""Whether this process can do its work: asked again and again, answered from what was last seen."""

import asyncio
import logging
from typing import Final

from cms.domain.errors import ServiceUnavailable
from cms.persistence.store import Store
from hsm.worker_thread import WorkerThread

PAUSE_SECONDS: Final = 5.0
PAUSE_SECONDS_UNREADY: Final = 1.0
log = logging.getLogger(__name__)


class NotDurable(Exception):
    """Postgres may lose a commit that it reported: a PIN change could vanish."""


class Health:
    """The state of the vault and the database as this process last saw it."""

    def __init__(self, worker_thread: WorkerThread, store: Store) -> None:
        self.worker_thread = worker_thread
        self.store = store
        self.database = False

    @property
    def vault(self) -> bool:
        """Whether the HSM token answered its last heartbeat and nothing is stuck."""
        return self.worker_thread.ready

    @property
    def ready(self) -> bool:
        """Whether requests can be served."""
        return self.vault and self.database

    async def check(self) -> None:
        """Ask both now.

        Raises:
            NotDurable: the database answers, and does not keep what it commits.
        """
        await self.worker_thread.check()
        try:
            self.database = await self.store.is_durable()
        except ServiceUnavailable:
            self.database = False
        else:
            if not self.database:
                raise NotDurable

    async def beat(self) -> None:
        """Keep asking, more often while something is unavailable."""
        while True:
            await asyncio.sleep(PAUSE_SECONDS if self.ready else PAUSE_SECONDS_UNREADY)
            try:
                await self.check()
            except NotDurable:
                log.critical("database.not_durable")

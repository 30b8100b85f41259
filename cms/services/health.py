"""Whether this process can do its work: asked again and again, answered from what was last seen."""

import asyncio
import logging
from contextlib import suppress
from typing import Final

from cms.persistence.causes import Cause
from cms.persistence.store import Store
from hsm import messages
from hsm.client import VaultCalls
from hsm.errors import HsmError, VaultBusy

PAUSE_SECONDS: Final = 1.0
PAUSES_WHILE_READY: Final = 5
VAULT_SECONDS_MAX: Final = 2.0
"""How long the vault may take to say how it is."""
UNFIT: Final = frozenset({Cause.NOT_DURABLE, Cause.NOT_UTF8})
"""What no waiting changes: somebody has to set the database up otherwise."""
log = logging.getLogger(__name__)


class DatabaseUnfit(Exception):
    """Postgres may lose a commit that it reported, or does not hold every text."""


class Health:
    """The state of the vault and the database as this process last saw it."""

    def __init__(self, vault: VaultCalls, store: Store) -> None:
        self._vault = vault
        self._store = store
        self._reported = False
        self._database_answered = False
        self._unfit: Cause | None = None
        self.vault_ready = False
        """Whether every key of the vault worked when it was last asked."""

    @property
    def database_ready(self) -> bool:
        """Whether the database could be used when last asked, and no statement failed since."""
        return self._database_answered and self._store.pool.cause is None

    @property
    def ready(self) -> bool:
        """Whether requests can be served."""
        return self.vault_ready and self.database_ready

    async def check(self) -> None:
        """Ask both now.

        Raises:
            DatabaseUnfit: the database answers, and its settings or encoding forbid using it.
        """
        await self.ask_vault()
        cause = await self.ask_database()
        known, self._unfit = self._unfit, cause if cause in UNFIT else None
        if self._unfit is not None:
            if self._unfit is not known:
                log.critical("database.unfit", extra={"reason": cause})
            raise DatabaseUnfit

    async def ask_vault(self) -> None:
        """Ask the vault now, with a bound. Never raises."""
        try:
            async with asyncio.timeout(VAULT_SECONDS_MAX):
                await self._vault.call(messages.Health())
        except VaultBusy:
            pass  # it answers others: whether it is ready is as it was
        except TimeoutError:
            self._vault_failed("the vault does not answer in time")
        except HsmError as error:
            self._vault_failed(str(error))
        else:
            self.vault_ready, self._reported = True, False

    def _vault_failed(self, reason: str) -> None:
        """Log it, once until the vault is ready again."""
        if not self._reported:
            log.warning("vault.unavailable", extra={"reason": reason})
        self.vault_ready, self._reported = False, True

    async def ask_database(self) -> Cause | None:
        """Ask the database now, with a bound; if it cannot be used, tell why."""
        cause = await self._store.pool.fault()
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

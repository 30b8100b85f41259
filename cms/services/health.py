"""Whether this program can do its work: asked again and again, answered from what was last seen.

Each worker asks for itself; what one sees the others know too, so that all give one answer.
"""

import asyncio
import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cms.persistence.causes import Cause
from cms.persistence.store import Store
from cms.persistence.tables import REVISION
from cms.services.ends import Ends
from cms.services.workers import Fault, View, Workers, now
from hsm import messages
from hsm.client import VaultCalls
from hsm.errors import HsmError, VaultBusy, VaultUnavailable

PAUSE_SECONDS: Final = 1.0
PAUSES_WHILE_READY: Final = 5
VAULT_SECONDS_MAX: Final = 2.0
"""How long the vault may take to say how it is."""
CLOCK_DIFFERENCE_SECONDS_MAX: Final = 5.0
CLOCK_DIFFERS: Final = (
    "this host and the database differ by more than 5 s: see on both whether NTP runs"
    " (timedatectl). If other hosts say so too, the database's clock is off, else this host's"
)
UNFIT: Final = frozenset({Cause.NOT_DURABLE, Cause.NOT_UTF8})
"""What no waiting changes: somebody has to set the database up otherwise."""
NOT_ASKED: Final = "NOT_ASKED"
NOT_MIGRATED: Final = "NOT_MIGRATED"
DATABASE_CAUSES: Final = (*Cause, NOT_ASKED, NOT_MIGRATED)
"""What the database can be said to have."""
NONE_ISSUED: Final = (
    "HSM_TOKEN_ISSUER of the vault is missing, so D1 gets no access tokens: give it what"
    " CMS_PUBLIC_URL is here, and restart the vault; see docs/settings.md"
)
"""A warning only: D1 may be known by its certificate alone."""
ISSUED_FOR_OTHERS: Final = (
    "HSM_TOKEN_ISSUER of the vault is not CMS_PUBLIC_URL: give both the address that D1 uses, and"
    " restart; see docs/settings.md"
)
log = logging.getLogger(__name__)


class DatabaseUnfit(Exception):
    """Postgres may lose a commit that it reported, or does not hold every text."""


@dataclass(frozen=True, slots=True)
class Readiness:
    """What all workers saw."""

    vault: bool
    database: bool
    problems: tuple[Fault, ...]
    """Why requests cannot be served."""
    warnings: tuple[Fault, ...]
    """What will be a problem, or may be one."""
    views: tuple[View, ...]

    @property
    def ready(self) -> bool:
        """Whether requests can be served."""
        return bool(self.views) and not self.problems


class Health:
    """The state of the vault and the database as this process last saw it.

    Args:
        vault: the way to the vault.
        store: the database.
        workers: knows what the others saw.
        ends: what ends soon.
        public_url: what the vault must name in access tokens; None: nobody here takes any.
    """

    def __init__(
        self,
        vault: VaultCalls,
        store: Store,
        workers: Workers | None = None,
        ends: Ends | None = None,
        public_url: str | None = None,
    ) -> None:
        self._vault = vault
        self._public_url = public_url
        self._store = store
        self._workers = workers or Workers()
        self.ends = ends or Ends()
        self._reported = False
        self._database_fault: str | None = NOT_ASKED
        self._vault_fault: str | None = NOT_ASKED
        self._revision_fault: str | None = None
        self._unfit: Cause | None = None
        self._clock_differs = False
        self._none_issued = False

    @property
    def vault_ready(self) -> bool:
        """Whether every key of the vault worked when it was last asked."""
        return self._vault_fault is None

    @property
    def database_ready(self) -> bool:
        """Whether the database could be used when last asked, and no statement failed since."""
        return self._database_fault is None and self._store.pool.cause is None

    @property
    def ready(self) -> bool:
        """Whether requests can be served, as far as this worker saw."""
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
                await self._compare_token_issuer()
        except VaultBusy:
            pass  # it answers others: whether it is ready is as it was
        except TimeoutError:
            self._vault_failed("the vault does not answer in time")
        except HsmError as error:
            self._vault_failed(str(error))
        else:
            self._vault_fault, self._reported = None, False
        self._tell()

    async def _compare_token_issuer(self) -> None:
        """Look whether access tokens that the vault issues are taken here.

        Raises:
            VaultUnavailable: they are not.
        """
        if self._public_url is None:
            return
        issuer, known = await self._vault.call(messages.TokenIssuer()), self._none_issued
        self._none_issued = issuer is None
        if self._none_issued and not known:
            log.warning("vault.token_issuer", extra={"reason": NONE_ISSUED})
        if issuer not in (None, self._public_url):
            raise VaultUnavailable(ISSUED_FOR_OTHERS)

    def _vault_failed(self, reason: str) -> None:
        """Log it, once until the vault is ready again."""
        if not self._reported:
            log.warning("vault.unavailable", extra={"reason": reason})
        self._vault_fault, self._reported = reason, True

    async def ask_database(self) -> Cause | None:
        """Ask the database now, with a bound; if it cannot be used, tell why."""
        cause = await self._store.pool.fault()
        self._database_fault = cause
        if cause is None:
            self._look_at_clock()
            await self._ask_revision()
        self._tell()
        return cause

    async def _ask_revision(self) -> None:
        """Look which migration the database had last: one that had none has no table of ours."""
        revision = await self._store.revision()
        if revision == "":
            self._database_fault = NOT_MIGRATED
        known, self._revision_fault = self._revision_fault, None
        if revision not in (None, "", REVISION):
            self._revision_fault = (
                f"revision {revision} is not {REVISION}, that of this release: run alembic upgrade"
                " head of this release, or start the release that the database was upgraded for"
            )
            if self._revision_fault != known:
                log.warning("database.revision", extra={"reason": self._revision_fault})

    def _look_at_clock(self) -> None:
        """Log when the database's clock and this host's begin to differ, and when they agree."""
        differed, difference = self._clock_differs, self._store.pool.clock_difference_seconds
        self._clock_differs = abs(difference) > CLOCK_DIFFERENCE_SECONDS_MAX
        if self._clock_differs and not differed:
            log.warning("clock.differs", extra={"reason": CLOCK_DIFFERS})
        elif differed and not self._clock_differs:
            log.info("clock.agrees")

    async def beat(self) -> None:
        """Keep asking, more often while something is unavailable."""
        while True:
            for _ in range(PAUSES_WHILE_READY):
                await asyncio.sleep(PAUSE_SECONDS)
                if not self.ready:
                    break
            with suppress(DatabaseUnfit):
                await self.check()

    def of_all(self) -> Readiness:
        """Tell what all workers saw; who is silent for long is a problem itself."""
        views = self._workers.views()
        problems = {fault: None for view in views for fault in view.problems}
        silent = sum(view.is_silent for view in views)
        if silent:
            problems[Fault("worker", f"{silent} of {len(views)} do not answer")] = None
        return Readiness(
            all(view.vault for view in views),
            all(view.database for view in views),
            tuple(problems),
            tuple({fault: None for view in views for fault in view.warnings}),
            tuple(views),
        )

    def _tell(self) -> None:
        pool = self._store.pool
        self._workers.tell(
            View(
                os.getpid(),
                now(),
                self.vault_ready,
                self.database_ready,
                tuple(self._problems()),
                tuple(self._warnings()),
                *pool.occupancy(),
                pool.clock_difference_seconds,
            )
        )

    def _problems(self) -> Iterator[Fault]:
        if self._vault_fault is not None:
            yield Fault("vault", self._vault_fault)
        cause = self._store.pool.cause or self._database_fault
        if cause is not None:
            yield Fault("database", cause)

    def _warnings(self) -> Iterator[Fault]:
        if self._revision_fault is not None:
            yield Fault("database", self._revision_fault)
        if self._none_issued:
            yield Fault("vault", NONE_ISSUED)
        if self._clock_differs:
            yield Fault("clock", CLOCK_DIFFERS)
        yield from self.ends.near(datetime.now(UTC))

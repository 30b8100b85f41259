"""The one thread of this process that calls the HSM token.

A PKCS#11 call cannot be cancelled, and a PKCS#11 module may not be safe for use by many threads.
So all calls run on one worker thread, with a bounded queue and a deadline. A call that does not end
before its deadline means that the device hangs: the worker thread cannot be used any more, and its
owner is told to replace the process.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from hsm.errors import HsmError, KeyMissing, LoginRefused, VaultUnavailable
from hsm.port import PinVault

LOOK_AGAIN_SECONDS: Final = 10.0
T = TypeVar("T")
log = logging.getLogger(__name__)


class WorkerThread:
    """Runs vault verbs on a thread of its own, and opens the vault there when it is needed.

    Args:
        open_vault: opens a new vault; called on the worker thread only.
        deadline_seconds: how long a verb may take, with its time in the queue.
        queue_max: how many verbs may wait or run at once; one more is refused.
        reopen_seconds: how long to wait after a failed opening before the next one.
        on_stuck: called once, when a verb did not end before its deadline.
    """

    def __init__(
        self,
        open_vault: Callable[[], PinVault],
        *,
        deadline_seconds: float,
        queue_max: int,
        reopen_seconds: float,
        on_stuck: Callable[[], None],
    ) -> None:
        self._open_vault = open_vault
        self._deadline_seconds = deadline_seconds
        self._queue_max = queue_max
        self._reopen_seconds = reopen_seconds
        self._on_stuck = on_stuck
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="vault")
        self._vault: PinVault | None = None
        self._login_refused = False
        self._next_opening = 0.0
        self._next_look = 0.0
        self._in_flight = 0
        self._stuck = False
        self._reported = False
        self.ready = False

    async def call(self, verb: Callable[[PinVault], T]) -> T:
        """Run *verb* on the vault.

        Raises:
            VaultUnavailable: the queue is full, the deadline passed, or the HSM token failed.
            HsmError: any other error that *verb* raises.
        """
        if self._stuck or self._in_flight >= self._queue_max:
            raise VaultUnavailable("the vault is busy")
        self._in_flight += 1
        # Not wait_for(): it would wait for a thread that cannot be cancelled.
        running = asyncio.get_running_loop().run_in_executor(self._thread, self._run, verb)
        running.add_done_callback(self._landed)
        done, _ = await asyncio.wait((running,), timeout=self._deadline_seconds)
        if not done:
            self._give_up()
            raise VaultUnavailable("the vault did not answer in time")
        return running.result()

    async def check(self) -> None:
        """Ask the vault for its health and set :attr:`ready`. Never raises."""
        try:
            await self.call(lambda vault: vault.health())
        except HsmError as error:
            if not self._reported:
                log.warning("vault.unavailable", extra={"reason": str(error)})
            self._reported = True
            self.ready = False
        else:
            self._reported = False
            self.ready = not self._stuck

    def close(self) -> None:
        """Let the thread end after the verb that it runs; verbs in the queue do not run."""
        self._thread.shutdown(wait=not self._stuck, cancel_futures=True)

    def _run(self, verb: Callable[[PinVault], T]) -> T:
        vault = self._vault or self._open()
        try:
            return verb(vault)
        except KeyMissing:
            # The key may have been made since: a new vault finds it. Opening one delays every
            # request, so a database row that names no key at all must not cause it each time.
            if time.monotonic() >= self._next_look:
                self._next_look = time.monotonic() + LOOK_AGAIN_SECONDS
                self._vault = None
            raise
        except VaultUnavailable:
            # A broken link heals only by initialising the module again.
            self._vault = None
            self.ready = False
            raise

    def _open(self) -> PinVault:
        if self._login_refused or time.monotonic() < self._next_opening:
            raise VaultUnavailable("the HSM token is unavailable")
        self._next_opening = time.monotonic() + self._reopen_seconds
        try:
            self._vault = self._open_vault()
        except LoginRefused:
            self._login_refused = True
            raise
        self._next_opening = 0.0
        return self._vault

    def _landed(self, running: asyncio.Future[T]) -> None:
        self._in_flight -= 1
        if not running.cancelled():
            running.exception()  # retrieved, so that a late failure is not reported as unhandled

    def _give_up(self) -> None:
        if not self._stuck:
            self._stuck = True
            self.ready = False
            self._on_stuck()

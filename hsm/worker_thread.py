"""The one thread of this process that calls the HSM token.

A PKCS#11 call cannot be cancelled, and a PKCS#11 module may not be safe for use by many threads.
So all calls run on one worker thread, one after another, and each has a deadline from the moment
when it starts: a call that does not end before it means that the device hangs. The worker thread
cannot be used any more then, and its owner is told to replace the process. Calls that wait say
nothing about the device; a call that would have to wait too long is refused at once.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeVar

from hsm.errors import (
    CountsUnavailable,
    HsmError,
    KeyMissing,
    LoginRefused,
    LogUnavailable,
    VaultBusy,
    VaultUnavailable,
)
from hsm.port import PinVault

LOOK_AGAIN_SECONDS: Final = 10.0
CALL_SECONDS_AT_FIRST: Final = 0.01
"""What a call is thought to take until some were measured."""
NEWEST_SHARE: Final = 0.1
"""What the newest call counts in the moving average of what a call takes."""
T = TypeVar("T")
log = logging.getLogger(__name__)


class WorkerThread:
    """Runs vault verbs on a thread of its own, and opens the vault there when it is needed.

    Args:
        open_vault: opens a new vault; called on the worker thread only.
        deadline_seconds: how long a verb may run; its time in the queue does not count.
        wait_seconds_max: how long a verb may be expected to wait; one that would wait longer is
            refused at once.
        reopen_seconds: how long to wait after a failed opening before the next one.
        on_stuck: called once, when a verb did not end before its deadline.
    """

    def __init__(
        self,
        open_vault: Callable[[], PinVault],
        *,
        deadline_seconds: float,
        wait_seconds_max: float,
        reopen_seconds: float,
        on_stuck: Callable[[], None],
    ) -> None:
        self._open_vault = open_vault
        self._deadline_seconds = deadline_seconds
        self._wait_seconds_max = wait_seconds_max
        self._reopen_seconds = reopen_seconds
        self._on_stuck = on_stuck
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="vault")
        self._vault: PinVault | None = None
        self._login_refused = False
        self._next_opening = 0.0
        self._next_look = 0.0
        self._in_flight = 0
        self._started_at: float | None = None
        self._call_seconds = CALL_SECONDS_AT_FIRST
        self._answers = set[asyncio.Future[Any]]()
        self._watched = False
        self._stuck = False
        self._reported = False
        self.ready = False

    async def call(self, verb: Callable[[PinVault], T]) -> T:
        """Run *verb* on the vault.

        Raises:
            VaultBusy: the verb would have to wait too long; nothing was called.
            VaultUnavailable: a verb did not end before its deadline, or the HSM token failed.
            HsmError: whatever else *verb* raises.
        """
        if self._stuck:
            raise VaultUnavailable("the HSM token does not answer")
        if self._wait_seconds() > self._wait_seconds_max:
            raise VaultBusy("the vault is busy")
        loop = asyncio.get_running_loop()
        # A future of our own: that of the executor cannot be answered while its verb hangs.
        answer: asyncio.Future[T] = loop.create_future()
        running = self._thread.submit(self._run, verb)
        self._in_flight += 1
        self._answers.add(answer)
        running.add_done_callback(partial(self._land, loop, answer))
        if not self._watched:
            self._watched = True
            loop.call_later(self._deadline_seconds, self._watch, loop)
        return await answer

    async def check(self) -> None:
        """Ask the vault for its health and set :attr:`ready`. Never raises."""
        try:
            await self.call(lambda vault: vault.health())
        except VaultBusy:
            pass  # it answers others: whether it is ready is as it was
        except HsmError as error:
            if not self._reported:
                log.warning("vault.unavailable", extra={"reason": str(error)})
            self._reported = True
            self.ready = False
        else:
            self._reported = False
            self.ready = not self._stuck

    def close(self) -> None:
        """Let the thread end after what it runs."""
        self._thread.shutdown(wait=not self._stuck, cancel_futures=True)

    def _wait_seconds(self) -> float:
        """Estimate how long one more verb would wait: for those before it, each as usual."""
        started_at = self._started_at
        running_seconds = 0.0 if started_at is None else time.monotonic() - started_at
        return self._in_flight * self._call_seconds + max(0.0, running_seconds - self._call_seconds)

    def _run(self, verb: Callable[[PinVault], T]) -> T:
        self._started_at = started_at = time.monotonic()
        try:
            return self._run_opened(verb)
        finally:
            self._started_at = None
            took_seconds = time.monotonic() - started_at
            self._call_seconds += NEWEST_SHARE * (took_seconds - self._call_seconds)

    def _run_opened(self, verb: Callable[[PinVault], T]) -> T:
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
        except (CountsUnavailable, LogUnavailable):
            # The HSM token answers: opening it anew would not help.
            self.ready = False
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

    def _land(
        self, loop: asyncio.AbstractEventLoop, answer: asyncio.Future[T], done: Future[T]
    ) -> None:
        with suppress(RuntimeError):  # the loop ended before the verb
            loop.call_soon_threadsafe(self._landed, answer, done)

    def _landed(self, answer: asyncio.Future[T], done: Future[T]) -> None:
        """Hand the answer of a verb to its caller, who may be gone or have been told already."""
        self._in_flight -= 1
        self._answers.discard(answer)
        if answer.done() or done.cancelled():
            return
        error = done.exception()
        if error is None:
            answer.set_result(done.result())
        else:
            answer.set_exception(error)

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look whether the verb that runs is past its deadline, for as long as there are any."""
        started_at, now = self._started_at, time.monotonic()
        if started_at is not None and now - started_at >= self._deadline_seconds:
            self._give_up()
        elif self._in_flight:
            left_seconds = self._deadline_seconds - (
                0.0 if started_at is None else now - started_at
            )
            loop.call_later(left_seconds, self._watch, loop)
        else:
            self._watched = False

    def _give_up(self) -> None:
        self._stuck = True
        self.ready = False
        for answer in self._answers:
            if not answer.done():
                answer.set_exception(VaultUnavailable("the vault did not answer in time"))
        self._answers.clear()
        self._on_stuck()

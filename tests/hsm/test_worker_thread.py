"""The worker thread: one thread, one queue, a deadline, and a vault that is unavailable."""

import asyncio
import gc
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from cms.sandbox import HANG_SECONDS
from hsm.errors import (
    CeremonyError,
    CountsUnavailable,
    KeyMissing,
    LoginRefused,
    LogUnavailable,
    PinRejected,
    SealBroken,
    VaultBusy,
    VaultUnavailable,
)
from hsm.worker_thread import CALL_SECONDS_AT_FIRST, LOOK_AGAIN_SECONDS, WorkerThread

pytestmark = pytest.mark.anyio

SOON = 0.05


class StubVault:
    """A vault whose health is as the test says."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    def health(self) -> None:
        if self.error:
            raise self.error


@dataclass
class WatchedWorkerThread:
    """A worker thread, and what it did: openings, and calls of its owner."""

    worker_thread: WorkerThread
    openings: list[int] = field(default_factory=list)
    stuck: list[bool] = field(default_factory=list)
    vault: StubVault = field(default_factory=StubVault)
    opening_error: Exception | None = None

    def ready(self) -> bool:
        return self.worker_thread.ready

    def shorten_deadline(self) -> None:
        """From now on; what ran before had time enough on the slowest machine."""
        loop = asyncio.get_running_loop()
        self.worker_thread._deadline_seconds = SOON
        loop.call_soon(self.worker_thread._watch, loop)

    def open(self) -> Any:  # noqa: ANN401 - it stands for a PinVault
        self.openings.append(threading.get_ident())
        if self.opening_error:
            raise self.opening_error
        return self.vault


@asynccontextmanager
async def watched_worker_thread(
    *, deadline: float = HANG_SECONDS, wait: float = HANG_SECONDS, reopen: float = 0.0
) -> AsyncIterator[WatchedWorkerThread]:
    given: list[WatchedWorkerThread] = []
    worker_thread = WorkerThread(
        lambda: given[0].open(),  # noqa: PLW0108 - it is made after its worker thread
        deadline_seconds=deadline,
        wait_seconds_max=wait,
        reopen_seconds=reopen,
        on_stuck=lambda: given[0].stuck.append(True),
    )
    given.append(WatchedWorkerThread(worker_thread))
    yield given[0]
    worker_thread.close()


def fails(error: Exception) -> Callable[[object], None]:
    def verb(_: object) -> None:
        raise error

    return verb


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The worker thread's clock."""
    now = [1000.0]
    monkeypatch.setattr("hsm.worker_thread.time.monotonic", lambda: now[0])
    return now


async def test_a_verb_gets_the_vault_and_its_answer_comes_back() -> None:
    async with watched_worker_thread() as watched:
        assert await watched.worker_thread.call(id) == id(watched.vault)


async def test_verbs_run_in_order_on_one_thread_that_is_not_the_loop_s() -> None:
    order: list[int] = []
    async with watched_worker_thread() as watched:

        def verb(number: int) -> int:
            order.append(number)
            return threading.get_ident()

        calls = [watched.worker_thread.call(lambda _, n=number: verb(n)) for number in range(10)]  # type: ignore[misc]
        threads = set(await asyncio.gather(*calls))
    assert order == list(range(10))
    assert threads == set(watched.openings)
    assert len(threads) == 1
    assert threading.get_ident() not in threads


async def test_the_vault_is_opened_once_and_only_when_it_is_needed() -> None:
    async with watched_worker_thread() as watched:
        assert watched.openings == []
        for _ in range(3):
            await watched.worker_thread.call(lambda _: None)
        assert len(watched.openings) == 1


async def test_a_verb_past_its_deadline_makes_the_worker_thread_stuck_for_good() -> None:
    release = threading.Event()
    async with watched_worker_thread() as watched:
        await watched.worker_thread.check()
        assert watched.ready()
        watched.shorten_deadline()
        calls = [watched.worker_thread.call(lambda _: release.wait()) for _ in range(3)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(answer) for answer in answers] == [VaultUnavailable] * 3
        assert watched.stuck == [True]
        assert not watched.ready()

        # The device came back; nobody can tell what it did meanwhile.
        release.set()
        ran: list[bool] = []
        with pytest.raises(VaultUnavailable, match="does not answer"):
            await watched.worker_thread.call(lambda _: ran.append(True))
        await watched.worker_thread.check()
        assert ran == []
        assert watched.stuck == [True]
        assert not watched.ready()


async def test_the_deadline_does_not_count_the_wait_in_the_queue() -> None:
    """Sixty-four calls of which each is well within the deadline, and all are not."""
    async with watched_worker_thread(deadline=40 * SOON) as watched:
        calls = [watched.worker_thread.call(lambda _: time.sleep(SOON)) for _ in range(64)]
        await asyncio.gather(*calls)
        assert watched.stuck == []
        assert await watched.worker_thread.call(lambda _: "well") == "well"


async def test_a_verb_that_hangs_after_others_is_found_too() -> None:
    release = threading.Event()
    async with watched_worker_thread() as watched:
        for _ in range(3):
            await watched.worker_thread.call(lambda _: None)
        watched.shorten_deadline()
        with pytest.raises(VaultUnavailable, match="did not answer in time"):
            await watched.worker_thread.call(lambda _: release.wait())
        assert watched.stuck == [True]
        release.set()


async def test_after_an_idle_time_a_verb_that_hangs_is_found() -> None:
    release = threading.Event()
    async with watched_worker_thread() as watched:
        await watched.worker_thread.call(lambda _: None)
        watched.shorten_deadline()
        await asyncio.sleep(0)
        assert not watched.worker_thread._watched
        with pytest.raises(VaultUnavailable, match="did not answer in time"):
            await watched.worker_thread.call(lambda _: release.wait())
        release.set()


async def test_a_verb_that_fails_after_its_deadline_is_nobody_s_surprise(
    caplog: pytest.LogCaptureFixture,
) -> None:
    release = threading.Event()

    def verb(_: object) -> None:
        release.wait()
        raise PinRejected

    async with watched_worker_thread(deadline=SOON) as watched:
        with pytest.raises(VaultUnavailable):
            await watched.worker_thread.call(verb)
        release.set()
        await asyncio.wrap_future(watched.worker_thread._thread.submit(lambda: None))
        gc.collect()  # a future whose error nobody saw complains when it is collected
    assert caplog.records == []


@pytest.fixture
def still_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """No verb takes time, however slow this machine is."""
    monkeypatch.setattr("hsm.worker_thread.time.monotonic", lambda: 1000.0)


async def waiting(
    watched: WatchedWorkerThread, number: int, release: threading.Event
) -> list[asyncio.Task[bool]]:
    calls = [
        asyncio.create_task(watched.worker_thread.call(lambda _: release.wait()))
        for _ in range(number)
    ]
    await asyncio.sleep(0)
    return calls


async def test_a_verb_that_would_wait_too_long_is_refused_at_once(still_time: None) -> None:
    release = threading.Event()
    async with watched_worker_thread(wait=2.5 * CALL_SECONDS_AT_FIRST) as watched:
        calls = await waiting(watched, 3, release)
        with pytest.raises(VaultBusy, match="the vault is busy"):
            await watched.worker_thread.call(lambda _: None)
        assert watched.stuck == []
        release.set()
        assert await asyncio.gather(*calls) == [True] * 3


async def test_what_calls_take_is_learnt_and_shorter_ones_let_more_wait(still_time: None) -> None:
    release = threading.Event()
    async with watched_worker_thread(wait=2.5 * CALL_SECONDS_AT_FIRST) as watched:
        for _ in range(100):
            await watched.worker_thread.call(lambda _: None)
        release_later = await waiting(watched, 4, release)
        release.set()
        assert await asyncio.gather(*release_later) == [True] * 4


async def test_a_busy_vault_stays_ready(still_time: None) -> None:
    release = threading.Event()
    async with watched_worker_thread(wait=0.5 * CALL_SECONDS_AT_FIRST) as watched:
        await watched.worker_thread.check()
        calls = await waiting(watched, 1, release)
        await watched.worker_thread.check()
        assert watched.ready()
        release.set()
        await asyncio.gather(*calls)


async def test_a_caller_that_went_away_leaves_its_place_when_its_verb_ends(
    still_time: None,
) -> None:
    release = threading.Event()
    async with watched_worker_thread(wait=0.5 * CALL_SECONDS_AT_FIRST) as watched:
        (gone,) = await waiting(watched, 1, release)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        with pytest.raises(VaultBusy):
            await watched.worker_thread.call(lambda _: None)
        release.set()
        await asyncio.wrap_future(watched.worker_thread._thread.submit(lambda: None))
        assert await watched.worker_thread.call(lambda _: "free") == "free"


async def test_a_vault_that_is_unavailable_is_opened_again_for_the_next_verb() -> None:
    async with watched_worker_thread() as watched:
        await watched.worker_thread.check()
        with pytest.raises(VaultUnavailable, match="DeviceError"):
            await watched.worker_thread.call(fails(VaultUnavailable("DeviceError")))
        assert not watched.ready()
        assert len(watched.openings) == 1
        assert await watched.worker_thread.call(lambda _: "again") == "again"
        assert len(watched.openings) == 2


@pytest.mark.parametrize("error", [CountsUnavailable, LogUnavailable])
async def test_without_its_log_or_its_counts_a_vault_is_not_ready_and_not_opened_again(
    error: type[VaultUnavailable],
) -> None:
    async with watched_worker_thread() as watched:
        await watched.worker_thread.check()
        with pytest.raises(error):
            await watched.worker_thread.call(fails(error()))
        assert not watched.ready()
        assert await watched.worker_thread.call(lambda _: "again") == "again"
        assert len(watched.openings) == 1
        await watched.worker_thread.check()
        assert watched.ready()


async def test_a_missing_key_is_looked_for_now_and_then_and_costs_nobody_else(
    now: list[float],
) -> None:
    async with watched_worker_thread() as watched:
        await watched.worker_thread.check()
        for _ in range(5):
            with pytest.raises(KeyMissing):
                await watched.worker_thread.call(fails(KeyMissing()))
            assert watched.ready()
            await watched.worker_thread.call(lambda _: None)
        assert len(watched.openings) == 2
        now[0] += LOOK_AGAIN_SECONDS
        with pytest.raises(KeyMissing):
            await watched.worker_thread.call(fails(KeyMissing()))
        await watched.worker_thread.call(lambda _: None)
        assert len(watched.openings) == 3


async def test_a_failed_opening_is_not_repeated_before_its_time(now: list[float]) -> None:
    async with watched_worker_thread(reopen=5.0) as watched:
        watched.opening_error = VaultUnavailable("NoSuchToken")
        with pytest.raises(VaultUnavailable, match="NoSuchToken"):
            await watched.worker_thread.call(lambda _: None)
        now[0] += 4.9
        for _ in range(3):
            with pytest.raises(VaultUnavailable, match="the HSM token is unavailable"):
                await watched.worker_thread.call(lambda _: None)
        assert len(watched.openings) == 1
        now[0] += 0.1
        watched.opening_error = None
        assert await watched.worker_thread.call(lambda _: "open") == "open"
        # After a good opening the next one need not wait.
        with pytest.raises(VaultUnavailable):
            await watched.worker_thread.call(fails(VaultUnavailable()))
        assert await watched.worker_thread.call(lambda _: "open again") == "open again"
        assert len(watched.openings) == 3


async def test_a_login_that_was_refused_is_never_tried_again() -> None:
    async with watched_worker_thread() as watched:
        watched.opening_error = LoginRefused("the token refused the PIN")
        with pytest.raises(LoginRefused):
            await watched.worker_thread.call(lambda _: None)
        watched.opening_error = None
        for _ in range(5):
            with pytest.raises(VaultUnavailable, match="the HSM token is unavailable"):
                await watched.worker_thread.call(lambda _: None)
            await watched.worker_thread.check()
        assert len(watched.openings) == 1
        assert not watched.ready()


@pytest.mark.parametrize("error", [PinRejected(), SealBroken(), ValueError("a mistake")], ids=repr)
async def test_any_other_error_passes_and_the_vault_stays_open(error: Exception) -> None:
    async with watched_worker_thread() as watched:
        await watched.worker_thread.check()
        with pytest.raises(type(error)) as raised:
            await watched.worker_thread.call(fails(error))
        assert raised.value is error
        assert watched.ready()
        await watched.worker_thread.call(lambda _: None)
        assert len(watched.openings) == 1


async def test_a_worker_thread_is_ready_while_its_vault_is_healthy() -> None:
    async with watched_worker_thread() as watched:
        assert not watched.ready()
        await watched.worker_thread.check()
        assert watched.ready()
        watched.vault.error = VaultUnavailable("the token's answer is wrong")
        await watched.worker_thread.check()
        assert not watched.ready()
        watched.vault.error = None
        await watched.worker_thread.check()
        assert watched.ready()


@pytest.mark.parametrize("error", [VaultUnavailable(), LoginRefused(), CeremonyError()], ids=repr)
async def test_a_check_never_raises(error: Exception) -> None:
    async with watched_worker_thread() as watched:
        watched.opening_error = error
        await watched.worker_thread.check()
        assert not watched.ready()


async def test_the_reason_is_logged_when_the_vault_goes_away_and_not_at_every_beat(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with watched_worker_thread() as watched:
        watched.opening_error = LoginRefused("the token refused the PIN")
        for _ in range(3):
            await watched.worker_thread.check()
    async with watched_worker_thread() as watched:
        for reason in ("DeviceRemoved", "GeneralError"):
            watched.vault.error = None
            await watched.worker_thread.check()
            watched.vault.error = VaultUnavailable(reason)
            for _ in range(3):
                await watched.worker_thread.check()
    assert [(record.message, record.__dict__["reason"]) for record in caplog.records] == [
        ("vault.unavailable", "the token refused the PIN"),
        ("vault.unavailable", "DeviceRemoved"),
        ("vault.unavailable", "GeneralError"),
    ]


async def test_a_closed_worker_thread_ends_its_thread_and_takes_no_more() -> None:
    async with watched_worker_thread() as watched:
        await watched.worker_thread.call(lambda _: None)
        (thread,) = watched.worker_thread._thread._threads
        watched.worker_thread.close()
        assert not thread.is_alive()
        with pytest.raises(RuntimeError):
            await watched.worker_thread.call(lambda _: None)


async def test_closing_a_stuck_worker_thread_does_not_wait_for_the_device() -> None:
    release = threading.Event()
    async with watched_worker_thread(deadline=SOON) as watched:
        with pytest.raises(VaultUnavailable):
            await watched.worker_thread.call(lambda _: release.wait())
        (thread,) = watched.worker_thread._thread._threads
        closing = asyncio.ensure_future(asyncio.to_thread(watched.worker_thread.close))
        closed, _ = await asyncio.wait((closing,), timeout=HANG_SECONDS)
        still_running = thread.is_alive()
        release.set()
        assert closed
        assert still_running

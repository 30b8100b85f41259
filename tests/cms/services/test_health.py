"""A process is ready when HSM token and database answer, and again when they return."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from cms.domain.errors import ServiceUnavailable
from cms.sandbox import HANG_SECONDS
from cms.services import health
from cms.services.health import Health, NotDurable
from hsm.errors import VaultUnavailable
from hsm.worker_thread import WorkerThread

pytestmark = pytest.mark.anyio


class Both:
    """An HSM token and a database, each of which may be unavailable."""

    def __init__(self) -> None:
        self.token_unavailable = False
        self.database_unavailable = False
        self.durable = True

    def worker_thread(self) -> WorkerThread:
        return WorkerThread(
            lambda: self,  # type: ignore[arg-type, return-value] # as far as it is asked
            deadline_seconds=HANG_SECONDS,
            wait_seconds_max=HANG_SECONDS,
            reopen_seconds=0,
            on_stuck=lambda: None,
        )

    def health(self) -> None:
        if self.token_unavailable:
            raise VaultUnavailable("the HSM token is gone")

    async def is_durable(self) -> bool:
        await asyncio.sleep(0)
        if self.database_unavailable:
            raise ServiceUnavailable
        return self.durable


@pytest.fixture
def both() -> Both:
    return Both()


@pytest.fixture
def checked(both: Both, monkeypatch: pytest.MonkeyPatch) -> Health:
    monkeypatch.setattr(health, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(health, "PAUSE_SECONDS_UNREADY", 0.01)
    return Health(both.worker_thread(), both)  # type: ignore[arg-type] # a store to it


@asynccontextmanager
async def beating(checked: Health) -> AsyncIterator[None]:
    beat = asyncio.create_task(checked.beat())
    yield
    assert not beat.done()
    beat.cancel()
    with suppress(asyncio.CancelledError):
        await beat


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(HANG_SECONDS):
        while not holds():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.005)


async def test_nothing_is_ready_before_it_was_asked(checked: Health) -> None:
    assert (checked.ready, checked.vault, checked.database) == (False, False, False)


@pytest.mark.parametrize("token_unavailable", [False, True])
@pytest.mark.parametrize("database_unavailable", [False, True])
async def test_ready_is_both(
    both: Both, checked: Health, token_unavailable: bool, database_unavailable: bool
) -> None:
    await checked.check()
    assert checked.ready
    both.token_unavailable, both.database_unavailable = token_unavailable, database_unavailable
    await checked.check()
    assert (checked.vault, checked.database) == (not token_unavailable, not database_unavailable)
    assert checked.ready is (not token_unavailable and not database_unavailable)


async def test_a_check_on_the_way_leaves_what_was_last_seen(checked: Health) -> None:
    await checked.check()
    checking = asyncio.create_task(checked.check())
    while not checking.done():
        assert checked.ready
        await asyncio.sleep(0)


@pytest.mark.parametrize("unavailable", ["token_unavailable", "database_unavailable"])
async def test_the_beat_notices_a_loss_and_the_return(
    both: Both, checked: Health, unavailable: str
) -> None:
    async with beating(checked):
        await until(lambda: checked.ready)
        setattr(both, unavailable, True)
        await until(lambda: not checked.ready)
        setattr(both, unavailable, False)
        await until(lambda: checked.ready)


async def test_a_database_that_can_lose_commits_is_an_error_at_the_start(
    both: Both, checked: Health
) -> None:
    both.durable = False
    with pytest.raises(NotDurable):
        await checked.check()
    assert not checked.ready


async def test_a_database_that_can_lose_commits_and_was_unavailable_at_the_start_is_never_ready(
    both: Both, checked: Health, caplog: pytest.LogCaptureFixture
) -> None:
    both.database_unavailable, both.durable = True, False
    await checked.check()
    both.database_unavailable = False
    with caplog.at_level(logging.CRITICAL, health.__name__):
        async with beating(checked):
            await until(lambda: len(caplog.records) >= 2)
            assert checked.vault
            assert not checked.database
            both.durable = True
            await until(lambda: checked.ready)
    assert {record.getMessage() for record in caplog.records} == {"database.not_durable"}


async def test_a_database_that_comes_back_as_one_that_can_lose_commits_is_not_ready(
    both: Both, checked: Health
) -> None:
    await checked.check()
    both.database_unavailable = True
    await checked.check()
    both.database_unavailable, both.durable = False, False
    with pytest.raises(NotDurable):
        await checked.check()
    assert not checked.ready

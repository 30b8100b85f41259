"""Connections are handed out in turn, are never more than there may be, and none gets lost."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from cms.persistence import pool
from cms.persistence.address import connection_string
from cms.persistence.causes import Cause, DatabaseFailed
from cms.persistence.pool import Pool
from cms.persistence.statements import Statement
from tests.cms.persistence.patience import until, without_deadlines
from tests.issuer_records import run_sql

pytestmark = pytest.mark.anyio
PID = Statement.of("SELECT pg_backend_pid()", {})
SLOW_PID = Statement.of("SELECT pg_backend_pid(), pg_sleep(0.02)", {})
SLEEP = Statement.of("SELECT pg_sleep(0.2)", {})


@pytest.fixture
async def single(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pool]:
    """A pool of one connection."""
    without_deadlines(monkeypatch)
    monkeypatch.setattr(pool, "POOL_CONNECTIONS_MAX", 1)
    single = Pool(connection_string(database_url))
    await single.open()
    await single.rows(PID, {})
    yield single
    await single.close()


async def test_who_waits_longest_is_next(single: Pool) -> None:
    came = list[int]()

    async def ask(number: int) -> None:
        await single.rows(PID, {})
        came.append(number)

    holds = asyncio.create_task(single.rows(SLEEP, {}))
    await asyncio.sleep(0)
    waiting = [asyncio.create_task(ask(number)) for number in range(10)]
    await holds
    late = asyncio.create_task(ask(10))  # it comes as the connection is free
    await asyncio.gather(*waiting, late)
    assert came == [*range(11)]


async def test_who_waits_too_long_is_refused_and_forgotten(
    single: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    holds = asyncio.create_task(single.rows(SLEEP, {}))
    await asyncio.sleep(0)
    monkeypatch.setattr(pool, "WAIT_SECONDS_MAX", 0.01)
    for _ in range(3):
        with pytest.raises(DatabaseFailed) as failed:
            await single.rows(PID, {})
        assert failed.value.cause is Cause.NO_CONNECTION
    assert not single._waiting
    await holds
    assert len(await single.rows(PID, {})) == 1


@pytest.mark.parametrize("as_it_comes", [False, True])
async def test_who_goes_away_while_waiting_takes_no_connection_along(
    single: Pool, as_it_comes: bool
) -> None:
    (held,) = single.connections
    assert single._take() is held
    waiting = [asyncio.create_task(single.rows(PID, {})) for _ in range(3)]
    await asyncio.sleep(0)
    if as_it_comes:
        single._give_back(held)  # promised, and not yet taken
    waiting[0].cancel()
    if not as_it_comes:
        single._give_back(held)
    await asyncio.wait(waiting)
    assert waiting[0].cancelled()
    assert [len(each.result()) for each in waiting[1:]] == [1, 1]
    assert [*single._free] == [held]


async def test_a_caller_who_goes_away_costs_no_connection(single: Pool, database_url: str) -> None:
    before = await single.rows(PID, {})
    asked = asyncio.create_task(single.rows(Statement.of("SELECT pg_sleep(60)", {}), {}))

    async def sleeps() -> bool:
        asleep = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
        return run_sql(database_url, asleep) != []

    await until(sleeps)
    asked.cancel()
    assert await single.rows(PID, {}) == before
    assert asked.cancelled()


async def test_a_connection_that_has_served_its_time_is_replaced_between_two_statements(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_deadlines(monkeypatch)
    monkeypatch.setattr(pool, "POOL_CONNECTIONS_MAX", 1)
    monkeypatch.setattr(pool, "LIFE_SECONDS_MAX", 0.05)
    single = Pool(connection_string(database_url))
    await single.open()
    pids = {(await single.rows(PID, {}))[0]}
    await single.rows(SLEEP, {})  # longer than its life

    async def is_another() -> bool:
        pids.add((await single.rows(PID, {}))[0])
        return len(pids) > 2

    await until(is_another)
    await single.close()
    assert single.cause is None


async def test_there_are_never_more_than_there_may_be(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_deadlines(monkeypatch)
    monkeypatch.setattr(pool, "POOL_CONNECTIONS_MAX", 3)
    three = Pool(connection_string(database_url))
    await three.open()
    pids = await asyncio.gather(*(three.rows(SLOW_PID, {}) for _ in range(30)))
    assert len({pid for ((pid, _),) in pids}) == 3
    count = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    assert run_sql(database_url, count) == [(3 + 1,)]
    await three.close()

    async def closed() -> bool:
        return run_sql(database_url, count) == [(1,)]

    await until(closed)


# The clock


@pytest.mark.parametrize("hours", [1, -1])
async def test_a_clock_that_is_an_hour_off_is_measured(
    single: Pool, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    off = timedelta(hours=hours)
    monkeypatch.setattr(pool, "_host_time", lambda: datetime.now(UTC) - off)
    assert await single.fault() is None
    assert single.clock_difference_seconds == pytest.approx(off.total_seconds(), abs=5)


async def test_a_clock_that_is_right_differs_by_nothing(single: Pool) -> None:
    assert await single.fault() is None
    assert single.clock_difference_seconds == 0


@pytest.mark.parametrize(("seconds", "difference"), [(0, 0), (10, 0), (13, 3), (-3, -3)])
def test_a_late_answer_leaves_as_much_uncertain(seconds: int, difference: int) -> None:
    asked = datetime(2027, 1, 8, tzinfo=UTC)
    answered = asked + timedelta(seconds=10)
    clock = asked + timedelta(seconds=seconds)
    assert pool._seconds_outside(clock, asked, answered) == difference

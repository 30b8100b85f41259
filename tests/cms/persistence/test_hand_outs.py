"""Hand-outs are recorded together, and each before its caller goes on."""

import asyncio
from collections.abc import Sequence

import pytest

from cms.domain.errors import ServiceUnavailable
from cms.persistence.hand_outs import HandOutRow, HandOuts
from cms.persistence.statements import Statement
from cms.persistence.store import Store
from tests.cms.persistence.opened_store import opened_store
from tests.issuer_records import run_sql

pytestmark = pytest.mark.anyio
ISSUER, OTHER_ISSUER = "testbank01", "testbank02"


def row(number: int, audit_user: str | None = None) -> HandOutRow:
    return HandOutRow(
        *(f"card-{number}", "client", f"request-{number}", number),
        *("hosted" if number % 2 else None, audit_user, f"{number}.00ff"),
    )


class SlowStore:
    """Runs each statement when it is told to, well or not; keeps whose cards each names."""

    def __init__(self) -> None:
        self.statements: list[tuple[str, Sequence[str]]] = []
        self._running = list[asyncio.Future[None]]()

    async def run(self, _: Statement, **parameters: object) -> None:
        issuer_id, rows = parameters["issuer_id"], parameters["rows"]
        assert isinstance(issuer_id, str)
        assert isinstance(rows, list)
        self.statements.append((issuer_id, [row["card_id"] for row in rows]))
        self._running.append(asyncio.get_running_loop().create_future())
        await self._running[-1]

    async def end(self, error: Exception | None = None) -> None:
        """End the statement that runs longest, and let everybody go on."""
        running = self._running.pop(0)
        if error is None:
            running.set_result(None)
        else:
            running.set_exception(error)
        await settle()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
def slow_store() -> SlowStore:
    return SlowStore()


@pytest.fixture
def hand_outs(slow_store: SlowStore) -> HandOuts:
    return HandOuts(slow_store)  # type: ignore[arg-type] # what it needs of one


async def start(
    hand_outs: HandOuts, *numbers: int, issuer: str = ISSUER
) -> list[asyncio.Task[None]]:
    tasks = [asyncio.create_task(hand_outs.record(issuer, row(number))) for number in numbers]
    await settle()
    return tasks


def done(tasks: Sequence[asyncio.Task[None]]) -> list[bool]:
    return [task.done() for task in tasks]


async def test_those_that_come_while_a_statement_runs_are_the_next_one(
    hand_outs: HandOuts, slow_store: SlowStore
) -> None:
    first, later = await start(hand_outs, 1), await start(hand_outs, 2, 3, 4)
    assert slow_store.statements == [(ISSUER, ["card-1"])]
    assert not any(done(first + later))
    await slow_store.end()
    assert done(first) == [True]
    assert not any(done(later))
    assert slow_store.statements[1:] == [(ISSUER, ["card-2", "card-3", "card-4"])]
    await slow_store.end()
    assert all(done(later))
    again = await start(hand_outs, 5)
    await slow_store.end()
    assert done(again) == [True]
    assert len(slow_store.statements) == 3


async def test_the_issuers_do_not_wait_for_one_another(
    hand_outs: HandOuts, slow_store: SlowStore
) -> None:
    mine, theirs = await start(hand_outs, 1), await start(hand_outs, 2, issuer=OTHER_ISSUER)
    assert slow_store.statements == [(ISSUER, ["card-1"]), (OTHER_ISSUER, ["card-2"])]
    await slow_store.end()
    assert done(mine + theirs) == [True, False]
    await slow_store.end()
    assert done(theirs) == [True]


async def test_a_failure_is_that_of_each_caller_and_of_nobody_later(
    hand_outs: HandOuts, slow_store: SlowStore
) -> None:
    first, both = await start(hand_outs, 1), await start(hand_outs, 2, 3)
    await slow_store.end()
    later = await start(hand_outs, 4)
    await slow_store.end(ServiceUnavailable())
    assert done(first + both) == [True] * 3
    assert [type(task.exception()) for task in both] == [ServiceUnavailable] * 2
    await slow_store.end()
    assert first[0].exception() is later[0].exception() is None


async def test_a_caller_who_goes_away_is_recorded_with_the_others(
    hand_outs: HandOuts, slow_store: SlowStore
) -> None:
    first, both = await start(hand_outs, 1), await start(hand_outs, 2, 3)
    first[0].cancel()
    both[0].cancel()
    await slow_store.end()
    assert slow_store.statements[1:] == [(ISSUER, ["card-2", "card-3"])]
    await slow_store.end()
    assert [task.cancelled() for task in first + both] == [True, True, False]
    assert both[1].exception() is None


async def test_a_hand_out_is_committed_when_its_caller_goes_on(database_url: str) -> None:
    async with opened_store(Store.connect(database_url)) as store:
        await record_some(HandOuts(store), database_url)


async def record_some(hand_outs: HandOuts, database_url: str) -> None:
    columns = (
        "SELECT event, card_id, actor, correlation_id, counter, reason, audit_user, receipt"
        " FROM audit_events WHERE issuer_id = %s ORDER BY event_id"
    )
    for number in range(3):
        await hand_outs.record(ISSUER, row(number, 'x"},{\\' if number else None))
        assert len(run_sql(database_url, columns, ISSUER)) == number + 1
    await asyncio.gather(*(hand_outs.record(OTHER_ISSUER, row(number)) for number in range(20)))
    assert len(run_sql(database_url, columns, OTHER_ISSUER)) == 20
    assert run_sql(database_url, columns, ISSUER) == [
        ("pin.get", "card-0", "client", "request-0", 0, None, None, "0.00ff"),
        ("pin.get", "card-1", "client", "request-1", 1, "hosted", 'x"},{\\', "1.00ff"),
        ("pin.get", "card-2", "client", "request-2", 2, None, 'x"},{\\', "2.00ff"),
    ]

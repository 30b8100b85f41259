"""What one worker saw the others tell too."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cms.persistence.causes import Cause
from cms.services import workers
from cms.services.ends import Ends
from cms.services.health import Health
from cms.services.workers import Fault, View, Workers, now
from hsm import exposition
from tests.cms.services.test_health import Both
from tests.in_process_vault import InProcessVault

pytestmark = pytest.mark.anyio
PID_MAX = 1 << 22
"""Linux gives no process this number."""


@pytest.fixture
def shared() -> Iterator[Path]:
    with exposition.shared_directory("pins-test-"):
        directory = exposition.directory()
        assert directory is not None
        yield directory


def health(both: Both, slot: str, ends: Ends | None = None) -> Health:
    vault = InProcessVault(both)  # type: ignore[arg-type] # as far as it is asked
    return Health(vault, both, Workers(slot), ends)  # type: ignore[arg-type] # as above


async def test_all_workers_give_one_answer_and_name_what_any_of_them_saw(shared: Path) -> None:
    well, ill = Both(), Both()
    ill.unfit = Cause.READ_ONLY
    both = [health(well, "0"), health(ill, "1")]
    for each in both:
        await each.check()
    for each in both:
        seen = each.of_all()
        assert (seen.ready, seen.vault, seen.database) == (False, True, False)
        assert seen.problems == (Fault("database", "READ_ONLY"),)
    ill.unfit = None
    await both[1].check()
    assert all(each.of_all().ready for each in both)


async def test_without_the_others_views_answers_differ() -> None:
    well, ill = Both(), Both()
    ill.unfit = Cause.READ_ONLY
    both = [health(well, "0"), health(ill, "1")]
    for each in both:
        await each.check()
    assert [each.of_all().ready for each in both] == [True, False]


async def test_a_worker_that_is_silent_is_a_problem_and_one_that_ended_is_none(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = health(Both(), "0")
    await asked.check()
    Workers("1").tell(View(PID_MAX, now(), vault=False, database=False))
    assert asked.of_all().ready
    Workers("1").tell(View(os.getpid(), now() - 1000, vault=True, database=True))
    assert asked.of_all().problems == (Fault("worker", "1 of 2 do not answer"),)
    monkeypatch.setattr(workers, "SILENT_SECONDS", 2000)
    assert asked.of_all().ready


async def test_a_view_that_is_half_written_is_none(shared: Path) -> None:
    asked = health(Both(), "0")
    await asked.check()
    (shared / "view-1").write_text('{"pid":')
    assert asked.of_all().ready


async def test_nothing_is_ready_before_somebody_looked(shared: Path) -> None:
    assert not health(Both(), "0").of_all().ready


async def test_what_ends_soon_and_another_revision_are_warnings() -> None:
    soon, later = (datetime.now(UTC) + timedelta(days=days) for days in (13, 15))
    both = Both()
    ends = Ends({"firstbank1": soon, "secndbank1": later}, {"d1": soon, "cardholder": later})
    asked = health(both, "0", ends)
    both.revision_found = "0000"
    await asked.check()
    seen = asked.of_all()
    assert seen.ready
    assert [fault.part for fault in seen.warnings] == ["database", "manifest", "certificate"]
    assert [fault.reason.split(":")[0] for fault in seen.warnings[1:]] == ["firstbank1", "d1"]


async def test_all_workers_of_a_host_tell_once_that_its_clock_is_off(shared: Path) -> None:
    both = Both()
    workers_of_host = [health(both, "0"), health(both, "1")]
    for each, seconds in zip(workers_of_host, (3600.0, 3599.9), strict=True):
        both.clock_difference_seconds = seconds
        await each.check()
    assert [fault.part for fault in workers_of_host[0].of_all().warnings] == ["clock"]


async def test_a_database_without_our_tables_is_not_ready() -> None:
    both = Both()
    both.revision_found = ""
    asked = health(both, "0")
    await asked.check()
    assert asked.of_all().problems == (Fault("database", "NOT_MIGRATED"),)
    both.revision_found = None
    await asked.check()
    assert asked.of_all().ready

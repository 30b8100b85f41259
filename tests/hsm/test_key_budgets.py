"""What keys have enciphered: kept by several workers, over restarts; warned of, and refused."""

import logging
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cms.sandbox import HANG_SECONDS
from hsm.counts import FILE_NAME, Counts
from hsm.errors import CountsUnavailable, KeyUsedUp
from hsm.key_budgets import FLUSH_SECONDS, FLUSH_USES, USES_MAX, KeyBudgets, key_uses
from hsm.pkcs11.hsm_token import KeyUnit
from hsm.pkcs11.keys import KeyLabel, KeyRole
from hsm.port import KeyUse
from tests.hsm.using_keys import LABEL
from tests.processes import ROOT

BLOCKS, GCM = KeyUnit.TDES_BLOCKS, KeyUnit.GCM_INVOCATIONS
VALUES = KeyLabel(KeyRole.VALUES, 1)


class Clock:
    """Seconds that a test moves."""

    seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def worker(tmp_path: Path, clock: Clock) -> Callable[[], KeyBudgets]:
    """Start a worker of the host."""
    return lambda: KeyBudgets(counts(tmp_path), clock)


def counts(directory: Path) -> Counts:
    return Counts(directory, lambda: datetime.now(UTC))


def kept(directory: Path) -> dict[str, int]:
    """What another process of the host reads, by label."""
    return {one.label: one.uses for one in key_uses(counts(directory))}


def events(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, int]]:
    """Event, key and number of each line that tells of a key."""
    return [
        (record.message, record.__dict__["key"], record.__dict__["uses"])
        for record in caplog.records
        if "uses" in record.__dict__
    ]


# Keeping


def test_uses_are_kept_at_every_thousand(worker: Callable[[], KeyBudgets], tmp_path: Path) -> None:
    budgets = worker()
    for _ in range(FLUSH_USES - 1):
        budgets.count(LABEL, BLOCKS, 1)
    assert kept(tmp_path) == {}
    budgets.count(LABEL, BLOCKS, 1)
    assert kept(tmp_path) == {str(LABEL): FLUSH_USES}


def test_uses_are_kept_ten_seconds_after_the_first(
    worker: Callable[[], KeyBudgets], clock: Clock, tmp_path: Path
) -> None:
    budgets = worker()
    assert budgets.flush_if_due() is None
    budgets.count(LABEL, BLOCKS, 3)
    assert budgets.flush_if_due() == FLUSH_SECONDS
    clock.seconds += FLUSH_SECONDS - 1
    budgets.count(VALUES, GCM, 1)
    assert budgets.flush_if_due() == 1
    assert kept(tmp_path) == {}
    clock.seconds += 1
    assert budgets.flush_if_due() is None
    assert kept(tmp_path) == {str(LABEL): 3, str(VALUES): 1}


def test_two_workers_and_their_successors_count_together(
    worker: Callable[[], KeyBudgets], tmp_path: Path
) -> None:
    for budgets in (worker(), worker(), worker()):
        budgets.count(LABEL, BLOCKS, 5)
        budgets.flush()
    assert kept(tmp_path) == {str(LABEL): 15}


def test_what_is_read_is_what_was_counted_and_what_may_be(
    worker: Callable[[], KeyBudgets],
) -> None:
    budgets = worker()
    budgets.count(VALUES, GCM, 2)
    budgets.count(LABEL, BLOCKS, 7)
    assert budgets.read() == [
        KeyUse(str(LABEL), "tdes-blocks", 7, 2**20),
        KeyUse(str(VALUES), "gcm-invocations", 2, 2**32),
    ]


def test_processes_that_are_killed_lose_less_than_a_thousand_each(tmp_path: Path) -> None:
    uses = 2 * FLUSH_USES + 700
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.hsm.using_keys", tmp_path, str(uses)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for one in workers:
        assert one.stdout is not None
        assert one.stdout.readline() == "done\n"
    *killed, told = workers
    for one in killed:
        one.kill()
        one.communicate(timeout=HANG_SECONDS)
    assert kept(tmp_path) == {str(LABEL): 3 * 2 * FLUSH_USES}
    told.communicate(timeout=HANG_SECONDS)
    assert kept(tmp_path) == {str(LABEL): 3 * 2 * FLUSH_USES + 700}


def test_uses_that_cannot_be_kept_are_kept_later(
    worker: Callable[[], KeyBudgets], clock: Clock, tmp_path: Path
) -> None:
    (tmp_path / FILE_NAME).mkdir()
    budgets = worker()
    budgets.count(LABEL, BLOCKS, FLUSH_USES)
    # It does not look again at each use.
    assert budgets.flush_if_due() == FLUSH_SECONDS
    (tmp_path / FILE_NAME).rmdir()
    budgets.count(LABEL, BLOCKS, 1)
    assert kept(tmp_path) == {}
    clock.seconds += FLUSH_SECONDS
    budgets.flush_if_due()
    assert kept(tmp_path) == {str(LABEL): FLUSH_USES + 1}


# Warning


@pytest.mark.parametrize(("label", "unit", "bits"), [(LABEL, BLOCKS, 20), (VALUES, GCM, 32)])
def test_half_of_a_budget_and_all_of_it_are_told_once_by_one_worker(
    worker: Callable[[], KeyBudgets],
    caplog: pytest.LogCaptureFixture,
    label: KeyLabel,
    unit: KeyUnit,
    bits: int,
) -> None:
    assert USES_MAX[unit] == 2**bits
    first, second = worker(), worker()
    for budgets, uses in (
        (first, 2 ** (bits - 1) - 1),
        (second, 1),
        (first, 1),
        (second, 2 ** (bits - 1) - 2),
        (first, 1),
        (second, 5),
    ):
        budgets.count(label, unit, uses)
        budgets.flush()
    assert events(caplog) == [
        ("vault.key_half_used", str(label), 2 ** (bits - 1)),
        ("vault.key_used_up", str(label), 2**bits),
    ]
    assert [record.levelno for record in caplog.records] == [logging.WARNING, logging.ERROR]


# Refusing


def test_a_key_that_has_enciphered_enough_is_refused_by_every_worker(
    worker: Callable[[], KeyBudgets], caplog: pytest.LogCaptureFixture
) -> None:
    first, second = worker(), worker()
    for _ in range(4):
        first.check(LABEL, 4)
        first.count(LABEL, BLOCKS, 1)
    # What is not kept yet counts for the worker itself.
    with pytest.raises(KeyUsedUp):
        first.check(LABEL, 4)
    first.flush()
    for budgets in (first, second, worker()):
        for _ in range(2):
            with pytest.raises(KeyUsedUp):
                budgets.check(LABEL, 4)
    assert [record.message for record in caplog.records] == ["vault.key_refused"] * 3


def test_a_worker_hears_of_the_blocks_of_others_when_it_keeps_its_own(
    worker: Callable[[], KeyBudgets],
) -> None:
    first, second = worker(), worker()
    for budgets in (first, second):
        budgets.check(LABEL, 10)
        budgets.count(LABEL, BLOCKS, 5)
        budgets.flush()
    first.check(LABEL, 10)
    first.count(LABEL, BLOCKS, 1)
    first.flush()
    with pytest.raises(KeyUsedUp):
        first.check(LABEL, 10)


def test_a_manifest_that_allows_more_is_followed(worker: Callable[[], KeyBudgets]) -> None:
    budgets = worker()
    budgets.count(LABEL, BLOCKS, 4)
    with pytest.raises(KeyUsedUp):
        budgets.check(LABEL, 4)
    budgets.check(LABEL, 5)
    with pytest.raises(KeyUsedUp):
        budgets.check(LABEL, 4)


def test_without_the_member_a_key_goes_on(
    worker: Callable[[], KeyBudgets], caplog: pytest.LogCaptureFixture
) -> None:
    budgets = worker()
    budgets.count(LABEL, BLOCKS, 2**20)
    budgets.flush()
    budgets.check(LABEL, None)
    assert events(caplog) == [("vault.key_used_up", str(LABEL), 2**20)]


def test_a_key_with_a_limit_is_not_used_where_nobody_knows_its_blocks(
    worker: Callable[[], KeyBudgets], tmp_path: Path
) -> None:
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(CountsUnavailable):
        worker().check(LABEL, 10)
    worker().check(LABEL, None)

"""What a host counts: by several processes, over restarts, and when its file is no good."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import hsm.counts
from cms.sandbox import HANG_SECONDS
from hsm.counts import DAY_SECONDS, FILE_NAME, Counts, Quota, Window
from hsm.errors import CardRefusesForm, ClientLimited, CountsUnavailable, LimitReached
from tests.hsm import counting

ISSUER_ID = "testbank01"
DAY = timedelta(days=1)
CARD = Window(ISSUER_ID, "iso0", "card-1", 3, DAY_SECONDS, CardRefusesForm)
CLIENT = Window(ISSUER_ID, "iso0", "client-1", 5, 60, ClientLimited)


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.time = datetime(2026, 5, 4, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def counts(tmp_path: Path, clock: Clock) -> Counts:
    return Counts(tmp_path, clock)


def another(window: Window, **members: object) -> Window:
    """The same window, with other *members*."""
    return replace(window, **members)  # type: ignore[arg-type]


def fail(counts: Counts, *windows: Window, times: int = 1) -> None:
    for _ in range(times):
        counts.begin(windows)


def card_quota(counts: Counts, card_id: str = "card-1", hand_outs_max: int = 3) -> Quota:
    return Quota(counts.today(), ISSUER_ID, "card", card_id, hand_outs_max)


# Failures


def test_a_window_that_is_full_refuses_with_its_own_refusal(counts: Counts) -> None:
    fail(counts, CARD, times=3)
    fail(counts, CLIENT, times=5)
    with pytest.raises(CardRefusesForm):
        counts.begin([CARD])
    with pytest.raises(ClientLimited):
        counts.begin([CLIENT])


@pytest.mark.parametrize(
    "member", [{"issuer_id": "testbank02"}, {"kind": "seccos"}, {"key": "card-2"}]
)
def test_issuers_kinds_and_keys_are_counted_apart(
    counts: Counts, member: dict[str, object]
) -> None:
    fail(counts, CARD, times=3)
    fail(counts, another(CARD, **member), times=3)


def test_one_try_says_that_the_window_is_full_with_it(counts: Counts) -> None:
    lasts = [one.is_last for _ in range(3) for one in counts.begin([CARD])]
    assert lasts == [False, False, True]


def test_a_try_that_one_window_refuses_is_counted_in_none(counts: Counts) -> None:
    fail(counts, CARD, times=3)
    for _ in range(5):
        with pytest.raises(CardRefusesForm):
            counts.begin([CLIENT, CARD])
    fail(counts, CLIENT, times=5)


def test_a_try_that_is_taken_back_does_not_count(counts: Counts) -> None:
    for _ in range(5):
        counts.take_back(counts.begin([CARD, CLIENT]))
    kept, taken = counts.begin([CARD, CLIENT])
    counts.take_back([taken])
    assert not kept.is_last
    fail(counts, CARD, times=2)
    fail(counts, CLIENT, times=5)


def test_tries_at_once_are_counted_before_they_end(counts: Counts) -> None:
    tries = [counts.begin([CARD]) for _ in range(3)]
    with pytest.raises(CardRefusesForm):
        counts.begin([CARD])
    for one in tries:
        counts.take_back(one)
    fail(counts, CARD, times=3)


def test_tries_of_two_workers_at_one_moment_are_told_apart(
    counts: Counts, tmp_path: Path, clock: Clock
) -> None:
    other = Counts(tmp_path, clock)
    first, _ = counts.begin([CARD]), other.begin([CARD])
    counts.take_back(first)
    fail(other, CARD, times=2)
    with pytest.raises(CardRefusesForm):
        counts.begin([CARD])


def test_a_failure_counts_until_it_is_as_old_as_the_window(counts: Counts, clock: Clock) -> None:
    fail(counts, CARD)
    clock.time += timedelta(hours=1)
    fail(counts, CARD, times=2)
    clock.time += timedelta(hours=22, minutes=59)
    with pytest.raises(CardRefusesForm):
        counts.begin([CARD])
    clock.time += timedelta(minutes=1)
    fail(counts, CARD)
    with pytest.raises(CardRefusesForm):
        counts.begin([CARD])


def test_failures_are_forgotten_of_the_kinds_and_the_key_that_are_named(counts: Counts) -> None:
    other = another(CARD, key="card-2")
    fail(counts, CARD, other, times=3)
    counts.forget(ISSUER_ID, ["iso0", "seccos"], "card-1")
    fail(counts, CARD, times=3)
    with pytest.raises(CardRefusesForm):
        counts.begin([other])


# Hand-outs


def test_a_quota_is_used_up_and_then_refused(counts: Counts) -> None:
    quota = card_quota(counts)
    assert [counts.hand_out([quota]) for _ in range(3)] == [[1], [2], [3]]
    with pytest.raises(LimitReached):
        counts.hand_out([quota])


def test_a_hand_out_that_one_quota_refuses_is_counted_in_none(counts: Counts) -> None:
    card, issuer = card_quota(counts), Quota(counts.today(), ISSUER_ID, "issuer", "", 5)
    for _ in range(3):
        counts.hand_out([issuer, card])
    for _ in range(5):
        with pytest.raises(LimitReached):
            counts.hand_out([issuer, card])
    assert counts.hand_out([issuer]) == [4]
    assert counts.hand_out([issuer]) == [5]


def test_a_limit_that_is_lowered_counts_at_once(counts: Counts) -> None:
    for _ in range(3):
        counts.hand_out([card_quota(counts, hand_outs_max=10)])
    with pytest.raises(LimitReached):
        counts.hand_out([card_quota(counts, hand_outs_max=2)])


def test_the_next_day_begins_at_midnight_utc(counts: Counts, clock: Clock) -> None:
    for _ in range(3):
        counts.hand_out([card_quota(counts)])
    clock.time = datetime(2026, 5, 4, 23, 59, 59, tzinfo=UTC)
    with pytest.raises(LimitReached):
        counts.hand_out([card_quota(counts)])
    clock.time += timedelta(seconds=1)
    counts.hand_out([card_quota(counts)])


# The host


def test_what_was_counted_survives_a_restart(counts: Counts, tmp_path: Path, clock: Clock) -> None:
    fail(counts, CARD, times=3)
    for _ in range(3):
        counts.hand_out([card_quota(counts)])
    after = Counts(tmp_path, clock)
    with pytest.raises(CardRefusesForm):
        after.begin([CARD])
    with pytest.raises(LimitReached):
        after.hand_out([card_quota(after)])


def test_processes_that_count_at_once_let_no_more_through(tmp_path: Path) -> None:
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.hsm.counting", tmp_path],
            cwd=Path(__file__).resolve().parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("\n")
        worker.stdin.flush()
    answers = [worker.communicate(timeout=HANG_SECONDS)[0].split() for worker in workers]
    let_through = [sum(map(int, column)) for column in zip(*answers, strict=True)]
    assert let_through == [counting.LET_THROUGH_MAX] * 2


def test_a_clock_that_is_put_back_gives_nothing_again(counts: Counts, clock: Clock) -> None:
    fail(counts, CARD, times=3)
    clock.time -= 30 * DAY
    with pytest.raises(CardRefusesForm):
        counts.begin([CARD])
    clock.time += 30 * DAY
    for _ in range(3):
        counts.hand_out([card_quota(counts)])
    clock.time += DAY
    counts.hand_out([card_quota(counts)])
    clock.time -= DAY
    with pytest.raises(LimitReached):
        counts.hand_out([card_quota(counts)])


def not_a_database(path: Path) -> None:
    path.write_bytes(os.urandom(8192))


def a_directory(path: Path) -> None:
    path.mkdir()


def no_directory(path: Path) -> None:
    path.parent.rmdir()


def another_schema(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE failures (other TEXT)")
    connection.close()


@pytest.mark.parametrize("spoil", [not_a_database, a_directory, no_directory, another_schema])
def test_nothing_is_let_through_that_cannot_be_counted(
    tmp_path: Path, clock: Clock, spoil: Callable[[Path], None]
) -> None:
    directory = tmp_path / "vault"
    directory.mkdir()
    spoil(directory / FILE_NAME)
    counts = Counts(directory, clock)
    calls: list[Callable[[], object]] = [
        counts.check,
        lambda: counts.begin([CARD]),
        lambda: counts.hand_out([card_quota(counts)]),
        lambda: counts.forget(ISSUER_ID, ["iso0"], "card-1"),
    ]
    for call in calls * 2:
        with pytest.raises(CountsUnavailable):
            call()


def test_a_file_that_cannot_grow_lets_nothing_through(counts: Counts) -> None:
    fail(counts, another(CARD, failures_max=10_000))
    connection = counts._connection
    assert connection is not None
    connection.execute("PRAGMA max_page_count = 1")
    with pytest.raises(CountsUnavailable):
        fail(counts, another(CARD, failures_max=10_000), times=10_000)


def test_another_worker_that_does_not_end_is_not_waited_for(
    counts: Counts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hsm.counts, "WAIT_SECONDS_MAX", 0.01)
    fail(counts, CARD)
    other = sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(CountsUnavailable):
        counts.begin([CARD])
    other.execute("ROLLBACK")
    fail(counts, CARD, times=2)
    with pytest.raises(CardRefusesForm):
        counts.begin([CARD])


def test_a_file_that_is_good_again_is_used_again(counts: Counts, tmp_path: Path) -> None:
    not_a_database(tmp_path / FILE_NAME)
    with pytest.raises(CountsUnavailable):
        counts.begin([CARD])
    (tmp_path / FILE_NAME).unlink()
    fail(counts, CARD)


def test_only_the_vaults_user_may_read_what_is_counted(counts: Counts, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        fail(counts, CARD)
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_the_file_belongs_to_whom_the_directory_does(
    counts: Counts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []
    monkeypatch.setattr(os, "fchown", lambda _, *owner: given.append(owner))
    counts.check()
    assert given == [(tmp_path.stat().st_uid, -1)]


def test_50000_cards_a_day_leave_a_small_file(counts: Counts, tmp_path: Path, clock: Clock) -> None:
    names = [f"card-of-the-usual-length-{number:010}" for number in range(50_000)]
    sizes = []
    for _ in range(5):
        counts.hand_out([card_quota(counts, name) for name in names])
        sizes.append((tmp_path / FILE_NAME).stat().st_size)
        clock.time += DAY
    assert max(sizes) < 10_000_000


def test_failures_that_are_over_are_deleted(counts: Counts, tmp_path: Path, clock: Clock) -> None:
    for number in range(100):
        fail(counts, another(CARD, key=f"card-{number}"))
    clock.time += DAY
    fail(counts, CARD)
    connection = sqlite3.connect(tmp_path / FILE_NAME)
    assert connection.execute("SELECT count(*) FROM failures").fetchall() == [(1,)]
    connection.close()

"""Uses of a key are counted in memory, kept soon, and never in the way."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hsm.counts import Counts
from hsm.errors import CountsUnavailable
from hsm.kid_uses import FLUSH_SECONDS, FLUSH_USES, KidUses
from hsm.pkcs11.keys import KeyLabel, KeyRole

D1, PAGE = KeyLabel(KeyRole.D1, 1), KeyLabel(KeyRole.PAGE, 2)
NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)


class Worker:
    """Counts on a host, at a time that stands still unless it is moved."""

    def __init__(self, directory: Path) -> None:
        self.seconds, self.now = 100.0, NOW
        self.counts = Counts(directory, lambda: NOW)
        self.uses = KidUses(self.counts, lambda: self.now, lambda: self.seconds)

    def note(self, label: KeyLabel, times: int = 1) -> None:
        for _ in range(times):
            self.uses.note(label)


def test_a_key_that_is_hardly_used_shows_each_use_at_once(tmp_path: Path) -> None:
    worker, other = Worker(tmp_path), Worker(tmp_path)
    worker.note(D1)
    assert other.uses.read() == {"d1.g1": (1, NOW.timestamp())}
    worker.note(D1)
    assert other.uses.read()["d1.g1"][0] == 1
    worker.seconds += FLUSH_SECONDS
    worker.note(PAGE)
    assert {label: uses for label, (uses, _) in other.uses.read().items()} == {
        "d1.g1": 2,
        "page.g2": 1,
    }


def test_a_key_was_last_used_when_it_was_not_when_somebody_asks(tmp_path: Path) -> None:
    worker = Worker(tmp_path)
    worker.note(D1, 2)
    worker.now = NOW + timedelta(days=4)
    assert worker.uses.read() == {"d1.g1": (2, NOW.timestamp())}


def test_many_uses_are_kept_together(tmp_path: Path) -> None:
    worker, other = Worker(tmp_path), Worker(tmp_path)
    worker.note(D1, 1 + FLUSH_USES - 1)
    assert other.uses.read()["d1.g1"][0] == 1
    worker.note(D1)
    assert other.uses.read()["d1.g1"][0] == FLUSH_USES + 1
    assert worker.uses.read() == other.uses.read()


def test_what_cannot_be_kept_stays_and_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker(tmp_path)

    def fail(*_: object) -> None:
        raise CountsUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(worker.counts, "add_kid_uses", fail)
        worker.note(D1, 3)
        with pytest.raises(CountsUnavailable):
            worker.uses.read()
    assert worker.uses.read()["d1.g1"][0] == 3


def test_what_waits_is_kept_in_time_and_when_the_worker_ends(tmp_path: Path) -> None:
    worker, other = Worker(tmp_path), Worker(tmp_path)
    assert worker.uses.flush_if_due() is None
    worker.note(D1, 5)
    assert worker.uses.flush_if_due() == FLUSH_SECONDS
    worker.seconds += FLUSH_SECONDS
    assert worker.uses.flush_if_due() is None
    assert other.uses.read()["d1.g1"][0] == 5
    worker.note(D1, 999)
    worker.uses.flush()
    assert other.uses.read()["d1.g1"][0] == 1004


def test_a_host_that_cannot_count_is_asked_once_in_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, asked = Worker(tmp_path), list[int]()

    def fail(uses: Mapping[str, int], _: float) -> None:
        asked.append(sum(uses.values()))
        raise CountsUnavailable

    monkeypatch.setattr(worker.counts, "add_kid_uses", fail)
    worker.note(D1, 3 * FLUSH_USES)
    assert asked == [1, 1 + FLUSH_USES, 1 + 2 * FLUSH_USES]

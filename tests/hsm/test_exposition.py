"""Several processes count as one, whoever of them ends or shows the sum."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from errno import ENOSPC
from pathlib import Path

import pytest
from prometheus_client import values

from hsm import exposition

COUNT = """
import sys
from prometheus_client import Counter
from hsm import exposition

slot = exposition.free_slot()
exposition.count_in(slot)
counter = Counter("counted", "Counted.", ["what"], registry=exposition.registry)
counter.labels("things").inc(int(sys.argv[1]))
print(slot, flush=True)
sys.stdin.read()
"""
SHOW = "from hsm import exposition; print(exposition.text())"
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def shared() -> Iterator[Path]:
    with exposition.shared_directory("pins-test-"):
        directory = exposition.directory()
        assert directory is not None
        yield directory
    assert not directory.exists()


def start(count: int) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", COUNT, str(count)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def slots(processes: Sequence["subprocess.Popen[str]"]) -> list[str]:
    """Wait until each has counted."""
    found = []
    for process in processes:
        assert process.stdout is not None
        found.append(process.stdout.readline().strip())
    return found


def shown() -> str:
    return subprocess.run(
        [sys.executable, "-c", SHOW], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout


def end(processes: Sequence["subprocess.Popen[str]"]) -> None:
    for process in processes:
        process.kill()
        process.communicate()


def test_processes_count_as_one_and_a_new_one_goes_on_where_another_was_killed(
    shared: Path,
) -> None:
    running = [start(2), start(3)]
    try:
        assert sorted(slots(running)) == ["0", "1"]
        assert 'counted_total{what="things"} 5.0' in shown()
        end(running[:1])
        assert 'counted_total{what="things"} 5.0' in shown()
        running = [running[1], start(4)]
        assert len({*slots(running[1:])} & {"0", "1"}) == 1
        assert 'counted_total{what="things"} 9.0' in shown()
        assert len([*shared.glob("counter_*.db")]) == 2
    finally:
        end(running)


def test_nobody_else_may_look(shared: Path) -> None:
    assert shared.stat().st_mode & 0o777 == 0o700


def test_where_there_is_no_room_a_process_counts_for_itself(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(ENOSPC, "no room")

    before = values.ValueClass
    monkeypatch.setattr(os, "posix_fallocate", full)
    exposition.count_in("0")
    assert values.ValueClass is before


def test_without_a_directory_a_process_counts_for_itself() -> None:
    assert exposition.directory() is None
    assert exposition.VARIABLE not in os.environ
    assert exposition.free_slot() == "0"
    exposition.count_in("0")
    assert "cms_ready" not in exposition.text()

"""Whoever can write the directory of a log, and has no key: what it removes or moves shows."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from hsm.log.host_log import HostLog
from tests.hsm.log.vault_host import VaultHost, edit, hand_out

LIST = "chains.jsonl"
NOT_LISTED = "this chain is not in the list of chains"
ANOTHER = "it begins as another chain"
MISSING = "this chain is missing"
NO_LINE = "up to here there is no line"
Change = Callable[[Path], object]


@pytest.fixture
def busy(host: VaultHost) -> VaultHost:
    """Three chains, of three lines each."""
    workers = [host.worker() for _ in range(3)]
    for number in range(2):
        for worker in workers:
            worker.append(hand_out(number), durable=False)
    return host


def faults(host: VaultHost) -> list[str]:
    """What is wrong with the log, its places from the directory on."""
    return [fault.removeprefix(f"{host.directory}/") for fault in host.read()[1]]


def remove(*names: str) -> Change:
    def change(directory: Path) -> None:
        for name in names:
            shutil.rmtree(directory / name)

    return change


def swap(directory: Path) -> None:
    (directory / "0").rename(directory / "moved")
    (directory / "1").rename(directory / "0")
    (directory / "moved").rename(directory / "1")


def empty(directory: Path) -> None:
    for path in (directory / "1").iterdir():
        path.unlink()


def cut_list(directory: Path) -> None:
    edit(directory / LIST, lambda lines: lines[:-1])


def another_list(directory: Path) -> None:
    (path,) = (directory / "0").iterdir()
    shutil.copy(path, directory / LIST)


def one_more(directory: Path) -> None:
    shutil.copytree(directory / "2", directory / "3")


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (remove("0"), [f"0: {MISSING}"]),
        (remove("2"), [f"2: {MISSING}"]),
        (remove("0", "1", "2"), [f"{number}: {MISSING}" for number in range(3)]),
        (swap, [f"0: {ANOTHER}", f"1: {ANOTHER}"]),
        (empty, [f"1: {NO_LINE}"]),
        (cut_list, [f"2: {NOT_LISTED}"]),
        (one_more, [f"3: {ANOTHER}", f"3: {NOT_LISTED}"]),
        (
            another_list,
            [
                *(f"{LIST}: it is no list of chains", f"0: {ANOTHER}"),
                *(f"1: {NOT_LISTED}", f"2: {NOT_LISTED}"),
            ],
        ),
    ],
)
def test_a_chain_that_is_not_where_it_was_shows(
    busy: VaultHost, change: Change, found: list[str]
) -> None:
    assert faults(busy) == []
    change(busy.directory)
    assert faults(busy) == found


def test_a_chain_of_another_host_shows(busy: VaultHost, tmp_path: Path) -> None:
    """It has the same number, and MACs by the same key."""
    other = VaultHost(tmp_path / "other", busy.hsm_token)
    other.now = busy.now.replace(hour=13)
    other.worker().begin()
    other.worker().append(hand_out(1), durable=False)
    assert faults(other) == []
    shutil.rmtree(busy.directory / "0")
    shutil.copytree(other.directory / "0", busy.directory / "0")
    assert faults(busy) == [f"0: {ANOTHER}"]


def test_what_is_right_is_read_where_another_chain_is_at_fault(busy: VaultHost) -> None:
    busy.edit(lambda lines: [lines[0], *lines[2:]])
    lines, found = busy.read()
    assert len(found) == 1
    assert len(lines) == 4 + 1 + 3 + 3
    host_log = HostLog(busy.directory, busy.hsm_token.mac)
    list(host_log.lines())
    assert {path.name: seq for path, seq in host_log.ends.items()} == {
        LIST: 4,
        "0": 1,
        "1": 3,
        "2": 3,
    }


@pytest.mark.parametrize("lines", [0, 1])
def test_a_chain_that_a_process_had_just_begun_is_no_fault(busy: VaultHost, lines: int) -> None:
    """It ended before it listed the chain."""
    edit(busy.directory / LIST, lambda texts: texts[:-1])
    (path,) = busy.paths(2)
    edit(path, lambda texts: texts[:lines])
    assert faults(busy) == []

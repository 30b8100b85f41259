"""Each process that writes has a chain of its own, and a host that never began has none."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from cms.sandbox import HANG_SECONDS
from hsm.errors import LogUnavailable
from hsm.log import files, own_chain
from hsm.log.end import End
from hsm.log.lines import Action, Line
from tests.hsm.log.vault_host import LABEL, VaultHost, edit, hand_out

ROOT = Path(__file__).resolve().parents[3]
SECOND, DAY = timedelta(seconds=1), timedelta(days=1)
WORKERS, LINES_EACH = 2, 200
#: Takes a chain, and appends to it for each line it is given; the log and a key come first.
APPENDER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from hsm.log.writer import VaultLog
from tests.contracts.software_token import SoftwareToken
from tests.hsm.log.vault_host import LABEL, hand_out

directory, key, count = sys.argv[1:]
hsm_token = SoftwareToken([])
hsm_token.secrets[LABEL] = bytes.fromhex(key)
log = VaultLog(Path(directory), hsm_token.mac, lambda: LABEL, lambda: datetime.now(UTC))
log.check()
print("ready", flush=True)
for _ in sys.stdin:
    for number in range(int(count)):
        print(log.append(hand_out(number), durable=number % 2 == 0))
    print("done", flush=True)
"""


def start(host: VaultHost) -> subprocess.Popen[str]:
    """Start a process that holds a chain."""
    key = host.hsm_token.secrets[LABEL].hex()
    process = subprocess.Popen(
        [sys.executable, "-c", APPENDER, str(host.directory), key, str(LINES_EACH)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def chains(host: VaultHost) -> list[int]:
    """The number of lines of each chain."""
    count = len([path for path in host.directory.iterdir() if path.is_dir()])
    return [len(host.receipts(chain)) for chain in range(count)]


# Who holds what


def test_each_worker_appends_to_a_chain_of_its_own(host: VaultHost) -> None:
    first, second = host.worker(), host.worker()
    receipts = [
        worker.append(hand_out(number), durable=True)
        for number, worker in enumerate((first, first, second, first, second, second))
    ]
    assert host.receipts(0)[1:] == [receipts[number] for number in (0, 1, 3)]
    assert host.receipts(1)[1:] == [receipts[number] for number in (2, 4, 5)]
    lines, faults = host.read()
    assert faults == []
    assert {line.receipt for line in lines} > {*receipts}
    assert len({line.receipt for line in lines}) == len(lines) == 3 + 2 + len(receipts)


def test_the_list_tells_of_each_chain_and_its_first_line(host: VaultHost) -> None:
    workers = [host.worker() for _ in range(2)]
    for worker in workers:
        worker.check()
    listed = [
        Line.parse(text) for text in (host.directory / "chains.jsonl").read_bytes().splitlines()
    ]
    assert [(line.event.what, line.event.chain) for line in listed] == [
        *((Action.BEGAN, None), (Action.CHAIN, 0), (Action.CHAIN, 1))
    ]
    for line in listed[1:]:
        assert line.event.chain is not None
        begins = host.follow(chain=line.event.chain)[0][0]
        assert (begins.event.what, begins.event.chain) == (Action.CHAIN, line.event.chain)


def test_a_chain_is_free_when_its_worker_ends(host: VaultHost) -> None:
    for number in range(3):
        host.worker().append(hand_out(number), durable=True)
    assert chains(host) == [4]
    first, second = host.worker(), host.worker()
    first.check()
    second.check()
    del first
    third = host.worker()
    third.append(hand_out(3), durable=True)
    second.append(hand_out(4), durable=True)
    assert chains(host) == [5, 2]


@pytest.mark.slow
def test_processes_that_append_at_once_lose_no_line(host: VaultHost) -> None:
    started = [start(host) for _ in range(WORKERS)]
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    receipts = [process.communicate(timeout=HANG_SECONDS)[0].split()[:-1] for process in started]
    assert list(map(len, receipts)) == [LINES_EACH] * WORKERS
    lines, faults = host.read()
    assert faults == []
    assert {line.receipt for line in lines} > {*receipts[0], *receipts[1]}
    assert chains(host) == [1 + LINES_EACH] * WORKERS


@pytest.mark.slow
def test_the_chain_of_a_process_that_is_killed_goes_on(host: VaultHost) -> None:
    process = start(host)
    beside = host.worker()
    beside.check()
    assert chains(host) == [1, 1]
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=HANG_SECONDS)
    host.worker().append(hand_out(1), durable=True)
    assert chains(host) == [2, 1]


# A host that began, and one that did not


def test_a_host_that_never_began_has_no_chain(tmp_path: Path) -> None:
    host = VaultHost(tmp_path / "log")
    for _ in range(2):
        with pytest.raises(LogUnavailable, match="it begins with a list of minimum versions"):
            host.worker().append(hand_out(1), durable=True)
        with pytest.raises(LogUnavailable, match="it begins with a list of minimum versions"):
            host.worker().check()
        host.directory.mkdir(exist_ok=True)
    assert list(host.directory.iterdir()) == []


def the_list(host: VaultHost) -> None:
    (host.directory / "chains.jsonl").unlink()


def the_first_chain(host: VaultHost) -> None:
    shutil.rmtree(host.directory / "0")


def the_last_chain(host: VaultHost) -> None:
    shutil.rmtree(host.directory / "1")


def the_lines_of_a_chain(host: VaultHost) -> None:
    for path in host.paths(1):
        path.unlink()


def the_lines_of_the_list(host: VaultHost) -> None:
    edit(host.directory / "chains.jsonl", lambda _: [])


def the_end_of_the_list(host: VaultHost) -> None:
    edit(host.directory / "chains.jsonl", lambda lines: lines[:-1])


@pytest.mark.parametrize(
    ("delete", "why"),
    [
        (the_list, "it begins with a list of minimum versions"),
        (the_first_chain, "a chain of the log is missing"),
        (the_last_chain, "a chain of the log is missing"),
        (the_lines_of_a_chain, "a chain of the log has no line"),
        (the_lines_of_the_list, "a chain of the log has no line"),
    ],
)
def test_what_is_deleted_is_not_made_anew(
    host: VaultHost, delete: Callable[[VaultHost], None], why: str
) -> None:
    """Whichever chain a process would get: the host has lost some of its log."""
    workers = [host.worker() for _ in range(2)]
    for worker in workers:
        worker.append(hand_out(1), durable=True)
    workers.clear()
    del worker
    delete(host)
    before = sorted(host.directory.rglob("*"))
    held = host.worker()
    for each in (held, host.worker()):
        with pytest.raises(LogUnavailable, match=why):
            each.append(hand_out(2), durable=True)
    assert sorted(host.directory.rglob("*")) == before


def test_a_chain_that_is_not_in_the_list_is_not_gone_on_with(host: VaultHost) -> None:
    workers = [host.worker() for _ in range(2)]
    for worker in workers:
        worker.append(hand_out(1), durable=True)
    workers.clear()
    del worker
    the_end_of_the_list(host)
    first, second = host.worker(), host.worker()
    first.append(hand_out(2), durable=True)
    with pytest.raises(LogUnavailable, match="is not in its list"):
        second.append(hand_out(2), durable=True)


# A process that ends while it begins a chain


class EndedError(Exception):
    """As a process ends: nothing is done after it."""


@pytest.mark.parametrize("written", range(6))
def test_a_chain_that_was_half_begun_is_begun(
    tmp_path: Path, written: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each of: the directory, its file, its first line (on the disk or not), the list's."""
    host = VaultHost(tmp_path / "log")
    host.worker().begin()
    steps = iter(range(written))

    def step(call: Callable[..., object]) -> Callable[..., object]:
        def ends(*arguments: object, **named: object) -> object:
            if next(steps, None) is None:
                raise EndedError
            return call(*arguments, **named)

        return ends

    with monkeypatch.context() as patch:
        patch.setattr(files, "make_directory", step(files.make_directory))
        patch.setattr(files, "make_file", step(files.make_file))
        patch.setattr(End, "write", step(End.write))
        patch.setattr(os, "fdatasync", step(os.fdatasync))
        with pytest.raises(EndedError):
            host.worker().append(hand_out(1), durable=True)
    receipt = host.worker().append(hand_out(2), durable=True)
    lines, faults = host.read()
    assert faults == []
    assert lines[-1].receipt == receipt
    assert chains(host) == [2]


# The clock


@pytest.mark.parametrize("seconds", [0, 5])
def test_a_clock_may_be_a_little_behind(host: VaultHost, seconds: int) -> None:
    known = host.worker()
    known.append(hand_out(1), durable=True)
    host.now -= seconds * SECOND
    known.append(hand_out(2), durable=True)
    host.worker().append(hand_out(3), durable=True)
    assert host.read()[1] == []


@pytest.mark.parametrize("behind", [6 * SECOND, DAY])
def test_a_clock_that_is_behind_the_log_writes_no_line(host: VaultHost, behind: timedelta) -> None:
    host.now += DAY
    known, new = host.worker(), host.worker()
    known.append(hand_out(1), durable=True)
    before = host.read()
    host.now -= behind
    for worker in (known, new):
        with pytest.raises(LogUnavailable, match="the clock is behind the log"):
            worker.append(hand_out(2), durable=True)
        with pytest.raises(LogUnavailable, match="the clock is behind the log"):
            worker.check()
    assert host.read() == before
    host.now += behind
    for worker in (known, new):
        worker.append(hand_out(2), durable=True)


def test_a_clock_that_is_behind_a_chain_of_another_worker_takes_none(host: VaultHost) -> None:
    first, second = host.worker(), host.worker()
    first.check()
    host.now += DAY
    second.append(hand_out(1), durable=True)
    host.now -= DAY
    # It looked when it took its chain.
    first.append(hand_out(2), durable=True)
    del first
    with pytest.raises(LogUnavailable, match="the clock is behind the log"):
        host.worker().check()


# What it costs


def test_an_append_reads_no_file_and_takes_no_lock(
    host: VaultHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, beside = host.worker(), host.worker()
    for each in (worker, beside):
        each.append(hand_out(1), durable=False)

    def refused(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(fcntl, "flock", refused)
    monkeypatch.setattr(End, "find", refused)
    monkeypatch.setattr(own_chain, "last_line", refused)
    for each in (worker, beside, worker):
        each.append(hand_out(2), durable=False)

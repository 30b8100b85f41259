"""Answers leave when their lines are on the disk, and not before."""

import contextlib
import os
import selectors
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cms.sandbox import HANG_SECONDS
from hsm import messages
from hsm.errors import LogUnavailable
from hsm.frames import frame
from hsm.messages import ManifestVersion, SocketName, Verb
from hsm.server import disk, worker
from hsm.server.disk import Disk
from hsm.server.worker import Held
from tests.hsm.server.working import working


@pytest.fixture
def held() -> Iterator[Disk[str]]:
    held = Disk[str]()
    yield held
    held.close()


def comes(held: Disk[str], seconds: float) -> bool:
    """Wait for answers. Not by select(2): a process of many tests has higher descriptors."""
    with selectors.DefaultSelector() as selector:
        selector.register(held.woken, selectors.EVENT_READ)
        return bool(selector.select(seconds))


def finished(held: Disk[str], count: int) -> list[tuple[str, bool]]:
    """Wait for so many answers."""
    found: list[tuple[str, bool]] = []
    while len(found) < count:
        assert comes(held, HANG_SECONDS), "it does not come"
        found += held.finished()
    return found


def open_file(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def test_an_answer_without_a_line_is_not_held(held: Disk[str]) -> None:
    assert not held.hold("answer")
    assert not held.holds


def test_an_answer_is_held_until_the_disk_has_its_line(
    held: Disk[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on, fdatasync = threading.Event(), os.fdatasync

    def slow(file: int) -> None:
        assert goes_on.wait(HANG_SECONDS)
        fdatasync(file)

    monkeypatch.setattr(os, "fdatasync", slow)
    held.note(open_file(tmp_path / "log"))
    assert held.hold("answer")
    assert not comes(held, 0.05)
    assert held.holds
    goes_on.set()
    assert finished(held, 1) == [("answer", True)]
    assert not held.holds


def test_a_line_counts_for_the_call_that_wrote_it_only(held: Disk[str], tmp_path: Path) -> None:
    held.note(open_file(tmp_path / "log"))
    assert held.hold("hand-out")
    assert not held.hold("the next call's answer")


def test_what_comes_while_it_waits_goes_there_together_and_in_order(
    held: Disk[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits, goes_on, synced = threading.Event(), threading.Event(), list[int]()

    def counted(file: int) -> None:
        waits.set()
        assert goes_on.wait(HANG_SECONDS)
        synced.append(file)

    monkeypatch.setattr(os, "fdatasync", counted)
    file = open_file(tmp_path / "log")
    for number in range(50):
        held.note(file)
        assert held.hold(str(number))
        assert waits.wait(HANG_SECONDS)
    goes_on.set()
    assert finished(held, 50) == [(str(number), True) for number in range(50)]
    assert len(synced) == 2


def test_of_a_disk_that_fails_every_answer_is_told(
    held: Disk[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fdatasync", full)
    held.note(open_file(tmp_path / "log"))
    assert held.hold("answer")
    assert finished(held, 1) == [("answer", False)]


def test_a_file_may_be_closed_and_its_number_be_another_s(
    held: Disk[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The day is over: the log goes on in another file, under the same descriptor."""
    synced, fdatasync = list[int](), os.fdatasync

    def noted(file: int) -> None:
        synced.append(os.fstat(file).st_ino)
        fdatasync(file)

    monkeypatch.setattr(os, "fdatasync", noted)
    paths = [tmp_path / "yesterday", tmp_path / "today"]
    number = -1
    for path in paths:
        file = open_file(path)
        assert number in {-1, file}, "the number is used again"
        number = file
        held.note(file)
        assert held.hold(path.name)
        os.close(file)
    assert finished(held, 2) == [("yesterday", True), ("today", True)]
    assert {path.stat().st_ino for path in paths} <= {*synced}


def test_it_ends_when_all_that_waits_is_done(tmp_path: Path) -> None:
    held = Disk[str]()
    before = {*Path("/proc/self/fd").iterdir()}
    held.note(open_file(tmp_path / "log"))
    assert held.hold("answer")
    held.close()
    assert "disk" not in {thread.name for thread in threading.enumerate()}
    assert len({*Path("/proc/self/fd").iterdir()} - before) <= 1  # the test's own


def test_more_is_waited_for_only_while_several_callers_are_there(
    held: Disk[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits, goes_on = threading.Event(), threading.Event()
    gathered = list[float]()

    def slow(_: int) -> None:
        waits.set()
        assert goes_on.wait(HANG_SECONDS)

    monkeypatch.setattr(os, "fdatasync", slow)
    monkeypatch.setattr(time, "sleep", gathered.append)
    file = open_file(tmp_path / "log")

    def hand_out(answer: str) -> None:
        held.note(file)
        assert held.hold(answer)

    goes_on.set()
    for answer in ("alone", "alone again"):
        hand_out(answer)
        assert finished(held, 1) == [(answer, True)]
    assert gathered == []
    goes_on.clear()
    waits.clear()
    hand_out("first")
    assert waits.wait(HANG_SECONDS)
    hand_out("second")
    goes_on.set()
    assert finished(held, 2) == [("first", True), ("second", True)]
    assert gathered == [disk.GATHER_SECONDS]


@pytest.mark.parametrize("fails", [False, True])
def test_a_caller_is_refused_what_the_disk_does_not_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, fails: bool
) -> None:
    def perform(_: Verb[Any]) -> int:
        answers.note(file)
        return 7

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    if fails:
        monkeypatch.setattr(os, "fdatasync", full)
    answers, file = Disk[Held](), open_file(tmp_path / "log")
    with working(perform, disk=answers) as served, served.connect(SocketName.D1) as stranger:
        assert stranger.is_greeted()
        calls = (messages.encode_call(number, ManifestVersion("testbank01")) for number in range(3))
        stranger.send(b"".join(map(frame, calls)))
        answered = [messages.decode_answer(stranger.read() or b"") for _ in range(3)]
    assert [number for number, *_ in answered] == [0, 1, 2]
    if fails:
        assert {(type(error), str(error)) for _, error, _ in answered} == {
            (LogUnavailable, "the log cannot be written")
        }
    else:
        assert {messages.read_answer(ManifestVersion, raw) for *_, raw in answered} == {7}


def test_who_reads_many_held_answers_late_keeps_the_connection(tmp_path: Path) -> None:
    """More than a socket takes at once: the rest is sent when there is room, and no call came."""
    answers, file, long = Disk[Held](), open_file(tmp_path / "log"), "x" * 16_000

    def perform(_: Verb[Any]) -> str:
        answers.note(file)
        return long

    with working(perform, disk=answers) as served, served.connect(SocketName.D1) as stranger:
        assert stranger.is_greeted()
        for number in range(60):
            stranger.send(frame(messages.encode_call(number, ManifestVersion("testbank01"))))
        while served.peak_unsent_bytes() == 0 or answers.holds:
            time.sleep(0.01)
        for number in range(60):
            assert messages.decode_answer(stranger.read() or b"")[0] == number
        stranger.send(frame(messages.encode_call(60, ManifestVersion("testbank01"))))
        assert messages.decode_answer(stranger.read() or b"")[0] == 60


def test_after_a_failure_of_the_disk_the_worker_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel tells of it once: the next line would seem to be there, behind a hole."""
    answers, file = Disk[Held](), open_file(tmp_path / "log")
    fails = iter([True])

    def perform(_: Verb[Any]) -> int:
        answers.note(file)
        return 7

    def fail_once(_: int) -> None:
        if next(fails, False):
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail_once)
    with working(perform, disk=answers) as served, served.connect(SocketName.D1) as stranger:
        assert stranger.is_greeted()
        stranger.send(frame(messages.encode_call(1, ManifestVersion("testbank01"))))
        _, error, _ = messages.decode_answer(stranger.read() or b"")
        assert isinstance(error, LogUnavailable)
        assert stranger.read() is None
        served.wait_for_end()


def test_a_worker_that_is_told_to_end_ends_though_calls_keep_coming(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker, "DRAIN_SECONDS", 0.05)

    def perform(_: Verb[Any]) -> int:
        time.sleep(0.002)
        return 7

    call = frame(messages.encode_call(1, ManifestVersion("testbank01")))
    with working(perform) as served, served.connect(SocketName.D1) as stranger:
        assert stranger.is_greeted()
        for _ in range(8):
            stranger.send(call)
        served.stop()
        answered = 0
        with contextlib.suppress(OSError):
            while stranger.read() is not None:
                answered += 1
                stranger.send(call)
        assert answered
        served.wait_for_end()

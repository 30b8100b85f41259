"""One caller that takes all it can get: it costs a worker little, and others nothing."""

import math
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from cms.sandbox import HANG_SECONDS
from hsm import messages
from hsm.frames import frame
from hsm.messages import MESSAGE_BYTES_MAX, Health, ManifestVersion, SocketName, Verb
from hsm.server import worker as worker_module
from tests.hsm.server.working import Working, working
from tests.vault_process import wait_until

LONG_ANSWER = "x" * 100_000
LONG, SLOW = ManifestVersion("long------"), ManifestVersion("slow------")
SLOW_SECONDS = 0.002
SLOW_CALLS = 500


class Performer:
    """Does what a call says, and counts the slow ones."""

    def __init__(self) -> None:
        self.slow_calls = 0

    def __call__(self, message: Verb[Any]) -> object:
        if message == LONG:
            return LONG_ANSWER
        if message == SLOW:
            time.sleep(SLOW_SECONDS)
            self.slow_calls += 1
        return None


@pytest.fixture
def performer() -> Performer:
    return Performer()


@pytest.fixture
def worker(performer: Performer) -> Iterator[Working]:
    with working(performer) as worker:
        yield worker


def call(number: int, message: Verb[Any]) -> bytes:
    return frame(messages.encode_call(number, message))


def is_served(worker: Working, name: SocketName) -> bool:
    with worker.connect(name) as other:
        if not other.is_greeted():
            return False
        other.send(call(1, Health()))
        return other.read() == messages.encode_answer(1, None)


def peak_of_a_caller_that_never_reads(worker: Working) -> int:
    """It asks for 100 kB with every 40 bytes, until no more calls are taken."""
    with worker.connect(SocketName.D1) as greedy:
        assert greedy.is_greeted()
        greedy.fill(call(1, LONG) * 1000)
        assert is_served(worker, SocketName.D1)
        return worker.peak_unsent_bytes()


BOUND = worker_module.UNSENT_BYTES_MAX + 2 * len(LONG_ANSWER)


def test_who_never_reads_has_little_done(worker: Working) -> None:
    assert 0 < peak_of_a_caller_that_never_reads(worker) < BOUND


def test_without_the_bound_it_has_everything_done(
    worker: Working, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "UNSENT_BYTES_MAX", math.inf)
    monkeypatch.setattr(worker_module, "TURN_SECONDS", math.inf)
    assert peak_of_a_caller_that_never_reads(worker) > 10 * BOUND


def test_every_call_of_one_who_reads_late_is_answered(worker: Working) -> None:
    with worker.connect(SocketName.D1) as late:
        assert late.is_greeted()
        late.send(b"".join(call(number, LONG) for number in range(50)))
        wait_until(lambda: worker.peak_unsent_bytes() > 0)
        for number in range(50):
            assert late.read() == messages.encode_answer(number, LONG_ANSWER)


def slow_calls_before_another(worker: Working, performer: Performer) -> int:
    """Send many slow calls on one connection, then one on another; return how many came first."""
    with worker.connect(SocketName.D1) as first, worker.connect(SocketName.CARDHOLDER) as second:
        assert first.is_greeted()
        assert second.is_greeted()
        first.send(b"".join(call(number, SLOW) for number in range(SLOW_CALLS)))
        wait_until(lambda: performer.slow_calls > 0)
        second.send(call(1, Health()))
        assert second.read()
        return performer.slow_calls


def test_connections_take_turns(worker: Working, performer: Performer) -> None:
    assert slow_calls_before_another(worker, performer) < SLOW_CALLS / 2


def test_without_turns_one_caller_has_the_worker(
    worker: Working, performer: Performer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "TURN_SECONDS", math.inf)
    assert slow_calls_before_another(worker, performer) == SLOW_CALLS


def connections_taken(worker: Working, name: SocketName, count: int) -> int:
    """Open many connections and keep them; return how many were greeted."""
    opened = [worker.connect(name) for _ in range(count)]
    greeted = [one.is_greeted() for one in opened]
    others = [other for other in SocketName if other is not name]
    assert all(is_served(worker, other) for other in others)
    for one in opened:
        one.stream.close()
    return sum(greeted)


@pytest.mark.parametrize("name", SocketName)
def test_who_opens_many_connections_keeps_nobody_else_from_theirs(
    worker: Working, name: SocketName
) -> None:
    assert connections_taken(worker, name, 100) == worker_module.CONNECTIONS_MAX[name]
    wait_until(lambda: not worker.connections())
    assert is_served(worker, name)


def test_without_that_limit_all_are_taken(worker: Working, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "CONNECTIONS_MAX", dict.fromkeys(SocketName, math.inf))
    assert connections_taken(worker, SocketName.D1, 100) == 100


def test_a_length_alone_takes_no_memory(worker: Working) -> None:
    length = MESSAGE_BYTES_MAX[SocketName.D1].to_bytes(4)
    connections = [
        worker.connect(SocketName.D1) for _ in range(worker_module.CONNECTIONS_MAX[SocketName.D1])
    ]
    for one in connections:
        assert one.is_greeted()
        one.send(length)
    wait_until(lambda: worker.received_bytes() == len(length) * len(connections))
    assert is_served(worker, SocketName.CARDHOLDER)
    for one in connections:
        one.stream.close()


def test_a_connection_that_was_closed_a_moment_ago_ends_nothing() -> None:
    """As when its held answer cannot be sent, and its next call has come already."""
    sent = threading.Event()

    there: list[Working] = []

    def perform(message: Verb[Any]) -> object:
        if message == SLOW:
            sent.wait(HANG_SECONDS)  # so that the next two calls are there at once
        if message == LONG:
            (closed,) = (c for c in there[0].connections() if c.name is SocketName.ADMIN)
            there[0]._worker._close(closed)
        return None

    with working(perform) as worker:
        there.append(worker)
        strangers = [worker.connect(name) for name in SocketName]
        assert all(stranger.is_greeted() for stranger in strangers)
        d1, cardholder, admin = strangers
        d1.send(call(1, SLOW))
        cardholder.send(call(1, LONG))
        admin.send(call(1, Health()))
        sent.set()
        assert d1.read()
        assert cardholder.read()
        assert admin.read() is None
        assert is_served(worker, SocketName.ADMIN)

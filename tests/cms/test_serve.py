"""The supervisor of the workers."""

import multiprocessing
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from cms.sandbox import HANG_SECONDS
from cms.serve import Supervisor


class DeadWorker:
    """A worker that dies after it was asked, and before it answers."""

    exitcode = 3  # it could not start: nobody starts it again
    pid = 1

    def __init__(self) -> None:
        self.parent_conn, self.child_conn = multiprocessing.Pipe()
        self.answered: list[bool] = []

    def is_alive(self, timeout: float) -> bool:
        assert timeout == HANG_SECONDS
        self.answered.append(self.parent_conn.poll(timeout if self.child_conn.closed else 0))
        return False

    def kill(self) -> None:
        pass

    def join(self) -> None:
        pass


@pytest.fixture
def worker() -> Iterator[DeadWorker]:
    worker = DeadWorker()
    yield worker
    worker.parent_conn.close()
    worker.child_conn.close()


def test_nobody_waits_for_the_answer_of_a_worker_that_died(worker: DeadWorker) -> None:
    supervisor = object.__new__(Supervisor)  # whose signals are those of this process
    supervisor.config = SimpleNamespace(timeout_worker_healthcheck=HANG_SECONDS)  # type: ignore[assignment]
    supervisor.should_exit = threading.Event()
    supervisor.processes = [worker]  # type: ignore[list-item]
    supervisor.keep_subprocess_alive()
    assert worker.answered == [True]
    assert supervisor.should_exit.is_set()

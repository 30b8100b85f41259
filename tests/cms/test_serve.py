"""What is looked at before there are workers, and their supervisor."""

import json
import multiprocessing
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from cms.sandbox import HANG_SECONDS
from cms.serve import CannotStart, Supervisor, _check_host
from tests.operators import prepare_host


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


@pytest.fixture
def trust_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The trust file of a host for trials, which the environment names."""
    state = tmp_path / "state"
    state.mkdir()
    trust_file = prepare_host(tmp_path)
    for name, value in (
        *(("MODULE", "x"), ("TOKEN_LABEL", "x"), ("PIN_FILE", "x")),
        *(("STATE_DIRECTORY", str(state)), ("TRUST_FILE", str(trust_file))),
    ):
        monkeypatch.setenv(f"HSM_{name}", value)
    return trust_file


def test_a_trust_file_for_trials_serves_in_a_sandbox_only(trust_file: Path) -> None:
    _check_host(sandbox=True)
    with pytest.raises(CannotStart, match="HSM_TRUST_FILE is for trials"):
        _check_host(sandbox=False)
    trust = json.loads(trust_file.read_text())
    trust_file.write_text(json.dumps({**trust, "sandbox": False}))
    _check_host(sandbox=False)


def test_what_the_vault_of_a_host_lacks_is_named(
    trust_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value, said in (
        ("HSM_TRUST_FILE", tmp_path / "none", "HSM_TRUST_FILE: the trust file cannot be read"),
        ("HSM_STATE_DIRECTORY", tmp_path / "none", "HSM_STATE_DIRECTORY: no directory"),
        ("HSM_STATE_DIRECTORY", trust_file, "HSM_STATE_DIRECTORY: no directory"),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(name, str(value))
            with pytest.raises(CannotStart, match=said):
                _check_host(sandbox=True)
    monkeypatch.delenv("HSM_STATE_DIRECTORY")
    with pytest.raises(CannotStart, match="set HSM_STATE_DIRECTORY"):
        _check_host(sandbox=True)

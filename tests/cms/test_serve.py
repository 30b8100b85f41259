"""What is looked at before there are workers, and their supervisor."""

import multiprocessing
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from cms.sandbox import HANG_SECONDS
from cms.serve import (
    CannotStart,
    Supervisor,
    _check_files,
    _check_vault_sockets,
    _further_listeners,
    _main_socket,
    _tcp_socket,
)
from cms.settings import Settings
from hsm.messages import SocketName
from hsm.socket_files import path_of
from tests.processes import ROOT
from tests.service import settings


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
def sockets(tmp_path: Path) -> Iterator[Path]:
    """The sockets of a vault that answers nothing."""
    directory = tmp_path / "vault"
    directory.mkdir(0o750)
    with ExitStack() as stack:
        for name in (SocketName.D1, SocketName.CARDHOLDER):
            bound = stack.enter_context(socket.socket(socket.AF_UNIX))
            bound.bind(str(path_of(directory, name, 0)))
            path_of(directory, name, 0).chmod(0o660)
        yield directory


def serving(tmp_path: Path, sockets: Path, **given: object) -> Settings:
    key = tmp_path / "control-token.key"
    key.write_bytes(bytes(32))
    cardholder = {"cardholder_url": "https://cards.test", "control_token_key_file": key}
    return settings("", tmp_path, vault_socket_directory=sockets, **cardholder, **given)


def test_a_vault_that_answers_nothing_does_not_keep_the_service_from_its_start(
    tmp_path: Path, sockets: Path
) -> None:
    _check_vault_sockets(serving(tmp_path, sockets))


@pytest.mark.parametrize(
    ("listeners", "needed"),
    [("d1", {"d1"}), ("cardholder", {"cardholder"}), ("d1,cardholder", {"d1", "cardholder"})],
)
def test_a_socket_that_is_missing_or_open_to_others_is_named_if_it_is_used(
    tmp_path: Path, sockets: Path, listeners: str, needed: set[str]
) -> None:
    wanted = serving(tmp_path, sockets, listeners=listeners)
    for name in (SocketName.D1, SocketName.CARDHOLDER):
        path = path_of(sockets, name, 0)
        refused = pytest.raises(CannotStart, match=f"^CMS_VAULT_SOCKET_DIRECTORY: {path.name}: ")
        path.chmod(0o666)
        with refused if name in needed else nullcontext():
            _check_vault_sockets(wanted)
        path.rename(sockets / "aside")
        with refused if name in needed else nullcontext():
            _check_vault_sockets(wanted)
        (sockets / "aside").rename(path)
        path.chmod(0o660)


def test_one_user_for_web_and_vault_is_warned_of(
    tmp_path: Path,
    sockets: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    _check_vault_sockets(serving(tmp_path, sockets))
    assert [record.getMessage() for record in caplog.records] == ["vault.same_user"]
    caplog.clear()
    monkeypatch.setattr("os.geteuid", lambda: sockets.stat().st_uid + 1)
    _check_vault_sockets(serving(tmp_path, sockets))
    assert caplog.records == []


@pytest.mark.parametrize("listener", ["d1", "cardholder"])
def test_a_process_with_one_listener_opens_that_one_before_its_workers_begin(
    tmp_path: Path, sockets: Path, listener: str
) -> None:
    ports = {"d1_port": 0, "cardholder_port": 0}
    wanted = serving(tmp_path, sockets, listeners=listener, **ports, cardholder_host="127.0.0.2")
    with closing(_main_socket(wanted)) as bound:
        assert bound.getsockname()[0] == {"d1": "127.0.0.1", "cardholder": "127.0.0.2"}[listener]
        socket.create_connection(bound.getsockname()).close()


@pytest.mark.anyio
async def test_who_reaches_the_operations_listener_finds_the_others_open(
    tmp_path: Path, sockets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = serving(tmp_path, sockets, cardholder_port=0, ops_port=0, ops_host="127.0.0.2")
    opened: list[tuple[str, int]] = []

    def open_one(host: str, port: int, *options: int) -> socket.socket:
        for address in opened:
            socket.create_connection(address).close()
        bound = _tcp_socket(host, port, *options)
        opened.append(bound.getsockname())
        return bound

    monkeypatch.setattr("cms.serve._tcp_socket", open_one)
    listeners = dict.fromkeys(("ops", "cardholder"), ignore)
    application = SimpleNamespace(listeners=listeners)
    async with _further_listeners(application, wanted):  # type: ignore[arg-type] # as far as it is asked
        assert [host for host, _ in opened] == ["127.0.0.1", "127.0.0.2"]
        for address in opened:
            socket.create_connection(address).close()


async def ignore(_scope: object, _receive: object, _send: object) -> None:
    """Stand for an app that nobody calls."""


def loaded_with(*modules: str) -> set[str]:
    """Name all that a process has loaded which imported these modules."""
    code = f"import sys, {', '.join(modules)}; print(*sys.modules, sep=chr(10))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return {*done.stdout.splitlines()}


def test_the_service_never_loads_what_opens_an_hsm_token() -> None:
    loaded = loaded_with("cms.serve", "cms.app")
    assert "hsm.client" in loaded
    unwanted = {"pkcs11", "hsm.vault", "hsm.settings", "hsm.local", "hsm.pkcs11", "hsm.server"}
    assert not unwanted & loaded


def test_the_supervisor_loads_nothing_that_only_its_workers_need() -> None:
    loaded = loaded_with("cms.serve")
    assert "uvicorn" in loaded
    assert not {"cms.app", "cms.persistence.store", "sqlalchemy"} & loaded


def test_traces_without_their_library_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cms.serve.TRACING_LIBRARY", "opentelemetry.missing")
    given = settings("postgresql:///cms", tmp_path, traces_url="http://localhost:4318/v1/traces")
    given.database_url_file.chmod(0o600)
    with pytest.raises(CannotStart, match=r"^CMS_TRACES_URL: .* is not installed"):
        _check_files(given)

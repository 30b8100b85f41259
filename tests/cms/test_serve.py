"""What is looked at before there are workers, and their supervisor."""

import multiprocessing
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from cms.__main__ import main
from cms.sandbox import HANG_SECONDS
from cms.sandbox.machine import pki
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


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> pki.Pki:
    return pki.create(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def environment(
    made: pki.Pki, sockets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Mapping[str, object]:
    """Settings with which the service starts, of whose workers there are none here."""
    secret = tmp_path / "secret"
    secret.touch(0o600)
    secret.write_text("postgresql:///cms?user=a-user-of-some-database")
    none = SimpleNamespace(run=lambda: None, processes=[])
    monkeypatch.setattr("cms.serve.Supervisor", lambda *_, **__: none)
    monkeypatch.setattr("cms.serve.logs.set_up", lambda: None)
    for name in [name for name in os.environ if name.startswith("CMS_")]:
        monkeypatch.delenv(name)
    return {
        "DATABASE_URL_FILE": secret,
        "PUBLIC_URL": "https://pins.test",
        "VAULT_SOCKET_DIRECTORY": sockets,
        "D1_PORT": 0,
        "D1_CERTIFICATE_FILE": made.server.certificate,
        "D1_KEY_FILE": made.server.key,
        "D1_CLIENT_CA_FILE": made.ca.certificate,
        "CARDHOLDER_URL": "https://cards.test",
        "CARDHOLDER_PORT": 0,
        "OPS_PORT": 0,
        "CARDHOLDER_CERTIFICATE_FILE": made.server.certificate,
        "CARDHOLDER_KEY_FILE": made.server.key,
        "CONTROL_TOKEN_KEY_FILE": secret,
        "US_CA_FILE": made.ca.certificate,
    }


NOTHING = "/nowhere/at/all"
BEHIND_A_PROXY = {
    "D1_MTLS_ENDS": "proxy",
    **dict.fromkeys(("D1_CERTIFICATE_FILE", "D1_KEY_FILE", "D1_CLIENT_CA_FILE")),
}
"""None: without it."""
FILES_OF_D1 = "CMS_D1_CERTIFICATE_FILE, CMS_D1_KEY_FILE, CMS_D1_CLIENT_CA_FILE"
FILES_OF_CARDHOLDERS = "CMS_CARDHOLDER_CERTIFICATE_FILE, CMS_CARDHOLDER_KEY_FILE"
REFUSALS: Sequence[tuple[Mapping[str, object], str]] = (
    *(({name: None}, f"CMS_{name} is missing") for name in ("DATABASE_URL_FILE", "PUBLIC_URL")),
    ({"VAULT_SOCKET_DIRECTORY": None}, "CMS_VAULT_SOCKET_DIRECTORY is missing"),
    ({"CONTROL_TOKEN_KEY_FILE": None}, "CMS_CONTROL_TOKEN_KEY_FILE is missing"),
    ({"CARDHOLDER_KEY_FILE": None}, f"{FILES_OF_CARDHOLDERS}: both or none"),
    ({"D1_KEY_FILE": None}, "CMS_D1_CERTIFICATE_FILE, CMS_D1_KEY_FILE or CMS_D1_CLIENT_CA_FILE is"),
    (BEHIND_A_PROXY, "CMS_D1_PROXY_PEERS is missing"),
    ({**BEHIND_A_PROXY, "D1_PROXY_PEERS": '["10.0.0.0/8"]'}, "CMS_D1_PROXY_PEERS: each peer"),
    ({"D1_PROXY_PEERS": "10.0.0.7"}, "CMS_D1_PROXY_PEERS: no JSON"),
    ({"CARDHOLDER_PROXY_PEERS": '["unix"]'}, "CMS_CARDHOLDER_PROXY_PEERS: each peer"),
    ({"PUBLIC_URL": "ftp://pins.test"}, "CMS_PUBLIC_URL: write https://"),
    ({"CARDHOLDER_URL": "https://cards.test/"}, "CMS_CARDHOLDER_URL: write https://"),
    ({"LISTENERS": "ops"}, "CMS_LISTENERS: "),
    ({"WORKERS": "0"}, "CMS_WORKERS: "),
    ({"WORKRES": "2"}, "CMS_WORKRES: no such setting"),
    *(
        ({name: NOTHING}, f"CMS_{name}: No such file or directory")
        for name in (
            *("DATABASE_URL_FILE", "D1_CERTIFICATE_FILE", "D1_KEY_FILE", "D1_CLIENT_CA_FILE"),
            *("CARDHOLDER_CERTIFICATE_FILE", "CARDHOLDER_KEY_FILE", "CONTROL_TOKEN_KEY_FILE"),
            *("US_CA_FILE", "TRACES_CA_FILE"),
        )
    ),
    *(
        ({name: "open"}, f"CMS_{name}: a secret, and its mode 0644")
        for name in ("DATABASE_URL_FILE", "D1_KEY_FILE", "CARDHOLDER_KEY_FILE")
    ),
    ({"CONTROL_TOKEN_KEY_FILE": "open"}, "CMS_CONTROL_TOKEN_KEY_FILE: a secret, and its mode 0644"),
    ({"DATABASE_URL_FILE": "bytes"}, "CMS_DATABASE_URL_FILE: no text"),
    ({"DATABASE_URL_FILE": "short"}, "CMS_DATABASE_URL_FILE: the database URL cannot be read"),
    ({"DATABASE_URL_FILE": "far"}, "CMS_DATABASE_URL_FILE: a database that is not on this machine"),
    ({"D1_KEY_FILE": "another key"}, f"{FILES_OF_D1}: they cannot be used together: KEY_VALUES"),
    ({"D1_CLIENT_CA_FILE": "short"}, f"{FILES_OF_D1}: they cannot be used together: "),
    ({"CARDHOLDER_KEY_FILE": "another key"}, f"{FILES_OF_CARDHOLDERS}: they cannot be used"),
    ({"US_CA_FILE": "short"}, "CMS_US_CA_FILE: no certificate in it"),
    ({"CONTROL_TOKEN_KEY_FILE": "short"}, "CMS_CONTROL_TOKEN_KEY_FILE: "),
    ({"VAULT_SOCKET_DIRECTORY": NOTHING}, "CMS_VAULT_SOCKET_DIRECTORY: all: No such file"),
    ({"D1_HOST": "192.0.2.1"}, "CMS_D1_HOST, CMS_D1_PORT: nothing can listen there: "),
    ({"D1_SOCKET": f"{NOTHING}/d1.sock"}, "CMS_D1_SOCKET: nothing can listen there: No such file"),
    ({"D1_SOCKET": f"/{'long' * 50}"}, "CMS_D1_SOCKET: nothing can listen there: AF_UNIX path too"),
    ({"OPS_HOST": "192.0.2.1"}, "CMS_OPS_HOST, CMS_OPS_PORT: nothing can listen there: "),
    (
        {"CARDHOLDER_HOST": "192.0.2.1"},
        "CMS_CARDHOLDER_HOST, CMS_CARDHOLDER_PORT: nothing can listen there: ",
    ),
    (
        {"LISTENERS": "cardholder", "CARDHOLDER_HOST": "192.0.2.1"},
        "CMS_CARDHOLDER_HOST, CMS_CARDHOLDER_PORT: nothing can listen there: ",
    ),
)


def written(directory: Path, name: str, made: pki.Pki) -> Path:
    """Write a file of which something is wrong."""
    content, mode = {
        "open": (b"postgresql:///cms", 0o644),
        "bytes": (b"\xff", 0o600),
        "short": (b"short", 0o600),
        "far": (b"postgresql://cms:s3cret@db.example/cms", 0o600),
        "another key": (made.ca.key.read_bytes(), 0o600),
    }[name]
    file = directory / "wrong"
    file.write_bytes(content)
    file.chmod(mode)
    return file


def outcome(given: Mapping[str, object], monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """Start the service with these settings and return its exit code."""
    for name, value in given.items():
        if value is not None:
            monkeypatch.setenv(f"CMS_{name}", str(value))
    return main(["serve", *words])


def test_with_settings_in_which_nothing_is_wrong_it_starts(
    environment: Mapping[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert outcome(environment, monkeypatch, "--sandbox") == 0


def test_two_listeners_at_one_address_are_refused(
    environment: Mapping[str, object],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Each alone could be shared by workers, and who asks one might reach the other."""
    with closing(_tcp_socket("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    one = {"OPS_HOST": "127.0.0.1", "CARDHOLDER_HOST": "127.0.0.1"}
    one |= {"OPS_PORT": port, "CARDHOLDER_PORT": port}
    assert outcome({**environment, **one}, monkeypatch, "--sandbox") == 1
    (record,) = [x for x in caplog.records if x.getMessage() == "not_started"]
    names = "CMS_CARDHOLDER_HOST, CMS_CARDHOLDER_PORT"
    assert record.__dict__["reason"].startswith(f"{names}: nothing can listen there: Address")


@pytest.mark.parametrize(("changes", "begins"), REFUSALS, ids=str)
def test_each_refusal_begins_with_the_settings_and_ends_with_a_page(
    environment: Mapping[str, object],
    changes: Mapping[str, object],
    begins: str,
    made: pki.Pki,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    files = {"open", "bytes", "short", "far", "another key"}
    given = {
        name: written(tmp_path, str(value), made) if value in files else value
        for name, value in changes.items()
    }
    assert outcome({**environment, **given}, monkeypatch, "--sandbox") != 0
    reasons = [
        str(record.__dict__["reason"])
        for record in caplog.records
        if record.getMessage() == "not_started"
    ]
    (line,) = [*capsys.readouterr().err.splitlines(), *reasons]
    assert line.startswith(begins)
    assert re.search(r"; see docs/[a-z-]+\.md\Z", line)
    assert "s3cret" not in line


def test_what_the_sandbox_made_is_refused_in_the_same_way(
    environment: Mapping[str, object],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert outcome(environment, monkeypatch) != 0
    reason = str(caplog.records[-1].__dict__["reason"])
    assert reason.startswith("CMS_D1_CERTIFICATE_FILE holds a certificate of the sandbox's")
    assert reason.endswith("; see docs/settings.md")

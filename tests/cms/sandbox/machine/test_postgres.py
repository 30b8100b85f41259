import contextlib
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from cms.sandbox import HANG_SECONDS
from cms.sandbox.machine import postgres
from cms.sandbox.machine.postgres import Postgres, PostgresError
from tests.processes import runs

ROOT = Path(__file__).parents[4]
NOBODY = 65534
# A fork keeps the modules that another user may not read.
FORK = multiprocessing.get_context("fork")
OWNER = """
import pathlib, signal, sys
from cms.sandbox.machine.postgres import Postgres, exit_on_sigterm
exit_on_sigterm()
with Postgres(pathlib.Path(sys.argv[1])) as server:
    print(server.url(), flush=True)
    signal.pause()
"""


@pytest.fixture(scope="module")
def initialised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("postgres") / "data"
    with Postgres(data):
        pass
    return data


@pytest.fixture
def data(initialised: Path, tmp_path: Path) -> Path:
    return shutil.copytree(initialised, tmp_path / "data")


@pytest.fixture
def open_home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Yield a directory of nobody's, with binaries that everybody can reach wherever ours are."""
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        home.chmod(0o755)
        installed = Path(postgres._binary("postgres")).parents[1]
        copy = home / installed.parent.name / installed.name
        shutil.copytree(installed, copy)
        libraries = f"{installed.parent.name}.libs"
        shutil.copytree(installed.parents[1] / libraries, home / libraries)
        monkeypatch.setattr(postgres, "_binary", lambda program: str(copy / "bin" / program))
        if os.geteuid() == 0:
            os.chown(home, NOBODY, NOBODY)
        yield home


def fetch(server: Postgres, query: str) -> object:
    with psycopg.connect(server.url()) as connection:
        row = connection.execute(query.encode()).fetchone()
    return row and row[0]


def socket_of(url: str) -> Path:
    return Path(str(conninfo_to_dict(url)["host"]))


def postmaster(data: Path) -> int:
    return int((data / "postmaster.pid").read_text().split()[0])


def await_end(pid: int) -> None:
    deadline = time.monotonic() + HANG_SECONDS
    while runs(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextlib.contextmanager
def owner(data: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Run an owner; yield it and the directory of its socket."""
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, data], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield process, socket_of(process.stdout.readline().strip())
        finally:
            process.kill()


@pytest.mark.parametrize(
    "path", ["a space/the data", "/".join(["deep" * 8] * 5), "data"], ids=["space", "long", "plain"]
)
def test_initialises_any_path_and_opens_no_directory(tmp_path: Path, path: str) -> None:
    tmp_path.chmod(0o700)
    data = tmp_path / path
    with Postgres(data) as server:
        assert fetch(server, "SELECT 1") == 1
        assert postmaster(data) > 0
    assert tmp_path.stat().st_mode & 0o777 == 0o700
    assert data.stat().st_mode & 0o777 == 0o700
    assert {found.stat().st_uid for found in tmp_path.rglob("*")} == {os.geteuid()}


def test_data_survive_a_restart(data: Path) -> None:
    server = Postgres(data)
    with server, psycopg.connect(server.url()) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS value")
    with server:
        assert fetch(server, "SELECT value FROM kept") == 7


def test_settings_are_durable_and_local(data: Path) -> None:
    with Postgres(data) as server:
        assert fetch(server, "SHOW fsync") == "on"
        assert fetch(server, "SHOW synchronous_commit") == "on"
        assert fetch(server, "SHOW max_connections") == "100"
        assert fetch(server, "SHOW server_encoding") == "UTF8"
        host = socket_of(server.url())
        assert host.stat().st_mode & 0o777 == 0o700
        files = Path(f"/proc/{postmaster(data)}/fd").iterdir()
        sockets = {str(file.readlink()) for file in files}
        tables = [Path(f"/proc/net/{name}").read_text() for name in ("tcp", "tcp6")]
        rows = [row.split() for table in tables for row in table.splitlines()[1:]]
        assert sockets.isdisjoint({f"socket:[{row[9]}]" for row in rows})


def test_log_holds_no_value(data: Path) -> None:
    failing = [
        "INSERT INTO cards VALUES (%s)",
        "INSERT INTO cards SELECT 1 WHERE 0 < %s::text::int",
        "SELECT '739182'::date WHERE 'x' <> %s",
    ]
    with Postgres(data) as server, psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute("CREATE TABLE cards (pan text PRIMARY KEY CHECK (pan < '8'))")
        for statement in failing:
            with pytest.raises(psycopg.Error, match="739182"):
                connection.execute(statement.encode(), ["x739182"])
    log = data.with_name("data.log").read_text()
    assert "ready to accept connections" in log
    assert "739182" not in log


def test_databases_are_made_from_a_template(data: Path) -> None:
    with Postgres(data) as server:
        with psycopg.connect(server.url()) as connection:
            connection.execute("CREATE TABLE made AS SELECT 3 AS value")
        server.create_database("a test's", template="cms")
        connection = psycopg.connect(server.url("a test's"))
        assert connection.execute("SELECT value FROM made").fetchone() == (3,)
        server.drop_database("a test's")
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(server.url("a test's"))
        server.drop_database("a test's")


def test_stop_is_idempotent_and_removes_the_socket(data: Path) -> None:
    server = Postgres(data)
    server.stop()
    server.start()
    host = socket_of(server.url())
    pid = postmaster(data)
    server.stop()
    server.stop()
    assert not host.exists()
    assert not runs(pid)
    with pytest.raises(PostgresError, match="not running"):
        server.url()


def test_an_exception_stops_the_server(data: Path) -> None:
    with pytest.raises(LookupError), Postgres(data):
        raise LookupError
    assert not (data / "postmaster.pid").exists()


def test_live_data_are_refused(data: Path) -> None:
    with Postgres(data) as server:
        with pytest.raises(PostgresError, match="another server runs"):
            server.start()
        # As for a server that somebody else started: only Postgres's own lock is left.
        data.with_name("data.log").unlink()
        with pytest.raises(PostgresError, match="did not start"):
            Postgres(data).start()
        assert fetch(server, "SELECT 1") == 1


def test_foreign_files_are_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine").touch()
    with pytest.raises(PostgresError, match="initdb failed"):
        Postgres(tmp_path / "data").start()
    assert [tmp_path / "data" / "mine"] == list((tmp_path / "data").iterdir())


def test_a_crashed_server_starts_again(data: Path) -> None:
    with Postgres(data):
        pid = postmaster(data)
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        os.kill(pid, signal.SIGKILL)
        for child in children:
            await_end(int(child))
    assert postmaster(data) == pid
    with Postgres(data) as server:
        assert fetch(server, "SELECT 1") == 1


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, -2)], ids=["TERM", "INT"]
)
def test_a_signalled_owner_leaves_nothing(data: Path, number: signal.Signals, status: int) -> None:
    with owner(data) as (process, host):
        pid = postmaster(data)
        process.send_signal(number)
        assert process.wait(HANG_SECONDS) == status
        assert not runs(pid)
        assert not host.exists()
        assert not (data / "postmaster.pid").exists()


@pytest.mark.parametrize("refused", [False, True], ids=["namespace", "nobody"])
def test_a_killed_owner_leaves_no_server(
    open_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: bool
) -> None:
    if refused:
        monkeypatch.setattr(postgres, "_namespace_reaches", lambda _: False)
    receive, send = FORK.Pipe(duplex=False)

    def own() -> None:
        with Postgres(tmp_path / "data") as server:
            send.send((server.url(), fetch(server, "SHOW data_directory")))
            signal.pause()

    process = FORK.Process(target=own)
    process.start()
    assert receive.poll(HANG_SECONDS)
    url, data = receive.recv()
    pid = postmaster(Path(data))
    process.kill()
    await_end(pid)
    # It went through its own shutdown, which is what frees the shared memory.
    assert not Path(data, "postmaster.pid").exists()
    shutil.rmtree(socket_of(url))


def test_an_owner_ended_while_initialising_leaves_nothing_half_made(tmp_path: Path) -> None:
    data = tmp_path / "data"
    process = subprocess.Popen([sys.executable, "-c", OWNER, data], cwd=ROOT)
    deadline = time.monotonic() + HANG_SECONDS
    while not (data / "pg_hba.conf").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.terminate()
    assert process.wait(HANG_SECONDS) == 143
    with Postgres(data) as server:
        assert fetch(server, "SELECT 1") == 1


def test_runs_as_another_user(initialised: Path, open_home: Path) -> None:
    def use() -> None:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        with Postgres(open_home / "data") as server:
            assert fetch(server, "SELECT 1") == 1

    child = FORK.Process(target=use)
    child.start()
    child.join(HANG_SECONDS)
    assert child.exitcode == 0
    assert open_home.stat().st_uid == (open_home / "data" / "PG_VERSION").stat().st_uid


def test_runs_as_nobody_where_namespaces_are_refused(
    open_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "_namespace_reaches", lambda _: False)
    monkeypatch.chdir(tmp_path)
    with Postgres(tmp_path / "data") as server:
        host = socket_of(server.url())
        assert fetch(server, "SHOW data_directory") == str(
            host / "data" if os.geteuid() == 0 else tmp_path / "data"
        )
        assert host.stat().st_mode & 0o777 == 0o700
        assert host.stat().st_uid == (NOBODY if os.geteuid() == 0 else os.geteuid())
    assert not host.exists()


def test_a_program_that_nobody_cannot_reach_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir(mode=0o700)
    shutil.copy("/bin/true", hidden / "postgres")
    monkeypatch.setattr(postgres, "_namespace_reaches", lambda _: False)
    monkeypatch.setattr(postgres, "_binary", lambda program: str(hidden / program))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(PostgresError, match="run this as another user"):
        Postgres(tmp_path / "data").start()


def test_namespaces_without_unshare_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not postgres._namespace_reaches(tmp_path)

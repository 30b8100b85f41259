"""PgBouncer in front of a test's Postgres, as an operator may have it."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal
from urllib.parse import quote

import psycopg
from psycopg.conninfo import conninfo_to_dict

from cms.sandbox import HANG_SECONDS
from cms.sandbox.machine import postgres
from tests.deployment import wait_for

BINARY: Final = "/usr/sbin/pgbouncer"
PORT: Final = 6432
CONFIGURATION: Final = """
[databases]
* = host={host} port={port} user=cms

[pgbouncer]
listen_addr =
unix_socket_dir = {directory}
listen_port = {listen_port}
auth_type = any
pool_mode = {pool_mode}
default_pool_size = {pool_size}
"""


@contextmanager
def pgbouncer(
    database_url: str, pool_mode: Literal["session", "transaction", "statement"], pool_size: int
) -> Iterator[str]:
    """Run PgBouncer as it is installed; yield the URL that leads through it."""
    behind = conninfo_to_dict(database_url)
    with tempfile.TemporaryDirectory() as made:  # a socket's path is short
        directory = Path(made)
        configuration = directory / "pgbouncer.ini"
        configuration.write_text(
            CONFIGURATION.format(
                host=behind["host"],
                port=behind["port"],
                directory=directory,
                listen_port=PORT,
                pool_mode=pool_mode,
                pool_size=pool_size,
            )
        )
        url = f"postgresql://cms@/{behind['dbname']}?host={quote(made, safe='')}&port={PORT}"
        with (directory / "log").open("wb") as log:
            process = subprocess.Popen(
                [*not_as_root(directory), BINARY, str(configuration)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            wait_for(lambda: _answers(url))
            yield url
        finally:
            process.terminate()
            process.wait(HANG_SECONDS)


def not_as_root(directory: Path) -> tuple[str, ...]:
    """What a command begins with that refuses root, as PgBouncer, Postgres and Patroni do.

    It has to reach *directory*, and the socket of a Postgres that root runs, all the same.
    """
    if os.geteuid() != 0:
        return ()
    if postgres._namespace_reaches(directory):
        return postgres._IN_NAMESPACE
    for path in (directory, *directory.rglob("*")):
        shutil.chown(path, postgres._NOBODY, postgres._NOBODY)
    return ("setpriv", *postgres._AS_NOBODY)


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=HANG_SECONDS).close()
    except psycopg.OperationalError:
        return False
    return True

"""The service with its database on three machines, the ways to there, and D1 that calls it."""

import logging
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

import psycopg

from cms.sandbox import HANG_SECONDS
from cms.sandbox.machine.softhsm import SoftHsm
from hsm.pkcs11.token import Pkcs11Token
from tests.deployment import Service, deployment, end, free_ports, wait_for
from tests.e2e.load import BROKEN, Load, verify
from tests.ha.cluster import DATABASE, DEPLOY, Cluster, Member
from tests.ha.machines import LOOPBACK
from tests.pgbouncer import BINARY as PGBOUNCER
from tests.pgbouncer import PORT, not_as_root
from tests.proxies import HAPROXY

CARDS: Final = ("card-1", "card-2", "card-3", "card-4")
CALLERS: Final = 3
PAUSE_SECONDS: Final = 0.2
ROLE: Final = "cms_service"
log = logging.getLogger(__name__)


@contextmanager
def hosts(cluster: Cluster) -> Iterator[str]:
    """The service finds the leader itself, among the three that its URL names."""
    yield cluster.url(ROLE)


@contextmanager
def haproxy(cluster: Cluster) -> Iterator[str]:
    """HAProxy leads to the leader."""
    with _haproxy(cluster) as port:
        yield cluster.url(ROLE, [f"localhost:{port}"])


@contextmanager
def pgbouncer(cluster: Cluster) -> Iterator[str]:
    """PgBouncer before HAProxy, by a unix socket."""
    with _haproxy(cluster) as port, ExitStack() as stack:
        directory = cluster.directory / "pgbouncer"
        directory.mkdir()
        text = (DEPLOY / "patroni" / "pgbouncer.ini").read_text()
        text = text.replace("/etc/pgbouncer", str(directory))
        (directory / "pgbouncer.ini").write_text(text.replace("/run/pgbouncer", str(directory)))
        pins = f"{DATABASE} = host={LOOPBACK} port={port} dbname={DATABASE}\n"
        (directory / "pins.ini").write_text(pins)
        (directory / "userlist.txt").write_text(f'"{ROLE}" "{cluster.passwords[ROLE]}"\n')
        (directory / "db-ca.pem").write_bytes(cluster.ca.read_bytes())
        command = (*not_as_root(directory), PGBOUNCER, str(directory / "pgbouncer.ini"))
        stack.enter_context(_running(command, {}, cluster.directory / "pgbouncer.log"))
        login = f"{ROLE}:{cluster.passwords[ROLE]}"
        url = f"postgresql://{login}@/{DATABASE}?host={quote(str(directory), safe='')}&port={PORT}"
        wait_for(lambda: _answers(url))
        yield url


@contextmanager
def _haproxy(cluster: Cluster) -> Iterator[int]:
    (port,) = free_ports(1)
    variables = {"POSTGRES_BIND": f"{LOOPBACK}:{port}"}
    for number, member in enumerate(cluster.members, 1):
        variables[f"DB{number}"] = member.place(member.ports.postgres)
        variables[f"DB{number}_REST"] = str(member.ports.rest)
    command = (HAPROXY, "-db", "-f", str(DEPLOY / "patroni" / "haproxy.cfg"))
    with _running(command, variables, cluster.directory / "haproxy.log"):
        wait_for(lambda: _answers(cluster.url(ROLE, [f"localhost:{port}"])))
        yield port


@contextmanager
def _running(command: tuple[str, ...], variables: Mapping[str, str], log: Path) -> Iterator[None]:
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, env=variables, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        yield
    finally:
        end(process)


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=HANG_SECONDS).close()
    except psycopg.OperationalError:
        return False
    return True


@dataclass
class Served:
    """The service over a cluster, and D1 that sets PINs meanwhile."""

    cluster: Cluster
    service: Service
    load: Load

    @contextmanager
    def through(self, event: str) -> Iterator[Member]:
        """Have D1 call while *event* happens in the block; then nothing that counted is lost.

        Yields the leader. The block ends when all is well again.
        """
        self.cluster.wait_until_whole()
        self.service.wait_until_ready()
        leader = self.cluster.leader()
        assert leader is not None
        before = len(self.load.answers)
        workers = self.service.workers()
        with self.load.running(CALLERS):
            self.load.wait_for_one(204)
            since = time.monotonic()
            yield leader
            self.load.wait_for_one(204)
        answers = self.load.answers[before:]
        log.warning(
            "%s: %.1f s without a change, %d changes, %d answers of 503",
            event,
            self.load.outage_seconds(since),
            answers.count(204),
            answers.count(503),
        )
        assert BROKEN not in answers
        assert self.service.workers() == workers
        self.cluster.wait_until_whole()
        verify(self.load, self.cluster.url("cms_owner"))

    def reasons(self) -> list[str]:
        """Why the database was unavailable, as each worker's log tells it."""
        return [line["reason"] for line in self.service.lines("database.unavailable")]


@contextmanager
def served(
    cluster: Cluster,
    way: Callable[[Cluster], AbstractContextManager[str]],
    directory: Path,
    softhsm: SoftHsm,
    hsm_token: Pkcs11Token,
) -> Iterator[Served]:
    """Run the service that reaches the database by *way*, until the block ends."""
    issuer_id = f"habank{secrets.token_hex(2)}"
    with way(cluster) as url:
        url_file = directory / "service-url"
        url_file.write_text(url)
        url_file.chmod(0o600)
        owner = cluster.url("cms_owner")
        made = deployment(directory, owner, softhsm, workers=2, database_url_file=url_file)
        load = Load(
            made.enrol(hsm_token, issuer_id), CARDS, secrets.randbelow(10**6), PAUSE_SECONDS
        )
        with made.serving() as service:
            yield Served(cluster, service, load)

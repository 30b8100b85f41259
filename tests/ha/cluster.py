"""Postgres on three machines with Patroni and etcd, as ``deploy/patroni`` configures them."""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from cms.persistence.migrate import upgrade
from cms.sandbox import HANG_SECONDS
from cms.sandbox.machine import pki
from cms.sandbox.machine.postgres import _DIES_WITH_OWNER
from tests.deployment import ROOT, free_ports, kill_at_once, wait_for
from tests.ha.machines import LOOPBACK, Machine, machines
from tests.pgbouncer import not_as_root
from tests.processes import family, runs

DEPLOY: Final = ROOT / "deploy"
BINARIES: Final = Path("/usr/lib/postgresql/15/bin")
ETCD: Final = "/usr/bin/etcd"
PATRONI, PATRONICTL = (str(Path(sys.executable).with_name(n)) for n in ("patroni", "patronictl"))
PROGRAMS: Final = (ETCD, PATRONI, str(BINARIES / "postgres"))
DATABASE: Final = "pins"
ANSWER_SECONDS_MAX: Final = 1.0
ALIVE: Final = ("running", "streaming")
WHOLE: Final = ["leader", "replica", "sync_standby"]


def why_not() -> str:
    """Say why no cluster can run here; empty: it can."""
    missing = [program for program in PROGRAMS if not Path(program).exists()]
    return f"not installed: {', '.join(missing)}; make ha-test installs them" if missing else ""


@dataclass(frozen=True)
class Ports:
    postgres: int
    rest: int
    etcd: int
    etcd_peer: int


@dataclass
class Member:
    """One of three: a machine with etcd, Patroni and the Postgres that Patroni runs."""

    name: str
    machine: Machine
    ports: Ports
    directory: Path
    environment: Mapping[str, str]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def place(self, port: int) -> str:
        return f"{self.machine.address}:{port}"

    @property
    def configuration(self) -> Path:
        return self.directory / "patroni.yml"

    def start(self) -> None:
        """Start what does not run of etcd and Patroni; waits for nothing."""
        for command in ([ETCD], [PATRONI, str(self.configuration)]):
            if Path(command[0]).name in self.processes:
                continue
            prefix = self.machine.inside + not_as_root(self.directory) + _DIES_WITH_OWNER
            with (self.directory / "log").open("ab") as log:
                self.processes[Path(command[0]).name] = subprocess.Popen(
                    [*prefix, *command],
                    cwd=self.directory,
                    env=self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )

    def runs(self) -> bool:
        return all(process.poll() is None for process in self.processes.values())

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text()

    def postmaster(self) -> int | None:
        """The process of Postgres, which is no child of Patroni."""
        with suppress(OSError, ValueError, IndexError):
            pid = int((self.directory / "data" / "postmaster.pid").read_text().splitlines()[0])
            if runs(pid):
                return pid
        return None

    def kill(self, *programs: str) -> None:
        """End Postgres and *programs* at once; without any, all, as a machine without power."""
        ended = [self.processes.pop(name) for name in programs or tuple(self.processes)]
        postmaster = self.postmaster()
        kill_at_once(*(each.pid for each in ended), *([postmaster] if postmaster else []))
        for process in ended:
            process.wait()

    def kill_postgres(self) -> None:
        postmaster = self.postmaster()
        assert postmaster is not None
        kill_at_once(postmaster)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Have all of it stand still until the block ends: it keeps its connections."""
        parents = [each.pid for each in self.processes.values()]
        postmaster = self.postmaster()
        assert postmaster is not None
        pids = [pid for each in (*parents, postmaster) for pid in (each, *family(each))]
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def end(self) -> None:
        """End all of it; Postgres at once, but so that it leaves no shared memory."""
        postmaster = self.postmaster()
        for name in ("patroni", "etcd"):
            process = self.processes.pop(name, None)
            if process is not None:
                process.kill()
                process.wait()
        if postmaster is not None:
            os.kill(postmaster, signal.SIGQUIT)
            wait_for(lambda: not runs(postmaster))

    def ask(self, path: str) -> httpx.Response | None:
        """What its Patroni answers, if anything."""
        with suppress(httpx.TransportError):
            url = f"http://{self.place(self.ports.rest)}{path}"
            return httpx.get(url, timeout=ANSWER_SECONDS_MAX, verify=False)
        return None


@dataclass(frozen=True)
class Cluster:
    """All three, and the database of the service in them."""

    members: Sequence[Member]
    directory: Path
    passwords: Mapping[str, str]

    @property
    def ca(self) -> Path:
        return self.directory / "pki" / "ca.pem"

    def url(self, role: str, hosts: Sequence[str] = (), database: str = DATABASE) -> str:
        """The URI that names all three, or those at *hosts*."""
        places = hosts or [member.place(member.ports.postgres) for member in self.members]
        return (
            f"postgresql://{role}:{self.passwords[role]}@{','.join(places)}/{database}"
            f"?sslmode=verify-full&sslrootcert={self.ca}&target_session_attrs=read-write"
        )

    def leader(self) -> Member | None:
        """Who says that it is the leader, as HAProxy asks."""
        for member in self.members:
            answer = member.ask("/primary")
            if answer is not None and answer.status_code == 200:
                return member
        return None

    def standbys(self) -> list[Member]:
        leader = self.leader()
        return [member for member in self.members if member is not leader]

    def synchronous(self) -> Member | None:
        """The standby that has every change which counts, if there is one."""
        names = [each["name"] for each in self.seen() if each["role"] == "sync_standby"]
        return next((member for member in self.members if member.name in names), None)

    def seen(self) -> list[dict[str, Any]]:
        """The members, as the leader sees them."""
        leader = self.leader()
        return [] if leader is None else seen_by(leader)

    def is_whole(self) -> bool:
        """Whether all agree on a leader, its synchronous standby, and one more that follows it.

        Who just came back believes for a moment what it knew before.
        """
        views = [seen_by(member) for member in self.members]
        agreed = {tuple(sorted((each["name"], each["role"]) for each in view)) for view in views}
        roles = sorted(each["role"] for each in views[0])
        alive = all(each["state"] in ALIVE for view in views for each in view)
        timelines = {each.get("timeline") for view in views for each in view}
        return roles == WHOLE and len(agreed) == 1 and alive and len(timelines) == 1

    def wait_until_whole(self) -> None:
        wait_for(self.is_whole)

    def wait_for_another_leader(self, than: Member) -> Member:
        """Wait until another member leads, and return it."""
        found: list[Member] = []

        def another() -> bool:
            leader = self.leader()
            if leader is not None and leader is not than:
                found.append(leader)
            return bool(found)

        wait_for(another)
        return found[0]

    def switch_over(self) -> None:
        """Have another member lead, as an operator does."""
        leader = self.leader()
        assert leader is not None
        words = ("switchover", "pins", "--leader", leader.name, "--force")
        self._run(leader, PATRONICTL, "-c", str(leader.configuration), *words)

    def make_database(self) -> None:
        """Make the service's database, its two roles and what they may do."""
        leader = self.leader()
        assert leader is not None
        there = [leader.place(leader.ports.postgres)]
        files = {"OWNER_URL_FILE": "cms_owner", "SERVICE_URL_FILE": "cms_service"}
        for variable, role in files.items():
            (self.directory / variable).write_text(self.url(role))
        variables = {name: str(self.directory / name) for name in files}
        for database, words in (
            ("postgres", ("--command", f"CREATE DATABASE {DATABASE}")),
            (DATABASE, ("--file", str(DEPLOY / "roles.sql"))),
        ):
            url = self.url("postgres", there, database)
            self._run(leader, str(BINARIES / "psql"), "-qX", *words, url, **variables)
        upgrade(self.url("cms_owner"))
        grants = ("--file", str(DEPLOY / "grants.sql"), self.url("cms_owner"))
        self._run(leader, str(BINARIES / "psql"), "-qX", *grants)

    def _run(self, member: Member, *command: str, **variables: str) -> None:
        done = subprocess.run(
            [*member.machine.inside, *command],
            env={**member.environment, **variables},
            capture_output=True,
            text=True,
            check=False,
            timeout=HANG_SECONDS,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def seen_by(member: Member) -> list[dict[str, Any]]:
    """All members, as the Patroni of one sees them; none if it does not answer."""
    answer = member.ask("/cluster")
    if answer is None or answer.status_code != 200:
        return []
    members: list[dict[str, Any]] = answer.json()["members"]
    return members


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Run three members until the block ends."""
    with ExitStack() as stack:
        made = stack.enter_context(machines())
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cms-ha-")))
        pki.create(directory / "pki", hosts=["localhost", LOOPBACK, *{m.address for m in made}])
        names = ("postgres", "replicator", "rewinder", "cms_owner", "cms_service", "patroni")
        passwords = {name: secrets.token_hex(16) for name in names}
        members = _members(directory, made, passwords)
        for member in members:
            stack.callback(member.end)
            member.start()
        found = Cluster(members, directory, passwords)
        wait_for(lambda: found.is_whole() or not all(member.runs() for member in members))
        assert found.is_whole(), "\n".join(member.log for member in members)
        found.make_database()
        yield found


def _members(
    directory: Path, places: Sequence[Machine], passwords: Mapping[str, str]
) -> list[Member]:
    names = [f"db{each}" for each, _ in enumerate(places, 1)]
    ports = free_ports(4 * len(places))
    members = [
        Member(name, place, Ports(*ports[4 * each : 4 * each + 4]), directory / name, {})
        for each, (name, place) in enumerate(zip(names, places, strict=True))
    ]
    peers = {each.name: f"http://{each.place(each.ports.etcd_peer)}" for each in members}
    etcd = [each.place(each.ports.etcd) for each in members]
    for member in members:
        member.directory.mkdir()
        configuration = (DEPLOY / "patroni" / "patroni.yml").read_text()
        configuration = configuration.replace("/etc/patroni", str(member.directory))
        member.configuration.write_text(configuration)
        for source, name in (("ca.pem", "db-ca.pem"), ("server.pem",) * 2, ("server.key",) * 2):
            shutil.copy(directory / "pki" / source, member.directory / name)
        member.environment = _environment(member, peers, etcd, passwords)
    return members


def _environment(
    member: Member, peers: Mapping[str, str], etcd: Sequence[str], passwords: Mapping[str, str]
) -> Mapping[str, str]:
    """What the two files of variables name, and nothing else of ours."""
    client = f"http://{member.place(member.ports.etcd)}"
    postgres, rest = member.place(member.ports.postgres), member.place(member.ports.rest)
    given = {
        "PATRONI_NAME": member.name,
        "PATRONI_RESTAPI_LISTEN": rest,
        "PATRONI_RESTAPI_CONNECT_ADDRESS": rest,
        "PATRONI_RESTAPI_USERNAME": "patroni",
        "PATRONI_RESTAPI_PASSWORD": passwords["patroni"],
        "PATRONI_ETCD3_HOSTS": ",".join(etcd),
        "PATRONI_POSTGRESQL_LISTEN": postgres,
        "PATRONI_POSTGRESQL_CONNECT_ADDRESS": postgres,
        "PATRONI_POSTGRESQL_DATA_DIR": str(member.directory / "data"),
        "PATRONI_POSTGRESQL_BIN_DIR": str(BINARIES),
        "PATRONI_POSTGRESQL_PGPASS": str(member.directory / "pgpass"),
        "PATRONI_SUPERUSER_USERNAME": "postgres",
        "PATRONI_SUPERUSER_PASSWORD": passwords["postgres"],
        "PATRONI_REPLICATION_USERNAME": "replicator",
        "PATRONI_REPLICATION_PASSWORD": passwords["replicator"],
        "PATRONI_REWIND_USERNAME": "rewinder",
        "PATRONI_REWIND_PASSWORD": passwords["rewinder"],
        "ETCD_NAME": member.name,
        "ETCD_DATA_DIR": str(member.directory / "etcd"),
        "ETCD_LISTEN_CLIENT_URLS": client,
        "ETCD_ADVERTISE_CLIENT_URLS": client,
        "ETCD_LISTEN_PEER_URLS": peers[member.name],
        "ETCD_INITIAL_ADVERTISE_PEER_URLS": peers[member.name],
        "ETCD_INITIAL_CLUSTER": ",".join(f"{name}={peer}" for name, peer in peers.items()),
        "ETCD_INITIAL_CLUSTER_TOKEN": "pins",
    }
    assert set(given) == variables("patroni.env") | variables("etcd.env")
    machine = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
    return machine | {"HOME": str(member.directory)} | given


def variables(file: str) -> set[str]:
    """The names in a file of variables."""
    lines = (DEPLOY / "patroni" / file).read_text().splitlines()
    return {line.partition("=")[0] for line in lines if line and not line.startswith("#")}

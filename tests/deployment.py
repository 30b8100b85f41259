"""The service as an operator runs it: web and vault as programs, real TLS, token and Postgres.

What a test starts ends with its block: the parent by SIGTERM, and whatever is left by its pid.
"""

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar, cast

import httpx
import psycopg
from psycopg import sql

from cms.faces.d1.oauth import TOKEN_PATH
from cms.persistence.migrate import upgrade
from cms.sandbox import HANG_SECONDS
from cms.sandbox.machine import pki
from cms.sandbox.machine.postgres import Postgres
from cms.sandbox.machine.softhsm import CONFIGURATION, SoftHsm
from cms.sandbox.partners.d1 import D1Client, D1Config, D1Error
from hsm.messages import SocketName
from hsm.pkcs11.token import Pkcs11Token
from hsm.socket_files import paths_of
from hsm.vault import Vault
from tests.issuer_records import SampleIssuer, add_clients, d1_client, open_issuer
from tests.operators import open_vault, prepare_host, reopen_vault
from tests.processes import children, command_line, family, runs, started_for

T = TypeVar("T")
Started: TypeAlias = tuple[subprocess.Popen[bytes], Path]
"""A process, and the file of what it writes."""
ROOT: Final = Path(__file__).resolve().parents[1]
SPARE_SECONDS: Final = 3600
ORGANISATION: Final = "Thales D1 (played by a test)"
TEMPLATE: Final = "migrated"
LISTENS: Final = "0A"
"""Linux, ``TCP_LISTEN``."""
VAULT: Final = ("hsm", "serve", "--sandbox")


@dataclass(frozen=True)
class Deployment:
    """Settings, certificates and a database, before anything runs."""

    directory: Path
    environment: Mapping[str, str]
    """Of the web and of the operator's commands."""
    vault_environment: Mapping[str, str]
    database_url: str

    @property
    def pki(self) -> Path:
        return self.directory / "pki"

    @property
    def host(self) -> Path:
        """The trust file of its host, and what the vault there has taken."""
        return self.directory / "host"

    @property
    def sockets(self) -> Path:
        """Where its vault listens."""
        return self.directory / "run"

    @property
    def base_url(self) -> str:
        return self.environment["CMS_PUBLIC_URL"]

    @property
    def d1_port(self) -> int:
        return int(self.environment["CMS_D1_PORT"])

    @property
    def cardholder_port(self) -> int:
        return int(self.environment["CMS_CARDHOLDER_PORT"])

    @property
    def ops_url(self) -> str:
        return f"http://127.0.0.1:{self.environment['CMS_OPS_PORT']}"

    def given(self, **settings: object) -> "Deployment":
        """The same with other settings; None takes one away."""
        return replace(self, environment=_changed(self.environment, "CMS", settings))

    def vault_given(self, **settings: object) -> "Deployment":
        """The same with other settings of the vault; None takes one away."""
        return replace(self, vault_environment=_changed(self.vault_environment, "HSM", settings))

    def behind_proxy(self) -> "Deployment":
        """The same with D1's mutual TLS ending in a proxy, which calls on a unix socket."""
        return self.given(
            d1_socket=self.directory / "d1.sock",
            d1_mtls_ends="proxy",
            d1_proxy_peers='["unix"]',
            d1_certificate_file=None,
            d1_key_file=None,
            d1_client_ca_file=None,
        )

    def for_cardholders(self) -> "Deployment":
        """The same with a cardholder listener, on a port that is free now."""
        key = self.directory / "control-token.key"
        key.write_bytes(os.urandom(32))
        key.chmod(0o600)
        (port,) = free_ports(1)
        return self.given(
            cardholder_url=f"https://localhost:{port}",
            cardholder_port=port,
            cardholder_certificate_file=self.pki / "server.pem",
            cardholder_key_file=self.pki / "server.key",
            control_token_key_file=key,
        )

    def vault(self, hsm_token: Pkcs11Token) -> Vault:
        """Open the vault of its host in this process, as each of its workers does in its own."""
        if (self.host / "minimum-versions.json").exists():
            return reopen_vault(hsm_token, self.host)
        return open_vault(hsm_token, self.host)

    def enrol(self, hsm_token: Pkcs11Token, issuer_id: str) -> "Enrolled":
        """Add an issuer, and a D1 client that has a certificate of this deployment's CA."""
        vault = self.vault(hsm_token)
        sample_issuer = open_issuer(self.database_url, vault, issuer_id)
        certificate = pki.issue_client(self.pki, issuer_id, f"tls-{issuer_id}", ORGANISATION)
        client_id = f"{issuer_id}-tls"
        subject = f"CN=tls-{issuer_id},O={ORGANISATION}"
        client = d1_client(client_id, subject, secret=sample_issuer.secret)
        add_clients(vault, issuer_id, client)
        secret, private = (
            self.directory / f"{issuer_id}.secret",
            self.directory / f"{issuer_id}.jwk",
        )
        secret.write_text(sample_issuer.secret)
        members = {
            **sample_issuer.d1_key.export_private(as_dict=True),
            "kid": sample_issuer.d1_key.thumbprint(),
        }
        private.write_text(json.dumps(members))
        config = D1Config(
            base_url=self.base_url,
            ca=self.pki / "ca.pem",
            client_cert=certificate.certificate,
            client_key=certificate.key,
            client_id=client_id,
            client_secret_file=secret,
            token_path=TOKEN_PATH,
            issuer_id=issuer_id,
            issuer_jwk=sample_issuer.d1_jwk,
            d1_private_jwk_file=private,
        )
        return Enrolled(sample_issuer, config)

    @contextmanager
    def serving(self, *, wait: bool = True, vault: Sequence[str] = VAULT) -> Iterator["Service"]:
        """Run the vault and ``python -m cms serve --sandbox`` until the block ends.

        *vault* stands in for ``python -m hsm serve``.
        """
        with self.serving_vault(vault) as (of_vault, vault_log), self.serving_web() as (web, log):
            service = Service(self, web, log, of_vault, vault_log)
            if wait:
                service.wait_until_ready()
            yield service

    @contextmanager
    def serving_web(self, *, sandbox: bool = True) -> Iterator[Started]:
        """Run ``python -m cms serve`` alone until the block ends."""
        words = ("cms", "serve", *(["--sandbox"] if sandbox else []))
        with self._running(words, self.environment) as started:
            yield started

    @contextmanager
    def serving_vault(self, words: Sequence[str] = VAULT) -> Iterator[Started]:
        """Run a vault alone until the block ends; it listens at once, and opens meanwhile."""
        with self._running(words, self.vault_environment) as (process, log):
            wait_for(lambda: self.is_bound() or process.poll() is not None)
            assert process.poll() is None, log.read_text()
            yield process, log

    def is_bound(self) -> bool:
        """Whether the vault's sockets are there."""
        return all(paths_of(self.sockets, name) for name in SocketName)

    @contextmanager
    def _running(self, words: Sequence[str], environment: Mapping[str, str]) -> Iterator[Started]:
        log = self.directory / f"{words[0]}-{secrets.token_hex(4)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", *words],
                cwd=ROOT,
                env=environment,
                stdout=output,
                stderr=output,
            )
        try:
            yield process, log
        finally:
            below = family(process.pid)
            end(process)
            for pid in filter(runs, below):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def _changed(
    environment: Mapping[str, str], prefix: str, settings: Mapping[str, object]
) -> Mapping[str, str]:
    names = {f"{prefix}_{name.upper()}": value for name, value in settings.items()}
    kept = {name: value for name, value in environment.items() if name not in names}
    return kept | {name: str(value) for name, value in names.items() if value is not None}


@dataclass(frozen=True)
class Enrolled:
    """An issuer, and what D1 holds for it."""

    sample_issuer: SampleIssuer
    config: D1Config

    def client(self, tls: ssl.SSLContext | None = None) -> D1Client:
        """D1, with the certificate and TLS of *tls* where that is given."""
        return D1Client(self.config, httpx.HTTPTransport(verify=tls) if tls else None)

    def tls(self, **files: Path) -> ssl.SSLContext:
        """D1's side of TLS, with another certificate and key where given."""
        context = ssl.create_default_context(cafile=self.config.ca)
        context.load_cert_chain(
            files.get("certificate", self.config.client_cert),
            files.get("key", self.config.client_key),
        )
        return context


@dataclass(frozen=True)
class Service:
    """A running service."""

    deployment: Deployment
    process: subprocess.Popen[bytes]
    """Of the web."""
    log: Path
    vault: subprocess.Popen[bytes]
    vault_log: Path

    def ops(self, path: str) -> httpx.Response:
        # Without TLS: httpx would read the list of CAs each time, for longer than the answer takes.
        return httpx.get(self.deployment.ops_url + path, timeout=HANG_SECONDS, verify=False)

    def ready(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return self.ops("/readyz").status_code == 200
        return False

    def readiness(self) -> dict[str, bool]:
        """What is ready, without what is wrong in detail."""
        answer = self.ops("/readyz").json()
        return {name: answer[name] for name in ("ready", "vault", "database")}

    def answers(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return self.ops("/healthz").status_code == 200
        return False

    def wait_until_ready(self) -> None:
        # The listener that says so is there a moment before the others.
        given = self.deployment.environment
        names = ["CMS_CARDHOLDER_PORT", *([] if "CMS_D1_SOCKET" in given else ["CMS_D1_PORT"])]
        ports = [int(given[name]) for name in names if name in given]
        self._wait_until(lambda: self.ready() and all(map(is_listened_on, ports)))

    def wait_until_answering(self) -> None:
        self._wait_until(self.answers)

    def _wait_until(self, condition: Callable[[], bool]) -> None:
        wait_for(lambda: condition() or self.process.poll() is not None)
        assert self.process.poll() is None, self.log.read_text() + self.vault_log.read_text()

    def refused(self, kind: str) -> int:
        """How many callers the one worker turned away."""
        refused: dict[str, int] = self.ops("/healthz").json()["refused"]
        return refused.get(kind, 0)

    def lines(self, event: str) -> list[dict[str, Any]]:
        """The log lines of one kind, of the web."""
        return lines_of(self.log, event)

    def vault_lines(self, event: str) -> list[dict[str, Any]]:
        """The log lines of one kind, of the vault."""
        return lines_of(self.vault_log, event)

    def tls_socket(
        self, context: ssl.SSLContext, session: ssl.SSLSession | None = None
    ) -> ssl.SSLSocket:
        """Shake hands with D1's listener; the caller closes it."""
        address = ("127.0.0.1", self.deployment.d1_port)
        plain = socket.create_connection(address, timeout=HANG_SECONDS)
        return context.wrap_socket(plain, server_hostname="localhost", session=session)

    def vault_workers(self) -> list[int]:
        return children(self.vault.pid)

    def workers(self) -> list[int]:
        return [pid for pid in children(self.process.pid) if "spawn_main" in command_line(pid)]


def lines_of(log: Path, event: str) -> list[dict[str, Any]]:
    """The lines of one kind."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return [line for line in lines if line["event"] == event]


@dataclass(frozen=True)
class Shared:
    """A running service, and D1 for each of its issuers."""

    service: Service
    first: Enrolled
    second: Enrolled


class CrashingPostgres(Postgres):
    """A server that can be killed and started again where its clients know it."""

    def crash(self) -> None:
        """End every process of the server at once, and wait until none holds its memory."""
        assert self._process is not None
        kill_at_once(self._process.pid)
        self._process.wait()

    def recover(self, log: Path) -> None:
        """Run the same command again, on the same socket."""
        assert self._process is not None
        command = cast("Sequence[str]", self._process.args)
        with log.open("ab") as output:
            self._await(self._spawn(output, *command))


def kill_at_once(*parents: int) -> None:
    """Kill processes and all that is below them, and wait until none of it runs."""
    for pid in parents:
        os.kill(pid, signal.SIGSTOP)  # it cannot start one more, which would outlive it
    below = [pid for parent in parents for pid in family(parent)]
    for pid in (*parents, *below):
        with contextlib.suppress(ProcessLookupError):  # one ended on its own
            os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not any(map(runs, (*parents, *below))))


@contextmanager
def stopped(server: Postgres) -> Iterator[None]:
    """Stop every process of a server: it keeps its connections and answers nothing."""
    assert server._process is not None
    pids = [server._process.pid, *family(server._process.pid)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def deployment(
    directory: Path, database_url: str, softhsm: SoftHsm, **settings: object
) -> Deployment:
    """Make certificates and settings: one worker, ports that are free now."""
    pki.create(directory / "pki")
    url_file = directory / "database-url"
    url_file.write_text(database_url)
    url_file.chmod(0o600)
    d1_port, ops_port = free_ports(2)
    host = directory / "host"
    host.mkdir()
    public_url = f"https://localhost:{d1_port}"
    made = Deployment(
        directory, without_settings(), without_settings() | softhsm.environment, database_url
    )
    made.sockets.mkdir(mode=0o700)
    return (
        made.vault_given(
            state_directory=host,
            trust_file=prepare_host(host),
            socket_directory=made.sockets,
            deadline_seconds=HANG_SECONDS,
            token_issuer=public_url,
        )
        .given(
            database_url_file=url_file,
            public_url=public_url,
            workers=1,
            d1_port=d1_port,
            ops_port=ops_port,
            vault_socket_directory=made.sockets,
            vault_silence_seconds=HANG_SECONDS,
            d1_certificate_file=directory / "pki" / "server.pem",
            d1_key_file=directory / "pki" / "server.key",
            d1_client_ca_file=directory / "pki" / "ca.pem",
        )
        .given(**settings)
    )


def own_token(softhsm: SoftHsm, directory: Path) -> SoftHsm:
    """Copy a token: the copy opens what the original sealed, and can be taken away."""
    shutil.copytree(softhsm.directory, directory)
    (directory / "softhsm2.conf").write_text(CONFIGURATION.format(tokens=directory / "tokens"))
    return SoftHsm(directory)


def add_template(postgres: Postgres) -> None:
    """Make a migrated database to copy."""
    postgres.create_database(TEMPLATE)
    upgrade(postgres.url(TEMPLATE))


def new_database(postgres: Postgres) -> str:
    """Copy the migrated database of a server and return the copy's URI."""
    name = f"e2e_{secrets.token_hex(6)}"
    postgres.create_database(name, template=TEMPLATE)
    return postgres.url(name)


def lengthen_control_tokens(database_url: str) -> None:
    """Have control tokens live longer by :data:`SPARE_SECONDS`, which a busy machine may need."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            sql.SQL(
                "CREATE FUNCTION lengthen() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
                " NEW.expires_at := NEW.expires_at + make_interval(secs => {});"
                " RETURN NEW; END $$"
            ).format(SPARE_SECONDS)
        )
        connection.execute(
            "CREATE TRIGGER lengthen BEFORE INSERT ON control_tokens"
            " FOR EACH ROW EXECUTE FUNCTION lengthen()"
        )


@contextmanager
def in_sql_ascii(server: Postgres) -> Iterator[str]:
    """A database whose texts may be anything, as initdb makes it where no locale is set."""
    name = f"ascii_{secrets.token_hex(6)}"
    server._execute("CREATE DATABASE {} ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0", name)
    yield server.url(name)
    server.drop_database(name)


def without_settings() -> dict[str, str]:
    """The environment of this process without any setting of ours."""
    ours = ("CMS_", "HSM_", "SOFTHSM2_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def is_listened_on(port: int) -> bool:
    """Whether a process accepts connections on a port of IPv4; it gets none by this question."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    sockets = (line.split()[1:4] for line in lines)
    return any(own.endswith(f":{port:04X}") and state == LISTENS for own, _, state in sockets)


def wait_for(condition: Callable[[], bool]) -> None:
    """Poll until *condition* holds."""
    deadline = time.monotonic() + HANG_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it does not come true"
        time.sleep(0.02)


def patiently(call: Callable[[], T]) -> T:
    """Call until the answer is not 503: the service is busy, or comes back to itself."""
    deadline = time.monotonic() + HANG_SECONDS
    while time.monotonic() < deadline:
        try:
            answer = call()
        except D1Error as error:
            if error.status != HTTPStatus.SERVICE_UNAVAILABLE:
                raise
        else:
            if getattr(answer, "status_code", None) != HTTPStatus.SERVICE_UNAVAILABLE:
                return answer
        time.sleep(0.05)
    raise AssertionError("nothing but 503")


def stop(process: subprocess.Popen[bytes], directory: Path) -> None:
    """End *process* politely; whatever was started for *directory* and is left, by its pid."""
    end(process)
    for pid in started_for(directory):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process politely, or kill it."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(HANG_SECONDS)
    process.kill()
    process.wait()

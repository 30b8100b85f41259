"""Two hosts of one service, each with a web, a vault, an HSM and a state of its own."""

import itertools
import json
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Concatenate, Final, Generic, ParamSpec, TypeVar

import httpx

from cms.operator.log_comparison import EVENTS, RECENT, Comparison
from cms.persistence import admin
from cms.sandbox import HANG_SECONDS
from cms.sandbox.machine.softhsm import SoftHsm
from cms.sandbox.partners.client import Client
from cms.sandbox.partners.d1 import D1Client, D1Error
from cms.sandbox.partners.hosted_app import HostedClient, HostedConfig, HostedError
from cms.sandbox.partners.pincontrol_server import PinControlClient, PinControlConfig
from hsm.log.host_log import HostLog
from hsm.log.lines import Line
from hsm.manifest.model import parse
from hsm.vault import Vault
from tests.bearers import bearer
from tests.deployment import (
    ROOT,
    VAULT,
    Deployment,
    Enrolled,
    Service,
    Started,
    deployment,
    kill_at_once,
    own_token,
)
from tests.issuer_records import SECRET, run_sql
from tests.operators import signed

C = TypeVar("C", bound=Client)
T = TypeVar("T")
P = ParamSpec("P")
PROGRAMS: Final = ("vault", "web")
#: What the hosts of one service have in common, beside the database and the keys of the HSM.
SHARED: Final = (
    *("public_url", "d1_certificate_file", "d1_key_file", "d1_client_ca_file"),
    *("cardholder_url", "cardholder_certificate_file", "cardholder_key_file"),
    "control_token_key_file",
)


def first_and_second(
    directory: Path, database_url: str, softhsm: SoftHsm
) -> tuple[Deployment, Deployment]:
    """Make the settings of two hosts.

    The HSM of each is a copy of *softhsm*, as a backup of its keys is restored into another one.
    """
    made = []
    for name in ("a", "b"):
        home = directory / name
        home.mkdir()
        prepared = deployment(
            *(home, database_url, own_token(softhsm, home / "softhsm")),
            host_name=name,
            vault_wait_seconds_max=HANG_SECONDS,
        )
        made.append(prepared.for_cardholders())
    first, second = made
    shared = {name: first.environment[f"CMS_{name.upper()}"] for name in SHARED}
    return first, second.given(**shared).vault_given(token_issuer=first.base_url)


def next_manifest(vault: Vault, issuer_id: str, **members: object) -> str:
    """Sign the manifest that follows the one in force, and differs from it in these members."""
    body = vault.read_manifest(issuer_id).model_dump(mode="json")
    changed = {**body, "version": body["version"] + 1, **members}
    return signed(parse(json.dumps(changed).encode()).canonical())


class Host:
    """A host that is started, stopped and killed, and starts again where its clients know it."""

    def __init__(self, deployed: Deployment) -> None:
        self.deployment = deployed
        self._programs = {name: ExitStack() for name in PROGRAMS}
        self._started: dict[str, Started] = {}

    @property
    def name(self) -> str:
        return self.deployment.environment["CMS_HOST_NAME"]

    @property
    def log(self) -> Path:
        """The log of its vault."""
        return self.deployment.host / "log"

    @property
    def service(self) -> Service:
        return Service(self.deployment, *self._started["web"], *self._started["vault"])

    def start(self, vault: Sequence[str] = VAULT) -> None:
        """Start its vault, then its web, and do not wait until it is ready."""
        self.start_vault(vault)
        self._start("web", self.deployment.serving_web())

    def start_vault(self, vault: Sequence[str] = VAULT) -> None:
        self._start("vault", self.deployment.serving_vault(vault))

    def _start(self, name: str, serving: AbstractContextManager[Started]) -> None:
        self._started[name] = self._programs[name].enter_context(serving)

    def stop(self, *programs: str) -> None:
        """Stop what runs, or these programs of it."""
        for name in programs or reversed(PROGRAMS):
            self._programs[name].close()

    def kill(self) -> None:
        """Kill every process at once; what is in its run directory is lost, as when it boots."""
        kill_at_once(self.service.process.pid, self.service.vault.pid)
        self.stop()
        for path in self.deployment.sockets.iterdir():
            path.unlink()

    @contextmanager
    def without_vault(self) -> Iterator[None]:
        """Stop its vault; start it again when the block ends."""
        self.stop("vault")
        try:
            yield
        finally:
            self.start_vault()

    @contextmanager
    def with_vault(self, vault: Sequence[str]) -> Iterator[None]:
        """Have another *vault* in the place of its own until the block ends."""
        with self.without_vault():
            self.start_vault(vault)
            try:
                yield
            finally:
                self.stop("vault")

    def command(self, package: str, *words: str | Path) -> "subprocess.CompletedProcess[str]":
        """Run a command of the service on this host."""
        of_vault = package == "hsm"
        return subprocess.run(
            [sys.executable, "-m", package, *words],
            cwd=ROOT,
            env=self.deployment.vault_environment if of_vault else self.deployment.environment,
            capture_output=True,
            text=True,
            timeout=HANG_SECONDS,
            check=False,
        )

    def log_lines(self) -> Mapping[str, int]:
        """How many lines each chain of its log has, by the chain's name."""
        host_log = HostLog(self.log)
        list(host_log.lines())
        assert host_log.faults == []
        return {path.name: count for path, count in host_log.ends.items()}


class ThroughBalancer(httpx.HTTPTransport):
    """Reaches one host at the public addresses of the service."""

    def __init__(self, public: Deployment, host: Host, tls: ssl.SSLContext) -> None:
        super().__init__(verify=tls)
        own = host.deployment
        self._ports = {
            public.d1_port: own.d1_port,
            public.cardholder_port: own.cardholder_port,
        }

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.url = request.url.copy_with(port=self._ports[request.url.port or 0])
        return super().handle_request(request)


@dataclass(frozen=True)
class Issuer:
    """An issuer of the service, with an app, a server, and a cardholder of theirs."""

    enrolled: Enrolled
    card: str
    """What the cardholder holds."""
    plastic: str
    app: str
    server: str
    holder: str

    @property
    def issuer_id(self) -> str:
        return self.enrolled.sample_issuer.issuer_id


class TwoHosts:
    """Both hosts, and the partners that call the service by its public addresses."""

    def __init__(self, first: Host, second: Host) -> None:
        self.both = (first, second)
        self._public = first.deployment
        self._clients = ExitStack()

    @property
    def database_url(self) -> str:
        return self._public.database_url

    def start(self) -> None:
        """Start both, and wait until they are ready."""
        with ThreadPoolExecutor() as pool:
            list(pool.map(Host.start, self.both))
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        for host in self.both:
            host.service.wait_until_ready()

    def stop(self) -> None:
        self._clients.close()
        for host in self.both:
            host.stop()

    def d1(self, issuer: Issuer, host: Host) -> D1Client:
        """D1, whom a balancer sends to *host*."""
        transport = ThroughBalancer(self._public, host, issuer.enrolled.tls())
        return self._clients.enter_context(D1Client(issuer.enrolled.config, transport))

    def app(self, issuer: Issuer, host: Host) -> HostedClient:
        """The app of its cardholder, or a page, whom a balancer sends to *host*."""
        file = self._public.directory / f"{issuer.holder}.jwt"
        file.write_text(bearer(issuer.holder, issuer.issuer_id))
        config = HostedConfig(
            base_url=self._public.environment["CMS_CARDHOLDER_URL"],
            ca=self._public.pki / "ca.pem",
            client_key=issuer.app,
            access_token_file=file,
            issuer_id=issuer.issuer_id,
            card_id=issuer.card,
        )
        return self._clients.enter_context(HostedClient(config, self._cardholder(host)))

    def server(self, issuer: Issuer, host: Host) -> PinControlClient:
        """The issuer's server, or its page, whom a balancer sends to *host*."""
        file = self._public.directory / "server.secret"
        file.write_text(SECRET)
        config = PinControlConfig(
            base_url=self._public.environment["CMS_CARDHOLDER_URL"],
            ca=self._public.pki / "ca.pem",
            user=issuer.server,
            password_file=file,
            frame_key="",
            audit_user="somebody",
            personalised_plastic_id="",
            unpersonalised_plastic_id=issuer.plastic,
        )
        return self._clients.enter_context(PinControlClient(config, self._cardholder(host)))

    def _cardholder(self, host: Host) -> httpx.BaseTransport:
        tls = ssl.create_default_context(cafile=self._public.pki / "ca.pem")
        return ThroughBalancer(self._public, host, tls)


class Turns(Generic[C]):
    """A caller that a balancer sends to each host in turn, and that tries again as D1 does."""

    def __init__(self, *clients: C) -> None:
        self._clients = itertools.cycle(clients)
        self.broken = 0
        """How many calls broke off, or were never heard."""

    def call(
        self, method: Callable[Concatenate[C, P], T], *arguments: P.args, **named: P.kwargs
    ) -> T:
        """Call the next host; where that ends, or answers 503, the one after it."""
        ends_at = time.monotonic() + HANG_SECONDS
        for client in self._clients:
            assert time.monotonic() < ends_at, "no host answers"
            try:
                answer = method(client, *arguments, **named)
            except httpx.TransportError:
                self.broken += 1
                time.sleep(0.02)
            except (D1Error, HostedError) as error:
                if error.status != HTTPStatus.SERVICE_UNAVAILABLE:
                    raise
            else:
                if getattr(answer, "status_code", None) != HTTPStatus.SERVICE_UNAVAILABLE:
                    return answer
        raise AssertionError


def make_older(database_url: str) -> None:
    """Have the audit's rows be older than what a comparison leaves alone."""
    run_sql(database_url, "ALTER TABLE audit_events DISABLE TRIGGER append_only")
    run_sql(
        database_url,
        "UPDATE audit_events SET at = at - interval '2 minutes'"
        " WHERE at > now() - interval '2 minutes'",
    )
    run_sql(database_url, "ALTER TABLE audit_events ENABLE TRIGGER append_only")


def lines_of(issuer: Issuer, host: Host) -> Mapping[str, Line]:
    """The lines of an issuer in the log of a host, by their receipts."""
    host_log = HostLog(host.log)
    found = [line for line in host_log.lines() if line.event.issuer_id == issuer.issuer_id]
    assert host_log.faults == []
    lines = {line.receipt: line for line in found}
    assert len(lines) == len(found)
    return lines


def differences(issuer: Issuer, database_url: str, *hosts: Host) -> Sequence[str]:
    """Compare audit and logs as they will be judged a minute later."""
    lines: dict[str, Line] = {}
    for host in hosts:
        lines |= lines_of(issuer, host)
    comparison = Comparison(lines, datetime.now(UTC) + 2 * RECENT)
    with admin.transaction(database_url) as database:
        return list(comparison.differences(admin.receipt_rows(database, issuer.issuer_id, EVENTS)))

"""One and two hosts behind HAProxy, and the service without it, over one database.

A host is a vault and a web of its own. The configuration of HAProxy is that of ``deploy/haproxy``,
with a second server where there are two. The service without it ends mutual TLS itself, and calls
the vault of the first host.
"""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks import deployment
from cms.sandbox.machine import pki
from cms.sandbox.service import stop

HAPROXY: Final = "/usr/sbin/haproxy"
CONFIGURATION: Final = deployment.ROOT / "deploy" / "haproxy" / "haproxy.cfg"
D1_SERVER: Final = '    server web "${D1_SERVER}"\n'
ALONE, ONE, TWO = "service alone", "HAProxy, one host", "HAProxy, two hosts"
FRONTS: Final = (ALONE, ONE, TWO)
WORKERS: Final = "1"
"""Of the web, in each process of it."""


@dataclass(frozen=True)
class Stack:
    """What runs: where each front is called, and the first process of each program."""

    ports: Mapping[str, int]
    parents: Mapping[str, int]


@dataclass(frozen=True)
class _Web:
    """A process of the web."""

    process: int
    ops_port: int


@contextmanager
def running(directory: Path, url: str, public_port: int) -> Iterator[Stack]:
    """Run all of it until the block ends.

    Args:
        directory: with the host that the environment of this process names.
        url: of the database.
        public_port: where the service without a proxy is called; the address of all of them.
    """
    with ExitStack() as stack:
        vaults = [
            stack.enter_context(_vault(_home(directory, name), public_port)) for name in ("a", "b")
        ]
        url_file = directory / "database-url"
        url_file.write_text(url)
        url_file.chmod(0o600)
        begin = {
            "CMS_PUBLIC_URL": f"https://localhost:{public_port}",
            "CMS_WORKERS": WORKERS,
            "CMS_DATABASE_URL_FILE": str(url_file),
        }
        of_its_own = {**begin, **_tls(directory), "CMS_D1_PORT": str(public_port)}
        alone = stack.enter_context(_web(directory, "alone", "a", of_its_own))
        first, second = (
            stack.enter_context(_web(directory, name, name, {**begin, **_behind(directory, name)}))
            for name in ("a", "b")
        )
        ports = dict(zip((ONE, TWO), deployment.free_ports(2), strict=True))
        one = stack.enter_context(_haproxy(directory, ports[ONE], first))
        two = stack.enter_context(_haproxy(directory, ports[TWO], first, second))
        (pid_file,) = (directory / "postgres").rglob("postmaster.pid")
        parents = {
            "vault a": vaults[0],
            "vault b": vaults[1],
            "web alone": alone.process,
            "web a": first.process,
            "web b": second.process,
            "HAProxy one": one,
            "HAProxy two": two,
            "Postgres": int(pid_file.read_text().split()[0]),
        }
        yield Stack({ALONE: public_port, **ports}, parents)


def _home(directory: Path, name: str) -> Path:
    """Make the directory of a host; it has the manifests that the first one took."""
    home = directory / name
    home.mkdir()
    shutil.copytree(directory / "vault", home / "vault")
    return home


@contextmanager
def _vault(home: Path, public_port: int) -> Iterator[int]:
    os.environ["HSM_STATE_DIRECTORY"] = str(home / "vault")
    with deployment.serving_vault(home, 1, f"https://localhost:{public_port}") as process:
        yield process.pid


def _tls(directory: Path) -> Mapping[str, str]:
    return {
        "CMS_D1_CERTIFICATE_FILE": str(directory / "pki" / "server.pem"),
        "CMS_D1_KEY_FILE": str(directory / "pki" / "server.key"),
        "CMS_D1_CLIENT_CA_FILE": str(directory / "pki" / "ca.pem"),
    }


def _behind(directory: Path, name: str) -> Mapping[str, str]:
    return {
        "CMS_D1_SOCKET": str(_socket(directory, name)),
        "CMS_D1_MTLS_ENDS": "proxy",
        "CMS_D1_PROXY_PEERS": '["unix"]',
        "CMS_HOST_NAME": name,
    }


def _socket(directory: Path, name: str) -> Path:
    return directory / name / "d1.sock"


@contextmanager
def _web(directory: Path, name: str, host: str, settings: Mapping[str, str]) -> Iterator[_Web]:
    (ops_port,) = deployment.free_ports(1)
    own = {
        "CMS_VAULT_SOCKET_DIRECTORY": str(directory / host / "sockets"),
        "CMS_OPS_PORT": str(ops_port),
    }
    log = directory / f"web-{name}.log"
    words = ("-m", "cms", "serve", "--sandbox")
    with deployment.running(
        words, log, ("CMS_", "HSM_", "SOFTHSM2_"), {**settings, **own}
    ) as process:
        deployment.wait_until_ready(process, ops_port)
        yield _Web(process.pid, ops_port)


@contextmanager
def _haproxy(directory: Path, port: int, *webs: _Web) -> Iterator[int]:
    """Run HAProxy before the hosts of these processes of the web."""
    home = directory / f"haproxy-{len(webs)}"
    home.mkdir()
    servers = "".join(
        f'    server {name} "unix@{_socket(directory, name)}" port {web.ops_port}\n'
        for name, web in zip(("a", "b"), webs, strict=False)
    )
    configuration, made = re.subn(re.escape(D1_SERVER), servers, CONFIGURATION.read_text())
    assert made == 1, "the configuration names the server of D1 in another way"
    (home / "haproxy.cfg").write_text(configuration)
    for name, source in (("server.pem", "server.pem"), ("server.pem.key", "server.key")):
        shutil.copy(directory / "pki" / source, home / name)
    (home / "d1-client.crl").write_bytes(pki.revocation_list(directory / "pki"))
    (cardholder_port,) = deployment.free_ports(1)
    variables = {
        "PROXY_SOCKET": home / "admin.sock",
        "D1_BIND": f"127.0.0.1:{port}",
        "CARDHOLDER_BIND": f"127.0.0.1:{cardholder_port}",
        "CERTIFICATE": home / "server.pem",
        "D1_CLIENT_CA": directory / "pki" / "ca.pem",
        "D1_CLIENT_CRL": home / "d1-client.crl",
        "CARDHOLDER_SERVER": "127.0.0.1:9",
        "OPS_HOST": "127.0.0.1",
        "OPS_PORT": webs[0].ops_port,
    }
    with (home / "haproxy.log").open("wb") as output:
        process = subprocess.Popen(
            [HAPROXY, "-W", "-db", "-f", home / "haproxy.cfg"],
            env={name: str(value) for name, value in variables.items()},
            stdout=output,
            stderr=output,
        )
    try:
        deadline = time.monotonic() + deployment.START_SECONDS_MAX
        while not (home / "admin.sock").exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("HAProxy did not start")
            time.sleep(0.05)
        yield process.pid
    finally:
        stop(process)

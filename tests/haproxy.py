"""HAProxy in front of a test's service, with the configuration that operators get."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from cms.sandbox.machine import pki
from tests.deployment import ROOT, Deployment, end, free_ports, wait_for

BINARY: Final = "/usr/sbin/haproxy"
CONFIGURATION: Final = ROOT / "deploy" / "haproxy" / "haproxy.cfg"


@dataclass(frozen=True)
class HaProxy:
    """A running proxy, with a directory of its own."""

    directory: Path
    process: subprocess.Popen[bytes]

    @property
    def log(self) -> str:
        return (self.directory / "haproxy.log").read_text()

    @property
    def certificate(self) -> Path:
        """The chain that it shows; replace it, and its key, and have them read anew."""
        return self.directory / "server.pem"

    @property
    def revoked(self) -> Path:
        return self.directory / "d1-client.crl"


def before(prepared: Deployment) -> Deployment:
    """Give the service the settings that it needs behind the proxy; for cardholders, too."""
    (cardholder_port,) = free_ports(1)
    return (
        prepared.for_cardholders()
        .behind_proxy()
        .given(
            cardholder_port=cardholder_port,
            cardholder_certificate_file=None,
            cardholder_key_file=None,
            cardholder_proxy_peers='["127.0.0.1"]',
        )
    )


@contextmanager
def haproxy(
    prepared: Deployment,
    directory: Path,
    changed: Callable[[str], str] = lambda configuration: configuration,
) -> Iterator[HaProxy]:
    """Run the proxy where callers of *prepared* connect, until the block ends.

    *directory* has a short name: a socket's path has at most 107 bytes.
    """
    settings = prepared.environment
    configuration = directory / "haproxy.cfg"
    configuration.write_text(changed(CONFIGURATION.read_text()))
    (directory / "server.pem").write_bytes((prepared.pki / "server.pem").read_bytes())
    (directory / "server.pem.key").write_bytes((prepared.pki / "server.key").read_bytes())
    (directory / "d1-client.crl").write_bytes(pki.revocation_list(prepared.pki))
    variables = {
        "PROXY_SOCKET": directory / "admin.sock",
        "D1_BIND": f"127.0.0.1:{prepared.d1_port}",
        "CARDHOLDER_BIND": f"127.0.0.1:{httpx.URL(settings['CMS_CARDHOLDER_URL']).port}",
        "CERTIFICATE": directory / "server.pem",
        "D1_CLIENT_CA": prepared.pki / "ca.pem",
        "D1_CLIENT_CRL": directory / "d1-client.crl",
        "D1_SERVER": f"unix@{settings['CMS_D1_SOCKET']}",
        "CARDHOLDER_SERVER": f"127.0.0.1:{prepared.cardholder_port}",
        "OPS_HOST": "127.0.0.1",
        "OPS_PORT": settings["CMS_OPS_PORT"],
    }
    with (directory / "haproxy.log").open("wb") as output:
        process = subprocess.Popen(
            [BINARY, "-W", "-db", "-f", configuration],
            env={name: str(value) for name, value in variables.items()},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        made = HaProxy(directory, process)
        wait_for(lambda: (directory / "admin.sock").exists() or process.poll() is not None)
        assert process.poll() is None, made.log
        yield made
    finally:
        end(process)

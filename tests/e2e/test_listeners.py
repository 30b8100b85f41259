"""Each listener answers its own routes, on loopback, and D1's also behind a proxy."""

import base64
import socket
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cms.faces.d1.oauth import TOKEN_PATH
from cms.sandbox import HANG_SECONDS
from cms.sandbox.machine.postgres import Postgres
from cms.sandbox.machine.softhsm import SoftHsm
from cms.sandbox.partners.d1 import D1Client, D1Error
from cms.sandbox.partners.transcript import transcript
from hsm.pkcs11.token import Pkcs11Token
from tests.deployment import Enrolled, Service, Shared, deployment, new_database, wait_for
from tests.processes import family, runs

LISTENING = "0A"


def test_health_is_on_the_ops_listener_only(shared: Shared) -> None:
    assert shared.service.readiness() == {
        "ready": True,
        "vault": True,
        "database": True,
    }
    assert shared.service.ops("/healthz").json()["status"] == "alive"
    first = shared.first
    with httpx.Client(
        verify=first.tls(), base_url=first.config.base_url, timeout=HANG_SECONDS
    ) as http:
        for path in ("/healthz", "/readyz"):
            answer = http.get(path)
            assert answer.status_code == 404
            assert answer.json() == {"errorCode": "RESOURCE_NOT_FOUND", "error": "Unknown resource"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", TOKEN_PATH),
        ("GET", "/.well-known/jwks.json"),
        ("GET", "/cms/api/v1/issuers/firstbank1/cards/card-1/pin"),
        ("PUT", "/cms/api/v1/issuers/firstbank1/cards/card-1/pin"),
        ("GET", "/cms/api/v1/issuers/firstbank1/cards/card-1/pin/changeCounter"),
        ("POST", "/cms/api/v1/issuers/firstbank1/physicalCards/card-1/activate"),
        ("GET", "/docs"),
        ("GET", "/openapi.json"),
    ],
)
def test_nothing_else_is_on_the_ops_listener(shared: Shared, method: str, path: str) -> None:
    url = shared.service.deployment.ops_url + path
    answer = httpx.request(method, url, timeout=HANG_SECONDS)
    assert answer.status_code == 404


def test_everything_listens_on_loopback(shared: Shared) -> None:
    listening = set()
    for parent in (shared.service.process.pid, shared.service.vault.pid):
        for pid in (parent, *family(parent)):
            listening |= listening_sockets(pid)
    deployed = shared.service.deployment
    ports = {deployed.d1_port, int(deployed.environment["CMS_OPS_PORT"])}
    assert listening == {("127.0.0.1", port) for port in ports}


def listening_sockets(pid: int) -> set[tuple[str, int]]:
    """Every address on which a process takes TCP connections."""
    links = (link for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink())
    inodes = {
        target.removeprefix("socket:[").rstrip("]")
        for target in (str(link.readlink()) for link in links)
        if target.startswith("socket:[")
    }
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == LISTENING and words[9] in inodes:
                host, _, port = words[1].partition(":")
                address = socket.inet_ntoa(bytes.fromhex(host)[::-1]) if len(host) == 8 else host
                found.add((address, int(port, 16)))
    return found


def test_each_issuer_has_its_own_client_and_its_own_cards(shared: Shared) -> None:
    pans = shared.second.sample_issuer.pans
    with shared.second.client() as client:
        steps = list(transcript(client, "card-1", pans["card-1"], ("2580", "7416")))
    assert len(steps) == 12
    with D1Client(replace(shared.first.config, issuer_id="secondbnk2")) as trespasser:
        for call in (
            lambda: trespasser.counter("card-1"),
            lambda: trespasser.get_pin("card-1", pans["card-1"]),
            lambda: trespasser.set_pin("card-1", "4071", pans["card-1"]),
            lambda: trespasser.activate("card-1"),
        ):
            with pytest.raises(D1Error) as refused:
                call()
            assert (refused.value.status, refused.value.error_code) == (404, "ISSUER_NOT_FOUND")
    with shared.second.client() as client:
        assert client.counter("card-1") == 2


@pytest.fixture(scope="module")
def proxied(
    tmp_path_factory: pytest.TempPathFactory,
    postgres: Postgres,
    softhsm: SoftHsm,
    hsm_token: Pkcs11Token,
) -> Iterator[tuple[Service, Enrolled]]:
    """A service whose mutual TLS ends in a proxy, which calls it on a unix socket."""
    directory = tmp_path_factory.mktemp("proxied")
    prepared = deployment(directory, new_database(postgres), softhsm).behind_proxy()
    enrolled = prepared.enrol(hsm_token, "proxybank1")
    with prepared.serving() as service:
        yield service, enrolled


class Proxy(httpx.HTTPTransport):
    """What a proxy does after mutual TLS: it forwards, and says whose certificate it saw."""

    def __init__(self, service: Service, client_cert: str | None) -> None:
        super().__init__(uds=service.deployment.environment["CMS_D1_SOCKET"])
        self._client_cert = client_cert

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.url = request.url.copy_with(scheme="http")
        if self._client_cert is not None:
            request.headers["Client-Cert"] = self._client_cert
        return super().handle_request(request)


def client_cert_header(enrolled: Enrolled) -> str:
    pem = x509.load_pem_x509_certificate(enrolled.config.client_cert.read_bytes())
    return f":{base64.b64encode(pem.public_bytes(Encoding.DER)).decode()}:"


def test_d1_converses_through_a_proxy(proxied: tuple[Service, Enrolled]) -> None:
    service, enrolled = proxied
    proxy = Proxy(service, client_cert_header(enrolled))
    with D1Client(enrolled.config, proxy) as client:
        pan = enrolled.sample_issuer.pans["card-1"]
        statuses = [step.status for step in transcript(client, "card-1", pan, ("4071", "9382"))]
    assert statuses[:-1] == [200, 204, 200, 204, 200, 200, 204, 200, 204, 200, 200]
    assert statuses[-1] == 403


@pytest.mark.parametrize("header", [None, "", "::", ":not base64:", ":aGVsbG8=:", "aGVsbG8="])
def test_a_proxy_that_forwards_no_certificate_gets_401(
    proxied: tuple[Service, Enrolled], header: str | None
) -> None:
    service, enrolled = proxied
    counted = service.refused("unauthorized")
    client = D1Client(enrolled.config, Proxy(service, header))
    with client, pytest.raises(D1Error) as refused:
        client.new_access_token()
    assert refused.value.status == 401
    assert service.refused("unauthorized") == counted + 1


def test_the_header_of_a_caller_that_ended_tls_here_counts_for_nothing(shared: Shared) -> None:
    header = {"Client-Cert": client_cert_header(shared.first)}
    with shared.first.client() as client:
        stolen = client.access_token()
    with shared.first.client(shared.second.tls()) as thief:
        thief._access_token, thief._access_token_until_s = stolen, float("inf")
        path = "/cms/api/v1/issuers/firstbank1/cards/card-1/pin/changeCounter"
        assert thief.request("GET", path, headers=header).status_code == 401


def test_other_users_cannot_play_the_proxy(proxied: tuple[Service, Enrolled]) -> None:
    service, _ = proxied
    mode = Path(service.deployment.environment["CMS_D1_SOCKET"]).stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert mode & 0o007 == 0


def test_a_service_that_was_killed_starts_again_on_its_socket(
    tmp_path: Path, postgres: Postgres, softhsm: SoftHsm, hsm_token: Pkcs11Token
) -> None:
    prepared = deployment(tmp_path, new_database(postgres), softhsm).behind_proxy()
    prepared.vault(hsm_token)  # a host that has begun
    with prepared.serving() as service:
        below = family(service.process.pid)
        service.process.kill()
        wait_for(lambda: not any(map(runs, below)))
    with prepared.serving() as service:
        assert service.ready()

"""The configuration of HAProxy that operators get, before a real service."""

import base64
import json
import os
import signal
import socket
import ssl
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cms.sandbox import HANG_SECONDS
from cms.sandbox.machine import pki
from cms.sandbox.machine.postgres import Postgres
from cms.sandbox.machine.softhsm import SoftHsm
from hsm.pkcs11.token import Pkcs11Token
from tests import haproxy
from tests.bearers import bearer
from tests.deployment import (
    ORGANISATION,
    Deployment,
    Enrolled,
    Service,
    deployment,
    free_ports,
    kill_at_once,
    new_database,
    patiently,
    wait_for,
)
from tests.e2e.load import BROKEN, Load, read_stored, violations
from tests.haproxy import HaProxy
from tests.issuer_records import add_clients, app_client, name_card

BANK, OTHER, APP = "firstbank1", "secondbnk2", "firstbank1-app"
CARD, HOLDER = "card-1", "holder-1"
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@dataclass(frozen=True)
class Front:
    """A service behind the proxy."""

    prepared: Deployment
    service: Service
    proxy: HaProxy
    bank: Enrolled
    other: Enrolled

    @property
    def path(self) -> str:
        return f"/cms/api/v1/issuers/{BANK}/cards/{CARD}/pin/changeCounter"

    @contextmanager
    def app(self) -> Iterator[httpx.Client]:
        """An app, or the browser of a cardholder."""
        tls = ssl.create_default_context(cafile=self.prepared.pki / "ca.pem")
        url = self.prepared.environment["CMS_CARDHOLDER_URL"]
        with httpx.Client(base_url=url, verify=tls, timeout=HANG_SECONDS) as http:
            yield http

    def said(self) -> list[dict[str, object]]:
        """The lines that the proxy wrote about requests."""
        lines = [line for line in self.proxy.log.splitlines() if line.startswith("{")]
        return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def front(
    tmp_path_factory: pytest.TempPathFactory,
    postgres: Postgres,
    softhsm: SoftHsm,
    hsm_token: Pkcs11Token,
) -> Iterator[Front]:
    directory = tmp_path_factory.mktemp("front")
    prepared = haproxy.before(deployment(directory, new_database(postgres), softhsm, workers=2))
    bank, other = (prepared.enrol(hsm_token, issuer) for issuer in (BANK, OTHER))
    vault = prepared.vault(hsm_token)
    add_clients(vault, BANK, app_client(APP))
    name_card(prepared.database_url, vault, bank.sample_issuer, CARD, cardholder_id=HOLDER)
    with (
        tempfile.TemporaryDirectory() as made,
        prepared.serving() as service,
        haproxy.haproxy(prepared, Path(made)) as proxy,
    ):
        yield Front(prepared, service, proxy, bank, other)


def test_d1_sets_a_pin_and_reads_it_back(front: Front) -> None:
    pan = front.bank.sample_issuer.pans[CARD]
    with front.bank.client() as d1:
        patiently(lambda: d1.set_pin(CARD, "4071", pan))
        assert d1.get_pin(CARD, pan) == "4071"


def test_no_certificate_but_that_of_tls_is_believed(front: Front) -> None:
    der = x509.load_pem_x509_certificate(front.bank.config.client_cert.read_bytes())
    claimed = base64.b64encode(der.public_bytes(Encoding.DER)).decode()
    with front.bank.client() as d1:
        token = patiently(d1.access_token)
    headers = {"Authorization": f"Bearer {token}", "Client-Cert": f":{claimed}:"}
    url = front.prepared.base_url + front.path
    answers = {}
    for name, caller in (("its own", front.bank), ("another", front.other)):
        with httpx.Client(verify=caller.tls()) as http:
            answers[name] = http.get(url, headers=headers).status_code
    assert answers == {"its own": 200, "another": 401}


def test_no_certificate_is_no_caller(front: Front) -> None:
    context = ssl.create_default_context(cafile=front.prepared.pki / "ca.pem")
    with pytest.raises(httpx.TransportError), httpx.Client(verify=context) as http:
        http.get(front.prepared.base_url + front.path)


def reload(proxy: HaProxy) -> None:
    """Have the master start a worker with the files as they are now; the old one ends its work."""
    before = proxy.log.count("Loading success.")
    os.kill(proxy.process.pid, signal.SIGUSR2)
    wait_for(lambda: proxy.log.count("Loading success.") > before)


def test_a_revoked_certificate_is_refused_once_the_list_is_read_again(front: Front) -> None:
    made = pki.issue_client(front.prepared.pki, "lost", "lost", ORGANISATION)
    context = front.bank.tls(certificate=made.certificate, key=made.key)
    url = front.prepared.base_url + front.path
    with httpx.Client(verify=context) as http:
        assert http.get(url).status_code == 401
    front.proxy.revoked.write_bytes(pki.revocation_list(front.prepared.pki, made.certificate))
    reload(front.proxy)
    with httpx.Client(verify=context) as http, pytest.raises(httpx.TransportError):
        http.get(url)
    with front.bank.client() as d1:
        assert d1.request("GET", front.path).status_code == 200


def test_no_query_and_no_bearer_is_in_its_log(front: Front) -> None:
    with front.app() as app:
        headers = {"x-client-key": APP, "Authorization": f"Bearer {bearer(HOLDER, BANK)}"}
        issued = patiently(lambda: app.post("/v1/card/pin/token", headers=headers))
        token, url = issued.json()["token"], httpx.URL(issued.json()["imageUrl"])
        shown = app.get(url)
    assert (shown.status_code, shown.headers["content-type"]) == (200, "image/png")
    assert token in str(url)
    wait_for(lambda: any(line["path"] == url.path for line in front.said()))
    assert token not in front.proxy.log
    assert headers["Authorization"] not in front.proxy.log


class Recorder(BaseHTTPRequestHandler):
    """Stands for the service: it is ready, and notes who calls."""

    seen: ClassVar[list[list[str]]] = []
    traces: ClassVar[list[str | None]] = []

    def do_GET(self) -> None:
        if self.path == "/v1/card/status":
            self.seen.append(self.headers.get_all("X-Forwarded-For") or [])
            self.traces.append(self.headers["traceparent"])
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as it is called
        """Be quiet."""


def test_who_calls_is_told_by_the_proxy_and_by_nobody_else(front: Front) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Recorder)
    threading.Thread(target=server.serve_forever).start()
    (d1_port,) = free_ports(1)
    before = haproxy.before(front.prepared).given(
        d1_port=d1_port, cardholder_port=server.server_port, ops_port=server.server_port
    )
    with tempfile.TemporaryDirectory() as made, haproxy.haproxy(before, Path(made)) as proxy:
        other = Front(before, front.service, proxy, front.bank, front.other)
        with other.app() as app:
            for claimed in ({}, {"X-Forwarded-For": "203.0.113.7", "traceparent": TRACEPARENT}):
                assert app.get("/v1/card/status", headers=claimed).status_code == 200
    server.shutdown()
    server.server_close()
    assert Recorder.seen == [["127.0.0.1"], ["127.0.0.1"]]
    assert Recorder.traces == [None, None]


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n",
        b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nslow",
    ],
    ids=["malformed", "slow head", "slow body"],
)
def test_what_is_no_request_is_cut_off(front: Front, sent: bytes) -> None:
    plain = socket.create_connection(("127.0.0.1", front.prepared.d1_port), timeout=HANG_SECONDS)
    with front.bank.tls().wrap_socket(plain, server_hostname="localhost") as connection:
        connection.sendall(sent)
        assert connection.recv(1) == b""


def test_a_service_that_is_away_is_unavailable_in_the_words_of_each_face(
    front: Front,
) -> None:
    d1_port, ops_port = free_ports(2)
    away = haproxy.before(front.prepared).given(
        d1_port=d1_port, ops_port=ops_port, public_url=f"https://localhost:{d1_port}"
    )
    with tempfile.TemporaryDirectory() as made, haproxy.haproxy(away, Path(made)) as proxy:
        lost = Front(away, front.service, proxy, front.bank, front.other)
        url = away.base_url + front.path
        with httpx.Client(verify=front.bank.tls()) as http, lost.app() as app:
            d1 = http.get(url)
            hosted = app.get("/v1/card/status")
            pincontrol = app.post("/pincontrol/v2/plastic/1")
    answers = (d1, hosted, pincontrol)
    assert [each.status_code for each in answers] == [503] * 3
    assert [each.headers["retry-after"] for each in answers] == ["1"] * 3
    assert d1.json() == {"errorCode": "SERVICE_UNAVAILABLE", "error": "Try again later"}
    assert hosted.json() == {"message": "Internal server error"}
    told = pincontrol.json()
    assert (told["code"], told["errorCode"]) == ("503", "TRY_LATER")
    assert set(told) == {
        *("code", "message", "id", "errorCode", "errorType", "errorReason", "timestamp")
    }


def test_no_call_is_lost_when_certificates_are_read_again_and_a_worker_is_killed(
    front: Front,
) -> None:
    cards = ["card-2", "card-3"]
    load = Load(front.bank, cards, seed=7)
    ca = pki.Credential(front.prepared.pki / "ca.pem", front.prepared.pki / "ca.key")
    renewed = front.prepared.pki / "server.pem"
    with load.running(callers=3):
        load.wait_for_one(204)
        pki._renew(ca, renewed)
        front.proxy.certificate.write_bytes(renewed.read_bytes())
        reload(front.proxy)
        load.wait_for_one(204)
        kill_at_once(front.service.workers()[0])
        wait_for(lambda: len(front.service.workers()) == 2)
        load.wait_for_one(204)
    plain = socket.create_connection(("127.0.0.1", front.prepared.d1_port), timeout=HANG_SECONDS)
    with front.bank.tls().wrap_socket(plain, server_hostname="localhost") as connection:
        shown = connection.getpeercert(binary_form=True)
    assert shown == x509.load_pem_x509_certificate(renewed.read_bytes()).public_bytes(Encoding.DER)
    assert (load.wrong, load.answers.count(BROKEN)) == ([], 0)
    load.replay()
    for card in cards:
        stored = read_stored(front.prepared.database_url, BANK, card)
        assert violations(load.sent[card], stored) == []

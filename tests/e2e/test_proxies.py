"""The configurations of proxies that operators get, before a real service."""

import base64
import json
import operator
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cms.sandbox import HANG_SECONDS
from cms.sandbox.machine import pki
from cms.sandbox.machine.postgres import Postgres
from cms.sandbox.machine.softhsm import SoftHsm
from hsm.pkcs11.token import Pkcs11Token
from tests import proxies
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
from tests.e2e.stand_in import Asked, StandIn, stand_in
from tests.issuer_records import add_clients, app_client, name_card
from tests.proxies import Kind, Proxy

BANK, OTHER, APP = "firstbank1", "secondbnk2", "firstbank1-app"
CARD, HOLDER = "card-1", "holder-1"
PATH = f"/cms/api/v1/issuers/{BANK}/cards/{CARD}/pin/changeCounter"
CLAIMED_ADDRESS = "203.0.113.7"
CANARY = "3f0c1a52-8d1c-4e5e-9a5b-0d7c8a6b1e42"
IMAGE = f"/v1/card/pin/image?token={CANARY}"
ASKS_TO_REPEAT = {"x-envoy-retry-on": "reset", "x-envoy-max-retries": "1"}
NAME = operator.attrgetter("name")
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@dataclass(frozen=True)
class Behind:
    """The service behind the proxies."""

    prepared: Deployment
    service: Service
    bank: Enrolled
    other: Enrolled


@dataclass(frozen=True)
class Front:
    """A proxy, and who calls it."""

    prepared: Deployment
    """With the addresses of the proxy in place of the service's."""
    proxy: Proxy
    bank: Enrolled
    other: Enrolled

    @contextmanager
    def app(self) -> Iterator[httpx.Client]:
        """An app, or the browser of a cardholder."""
        tls = ssl.create_default_context(cafile=self.prepared.pki / "ca.pem")
        url = self.prepared.environment["CMS_CARDHOLDER_URL"]
        with httpx.Client(base_url=url, verify=tls, timeout=HANG_SECONDS) as http:
            yield http

    @contextmanager
    def d1(self, tls: ssl.SSLContext | None = None) -> Iterator[httpx.Client]:
        """A caller of D1's listener: the bank's where *tls* has no other certificate."""
        url, verify = self.prepared.base_url, tls or self.bank.tls()
        with httpx.Client(base_url=url, verify=verify, timeout=HANG_SECONDS) as http:
            yield http

    @contextmanager
    def connection(self) -> Iterator[ssl.SSLSocket]:
        """A connection to D1's listener with the other bank's certificate."""
        address = ("127.0.0.1", self.prepared.d1_port)
        context = self.other.tls()
        context.set_alpn_protocols(["h2", "http/1.1"])
        plain = socket.create_connection(address, timeout=HANG_SECONDS)
        with context.wrap_socket(plain, server_hostname="localhost") as connection:
            yield connection

    def shown(self) -> bytes | None:
        """The certificate that it shows, DER."""
        with self.connection() as connection:
            return connection.getpeercert(binary_form=True)

    def said(self) -> list[dict[str, object]]:
        """The lines that the proxy wrote about requests."""
        lines = [line for line in self.proxy.log.splitlines() if line.startswith("{")]
        return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def behind(
    tmp_path_factory: pytest.TempPathFactory,
    postgres: Postgres,
    softhsm: SoftHsm,
    hsm_token: Pkcs11Token,
) -> Iterator[Behind]:
    directory = tmp_path_factory.mktemp("behind")
    prepared = proxies.before(deployment(directory, new_database(postgres), softhsm, workers=2))
    bank, other = (prepared.enrol(hsm_token, issuer) for issuer in (BANK, OTHER))
    vault = prepared.vault(hsm_token)
    add_clients(vault, BANK, app_client(APP))
    name_card(prepared.database_url, vault, bank.sample_issuer, CARD, cardholder_id=HOLDER)
    with prepared.serving() as service:
        yield Behind(prepared, service, bank, other)


@pytest.fixture(scope="module", params=proxies.KINDS, ids=NAME)
def front(request: pytest.FixtureRequest, behind: Behind) -> Iterator[Front]:
    with fronting(request.param, behind) as made:
        yield made


@contextmanager
def fronting(kind: Kind, behind: Behind, *without: str, **settings: object) -> Iterator[Front]:
    """Run a proxy before the service, or before what *settings* say instead."""
    d1_port, cardholder_port = free_ports(2)
    at = f"https://localhost:{d1_port}"
    prepared = behind.prepared.given(
        d1_port=d1_port,
        public_url=at,
        cardholder_url=f"https://localhost:{cardholder_port}",
        **settings,
    )
    bank, other = (
        replace(each, config=replace(each.config, base_url=at))
        for each in (behind.bank, behind.other)
    )
    changed = {old: new for each in without for old, new in kind.without[each].items()}
    with proxies.running(kind, prepared, changed) as proxy:
        yield Front(prepared, proxy, bank, other)


@contextmanager
def before_stand_in(
    kind: Kind, behind: Behind, directory: Path, *without: str
) -> Iterator[tuple[Front, StandIn]]:
    """Run a proxy before what notes all that it is asked."""
    with (
        stand_in(directory) as service,
        fronting(
            kind,
            behind,
            *without,
            d1_socket=service.d1_socket,
            cardholder_port=service.cardholder_port,
            ops_port=service.cardholder_port,
        ) as made,
    ):
        yield made, service


def claimed_by(bank: Enrolled) -> str:
    der = x509.load_pem_x509_certificate(bank.config.client_cert.read_bytes())
    return f":{base64.b64encode(der.public_bytes(Encoding.DER)).decode()}:"


def test_d1_sets_a_pin_and_reads_it_back(front: Front) -> None:
    pan = front.bank.sample_issuer.pans[CARD]
    with front.bank.client() as d1:
        patiently(lambda: d1.set_pin(CARD, "4071", pan))
        assert d1.get_pin(CARD, pan) == "4071"


def statuses_with_a_claim(front: Front, token: str) -> dict[str, int]:
    """Call with the bank's access token, and a header that claims its certificate."""
    headers = {"Authorization": f"Bearer {token}", "Client-Cert": claimed_by(front.bank)}
    statuses = {}
    for name, caller in (("its own", front.bank), ("another", front.other)):
        with front.d1(caller.tls()) as http:
            answer = patiently(lambda: http.get(PATH, headers=headers))
            statuses[name] = answer.status_code
    return statuses


def test_no_certificate_but_that_of_tls_is_believed(front: Front, behind: Behind) -> None:
    with front.bank.client() as d1:
        token = patiently(d1.access_token)
    assert statuses_with_a_claim(front, token) == {"its own": 200, "another": 401}
    with fronting(front.proxy.kind, behind, "certificate") as open_to_claims:
        assert statuses_with_a_claim(open_to_claims, token) == {"its own": 200, "another": 200}


@pytest.mark.parametrize(
    "kind", [each for each in proxies.KINDS if "making of the header" in each.without], ids=NAME
)
def test_a_script_that_fails_claims_nothing(kind: Kind, behind: Behind) -> None:
    with fronting(kind, behind, "making of the header") as failing, failing.d1() as http:
        answer = http.get(PATH, headers={"Client-Cert": claimed_by(failing.bank)})
    assert (answer.status_code, answer.json()["errorCode"]) == (401, "AUTHORIZER_UNAUTHORIZED")


def test_no_certificate_is_no_caller(front: Front) -> None:
    context = ssl.create_default_context(cafile=front.prepared.pki / "ca.pem")
    with pytest.raises(httpx.TransportError), httpx.Client(verify=context) as http:
        http.get(front.prepared.base_url + PATH)


def test_a_revoked_certificate_is_refused_once_the_list_is_read_again(front: Front) -> None:
    made = pki.issue_client(front.prepared.pki, "lost", "lost", ORGANISATION)
    lost = front.bank.tls(certificate=made.certificate, key=made.key)
    with front.d1(lost) as http:
        assert http.get(PATH).status_code == 401

    def is_refused() -> bool:
        with suppress(httpx.TransportError), front.d1(lost) as http:
            return not http.get(PATH)
        return True

    front.proxy.replace("d1-client.crl", pki.revocation_list(front.prepared.pki, made.certificate))
    wait_for(is_refused)
    with front.bank.client() as d1:
        assert d1.request("GET", PATH).status_code == 200


def test_a_list_that_is_too_old_refuses_everybody(
    front: Front, behind: Behind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pki, "LEAF_LIFETIME", -pki.BACKDATED / 2)
    with (
        fronting(front.proxy.kind, behind) as made,
        made.d1() as http,
        pytest.raises(httpx.TransportError),
    ):
        http.get(PATH)


def test_no_query_and_no_bearer_is_in_its_log(front: Front, behind: Behind) -> None:
    with front.app() as app:
        headers = {"x-client-key": APP, "Authorization": f"Bearer {bearer(HOLDER, BANK)}"}
        issued = patiently(lambda: app.post("/v1/card/pin/token", headers=headers))
        token, url = issued.json()["token"], httpx.URL(issued.json()["imageUrl"])
        target = url.raw_path.decode()
        shown = app.get(target)
    assert (shown.status_code, shown.headers["content-type"]) == (200, "image/png")
    assert token in target
    wait_for(lambda: any(line["path"] == url.path for line in front.said()))
    assert token not in front.proxy.log
    assert headers["Authorization"] not in front.proxy.log
    with fronting(front.proxy.kind, behind, "query") as telling, telling.app() as app:
        app.get(target)
        wait_for(lambda: any(line["path"] == target for line in telling.said()))


def asked_with_claims(front: Front, service: StandIn) -> list[tuple[list[str], list[str]]]:
    """What the service hears of address and trace: without a claim, and with one."""
    service.asked.clear()
    with front.app() as app:
        assert patiently(lambda: app.get("/v1/card/status")).is_success
        claims = {"X-Forwarded-For": CLAIMED_ADDRESS, "traceparent": TRACEPARENT}
        assert app.get("/v1/card/status", headers=claims).is_success
    return [(each.values("x-forwarded-for"), each.values("traceparent")) for each in service.asked]


def test_who_calls_and_whose_trace_it_is_no_caller_says(
    front: Front, behind: Behind, tmp_path: Path
) -> None:
    kind = front.proxy.kind
    with before_stand_in(kind, behind, tmp_path) as (made, service):
        assert asked_with_claims(made, service) == [(["127.0.0.1"], [])] * 2
    (tmp_path / "d1.sock").unlink()
    with before_stand_in(kind, behind, tmp_path, "address", "trace") as (made, service):
        addresses, traces = asked_with_claims(made, service)[1]
    assert CLAIMED_ADDRESS in ",".join(addresses)
    assert traces == [TRACEPARENT]


def ways_to_claim(certificate: str) -> dict[str, bytes]:
    """Requests that claim a certificate, or hide another request that does, by what is odd."""
    claim = f"Client-Cert: {certificate}\r\n\r\n".encode()
    get = b"GET /x HTTP/1.1\r\nHost: localhost\r\n"
    put = get.replace(b"GET", b"PUT")
    chunked = b"Transfer-Encoding: chunked\r\n"
    hidden = b"GET /hidden HTTP/1.1\r\nHost: localhost\r\n" + claim
    end_and_hidden = b"\r\n0\r\n\r\n" + hidden
    return {
        "twice": get + claim[:-2] + claim,
        "case": get + claim.replace(b"Client-Cert", b"cLiEnT-cErT"),
        "underscore": get + claim.replace(b"Client-Cert", b"Client_Cert"),
        "chain": get + claim.replace(b"Client-Cert", b"Client-Cert-Chain"),
        "space before the colon": get + claim.replace(b": ", b" : "),
        "folded": get + b"X-A: 1\r\n " + claim,
        "line feed": get + b"X-A: 1\n" + claim,
        "carriage return": get + b"X-A: 1\r" + claim,
        "zero byte": get + claim.replace(b": ", b"\0: "),
        "trailer": put + chunked + b"\r\n1\r\na\r\n0\r\n" + claim,
        "hop by hop": get + b"Connection: Client-Cert\r\n" + claim,
        "absolute form": get.replace(b"/x", b"http://a/x") + claim,
        "length and chunks": put + b"Content-Length: 4\r\n" + chunked + end_and_hidden,
        "chunks and length": put + chunked + b"Content-Length: 400\r\n" + end_and_hidden,
        "two lengths": put + b"Content-Length: 5\r\nContent-Length: 0\r\n" + end_and_hidden,
        "unknown coding": put + chunked.replace(b"chunked", b"xchunked") + end_and_hidden,
        "coding of HTTP/1.0": put.replace(b"1.1", b"1.0") + chunked + end_and_hidden,
        "body of GET": get + b"Content-Length: %d\r\n\r\n" % len(hidden) + hidden,
    }


def asked_by(front: Front, service: StandIn, sent: bytes) -> list[Asked]:
    """What the service is asked when a caller sends this and reads until it is answered."""
    service.asked.clear()
    with front.connection() as connection, suppress(OSError):
        connection.sendall(sent)
        connection.recv(1)
    with front.d1(front.other.tls()) as http:
        assert http.get("/last").status_code == 200
    return [each for each in service.asked if each.line != "GET /last HTTP/1.1"]


def test_no_way_of_writing_a_claim_brings_it_to_the_service(
    front: Front, behind: Behind, tmp_path: Path
) -> None:
    kind, own = front.proxy.kind, claimed_by(front.other)
    claim = claimed_by(front.bank)
    ways = ways_to_claim(claim)
    with before_stand_in(kind, behind, tmp_path) as (made, service):
        for name, sent in ways.items():
            for asked in asked_by(made, service, sent):
                assert asked.values("client-cert") == [own], name
                assert asked.values("client-cert-chain") == [], name
                framing = asked.values("content-length") + asked.values("transfer-encoding")
                assert len(framing) <= 1, name
                assert "/hidden" not in asked.line, name
    (tmp_path / "d1.sock").unlink()
    with before_stand_in(kind, behind, tmp_path, "certificate") as (made, service):
        for name in ("twice", "case"):
            (asked,) = asked_by(made, service, ways[name])
            assert claim in asked.values("client-cert"), name


def test_a_path_comes_as_it_was_sent(front: Front, behind: Behind, tmp_path: Path) -> None:
    paths = ("/a/../x//y/", "/a/%2e%2e/%2Fz", "/x;a=b/?q=%2f&q", "/%7E")
    with before_stand_in(front.proxy.kind, behind, tmp_path) as (made, service):
        for path in paths:
            sent = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
            (asked,) = asked_by(made, service, sent)
            assert asked.line == f"GET {path} HTTP/1.1"


def test_an_address_is_told_also_where_a_caller_says_that_it_ends_here(
    front: Front, behind: Behind, tmp_path: Path
) -> None:
    with before_stand_in(front.proxy.kind, behind, tmp_path) as (made, service), made.app() as app:
        answer = app.get("/v1/card/status", headers={"Connection": "X-Forwarded-For"})
    told = [each.values("x-forwarded-for") for each in service.asked]
    assert (answer.status_code, told) in ((200, [["127.0.0.1"]]), (400, []))


def test_http_2_is_not_spoken(front: Front) -> None:
    with front.connection() as connection:
        assert connection.selected_alpn_protocol() == "http/1.1"
        connection.sendall(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000")
        )
        begin = connection.recv(9)
    assert begin == b"" or begin.startswith(b"HTTP/1.1 ")


CLOSED, OLD, UNKNOWN = b"", b"HTTP/1.1 426", b"HTTP/1.1 404"
BAD, LATE, LONG = b"HTTP/1.1 400", b"HTTP/1.1 408", b"HTTP/1.1 413"
LIMITS = {
    "malformed": (b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n", (CLOSED, CLOSED, BAD)),
    "slow head": (b"GET / HTTP/1.1\r\nHost: a\r\n", (CLOSED, CLOSED, LATE)),
    "slow body": (
        b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nslow",
        (CLOSED, CLOSED, LATE),
    ),
    "dripping body": (
        b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\n",
        (CLOSED, UNKNOWN, LATE),
    ),
    "long body": (
        b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 65537\r\n\r\n",
        (CLOSED, CLOSED, LATE),
    ),
    "long chunk": (
        b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n10001\r\n"
        + b"a" * 65537
        + b"\r\n0\r\n\r\n",
        (UNKNOWN, CLOSED, LONG),
    ),
    "HTTP/1.0": (b"GET / HTTP/1.0\r\nHost: a\r\n\r\n", (UNKNOWN, UNKNOWN, OLD)),
}
"""What is sent, and how the answer of each kind of proxy begins."""
DRIPS = 12
DRIP_SECONDS = 0.6
"""All of them take longer than a proxy waits for a whole body, and none as long as for a part."""


def test_who_is_slow_or_sends_what_is_no_request_is_cut_off(behind: Behind) -> None:
    with ExitStack() as stack:
        waiting: dict[str, list[ssl.SSLSocket]] = {name: [] for name in LIMITS}
        for kind in proxies.KINDS:
            made = stack.enter_context(fronting(kind, behind))
            for name, (sent, _) in LIMITS.items():
                waiting[name].append(stack.enter_context(made.connection()))
                with suppress(OSError):
                    waiting[name][-1].sendall(sent)
        for _ in range(DRIPS):
            time.sleep(DRIP_SECONDS)
            for connection in waiting["dripping body"]:
                with suppress(OSError):
                    connection.sendall(b"a")
        seen = {name: tuple(map(read_begin, each)) for name, each in waiting.items()}
    assert seen == {name: begins for name, (_, begins) in LIMITS.items()}


def read_begin(connection: ssl.SSLSocket) -> bytes:
    """Read the version and the status of an answer; nothing where the connection ends."""
    with suppress(OSError):
        return connection.recv(4096)[:12]
    return b""


@pytest.fixture
def nobody(tmp_path: Path) -> Mapping[str, object]:
    """Where a service would be and none is."""
    cardholder_port, ops_port = free_ports(2)
    return {
        "cardholder_port": cardholder_port,
        "ops_port": ops_port,
        "d1_socket": tmp_path / "gone.sock",
    }


def test_a_service_that_is_away_is_unavailable_in_the_words_of_each_face(
    front: Front, behind: Behind, nobody: Mapping[str, object]
) -> None:
    with (
        fronting(front.proxy.kind, behind, **nobody) as lost,
        lost.d1() as d1,
        lost.app() as app,
    ):
        answers = (
            d1.get(PATH),
            app.get(IMAGE),
            app.post("/pincontrol/v2/plastic/1"),
            app.post("/pin/v1/plastic/1"),
        )
        wait_for(lambda: len(lost.said()) == len(answers))
        assert CANARY not in lost.proxy.log
        assert {line["status"] for line in lost.said()} == {503}
    assert [each.status_code for each in answers] == [503] * 4
    assert [each.headers["retry-after"] for each in answers] == ["1"] * 4
    assert [each.headers["cache-control"] for each in answers] == ["no-store"] * 4
    assert [each.headers["content-type"] for each in answers] == ["application/json"] * 4
    of_d1, hosted, *pincontrol = (each.json() for each in answers)
    assert of_d1 == {"errorCode": "SERVICE_UNAVAILABLE", "error": "Try again later"}
    assert hosted == {"message": "Internal server error"}
    for told in pincontrol:
        assert (told["code"], told["errorCode"]) == ("503", "TRY_LATER")
        assert str(UUID(told["id"])) == told["id"]
        assert datetime.fromisoformat(told["timestamp"]).tzinfo == UTC
        assert set(told) == {
            *("code", "message", "id", "errorCode", "errorType", "errorReason", "timestamp")
        }


def test_whatever_the_path_one_face_or_the_other_is_unavailable(
    front: Front, behind: Behind, nobody: Mapping[str, object]
) -> None:
    with fronting(front.proxy.kind, behind, **nobody) as lost, lost.app() as app:
        for path in ("/%70incontrol/x", "//pincontrol/x", "/pin", "/x?/pin/", "/pin%2f"):
            answer = app.get(path)
            assert answer.status_code == 503
            assert answer.json()["message"] in {"Internal server error", "Service Unavailable"}


def test_an_error_of_nginx_would_tell_the_query(
    behind: Behind, nobody: Mapping[str, object]
) -> None:
    (nginx,) = (kind for kind in proxies.KINDS if kind.name == "nginx")
    with fronting(nginx, behind, "silence of errors", **nobody) as lost, lost.app() as app:
        app.get(IMAGE)
        wait_for(lambda: CANARY in lost.proxy.log)


def repeats(service: StandIn, http: httpx.Client, method: str) -> tuple[int, int]:
    """The status of a call that a worker first ends without a word, and how often it came."""
    service.asked.clear()
    service.silent = 1
    try:
        status = http.request(method, "/x", headers=ASKS_TO_REPEAT).status_code
    except httpx.TransportError:
        status = BROKEN
    service.silent = 0
    return status, len(service.asked)


def test_nothing_is_repeated_but_gets_and_puts_of_d1(
    front: Front, behind: Behind, tmp_path: Path
) -> None:
    kind = front.proxy.kind

    with before_stand_in(kind, behind, tmp_path) as (made, service):
        for caller, expected in (
            (made.d1, {"GET": (200, 2), "PUT": (200, 2), "POST": (503, 1)}),
            (made.app, {"GET": (503, 1), "PUT": (503, 1), "POST": (503, 1)}),
        ):
            seen = {}
            for method in expected:
                with caller() as http:
                    seen[method] = repeats(service, http, method)
            assert seen == expected
        with made.app() as http:
            assert http.get("/x").status_code == 200
            # HAProxy has who kept a connection open send again, or not.
            kept = BROKEN if kind.name == "haproxy" else 503
            assert repeats(service, http, "GET") == (kept, 1)
    (tmp_path / "d1.sock").unlink()
    with (
        before_stand_in(kind, behind, tmp_path, "repeating") as (made, service),
        made.d1() as d1,
    ):
        assert repeats(service, d1, "POST") == (200, 2)


def test_envoy_would_repeat_what_a_caller_asks_it_to_that_it_trusts(
    behind: Behind, tmp_path: Path
) -> None:
    (envoy,) = (kind for kind in proxies.KINDS if kind.name == "envoy")
    with (
        before_stand_in(envoy, behind, tmp_path, "no internal address") as (made, service),
        made.app() as app,
    ):
        assert repeats(service, app, "POST") == (200, 2)


def test_who_asks_for_health_calls_nobody_that_is_not_ready(
    front: Front, behind: Behind, tmp_path: Path
) -> None:
    kind = front.proxy.kind
    with before_stand_in(kind, behind, tmp_path) as (made, service), made.d1() as d1:
        assert patiently(lambda: d1.get("/x")).status_code == 200
        service.ready = False
        if kind.asks_for_health:
            wait_for(lambda: d1.get("/x").status_code == 503)
        else:  # nginx: the service itself has to refuse
            assert d1.get("/x").status_code == 200
        service.ready = True
        assert patiently(lambda: d1.get("/x")).status_code == 200


def test_no_call_is_lost_when_certificates_are_read_again_and_a_worker_is_killed(
    front: Front, behind: Behind
) -> None:
    card = f"card-{2 + proxies.KINDS.index(front.proxy.kind)}"
    load, callers = Load(front.bank, [card], seed=7), 3
    ca = pki.Credential(front.prepared.pki / "ca.pem", front.prepared.pki / "ca.key")
    renewed = front.prepared.pki / "server.pem"
    with load.running(callers):
        load.wait_for_one(204)
        pki._renew(ca, renewed)
        shown = x509.load_pem_x509_certificate(renewed.read_bytes()).public_bytes(Encoding.DER)
        front.proxy.replace("server.pem", renewed.read_bytes())
        wait_for(lambda: front.shown() == shown)
        load.wait_for_one(204)
        kill_at_once(behind.service.workers()[0])
        wait_for(lambda: len(behind.service.workers()) == 2)
        load.wait_for_one(204)
    assert load.wrong == []
    assert load.answers.count(BROKEN) <= (callers if front.proxy.kind.closes_idle else 0)
    load.replay()
    stored = read_stored(front.prepared.database_url, BANK, card)
    assert violations(load.sent[card], stored) == []

"""Spans of a running service, as a collector gets them; and what it costs to have none."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from cms.sandbox.machine.postgres import Postgres
from cms.sandbox.machine.softhsm import SoftHsm
from cms.tracing.spans import ATTRIBUTES, ERROR_CLASS
from hsm.pkcs11.token import Pkcs11Token
from tests.collector import Collector, collecting
from tests.deployment import (
    ROOT,
    Enrolled,
    Service,
    deployment,
    free_ports,
    new_database,
    patiently,
    wait_for,
)

pytestmark = pytest.mark.slow

ISSUER, CARD, PIN = "tracebank1", "card-1", "407138"
PIN_ROUTE = "/cms/api/v1/issuers/{issuerId}/cards/{cardId}/pin"
TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE_ID}-{SPAN_ID}-01"


@pytest.fixture(scope="module")
def traced(
    tmp_path_factory: pytest.TempPathFactory,
    postgres: Postgres,
    softhsm: SoftHsm,
    hsm_token: Pkcs11Token,
) -> Iterator[tuple[Service, Enrolled, Collector]]:
    made = deployment(tmp_path_factory.mktemp("traces"), new_database(postgres), softhsm)
    enrolled = made.enrol(hsm_token, ISSUER)
    with collecting() as collector:
        given = made.given(traces_url=collector.url, traces_ratio=1, host_name="pins-1")
        with given.serving() as service:
            yield service, enrolled, collector


def test_a_request_its_statements_and_its_calls_of_the_vault_are_one_trace(
    traced: tuple[Service, Enrolled, Collector],
) -> None:
    service, enrolled, collector = traced
    pan = enrolled.sample_issuer.pans[CARD]
    with enrolled.client() as d1:
        patiently(lambda: d1.set_pin(CARD, PIN, pan))
        assert d1.get_pin(CARD, pan) == PIN
    wait_for(lambda: bool(collector.named(f"GET {PIN_ROUTE}")))
    (put,) = collector.named(f"PUT {PIN_ROUTE}")
    assert put.attributes == {
        "pins.listener": "d1",
        "http.request.method": "PUT",
        "http.route": PIN_ROUTE,
        "http.response.status_code": 204,
        "pins.issuer_id": ISSUER,
    }
    below = collector.below(put)
    assert below >= {"postgres READ_FOR_SET", "vault set_pin_from_jwe", "postgres CHANGE_PIN"}
    assert all(name.startswith(("postgres ", "vault ")) for name in below)
    (get,) = collector.named(f"GET {PIN_ROUTE}")
    assert {"postgres READ_FOR_GET", "vault export_jwe"} <= collector.below(get)
    assert get.trace_id != put.trace_id
    lines = {
        line["trace_id"]: line["route"] for line in service.lines("request") if "trace_id" in line
    }
    assert lines[put.trace_id] == PIN_ROUTE


def test_no_span_holds_more_than_the_list_or_anything_of_a_card(
    traced: tuple[Service, Enrolled, Collector],
) -> None:
    _, enrolled, collector = traced
    pan = enrolled.sample_issuer.pans[CARD]
    with enrolled.client() as d1:
        patiently(lambda: d1.set_pin(CARD, PIN, pan))
        token = d1.access_token()
    seen = len(collector.named(f"PUT {PIN_ROUTE}"))
    wait_for(lambda: len(collector.named(f"PUT {PIN_ROUTE}")) >= seen)
    assert {name for span in collector.spans for name in span.attributes} <= {
        *ATTRIBUTES.values(),
        ERROR_CLASS,
    }
    assert [*collector.resources[0]] == ["service.name", "service.instance.id"]
    assert collector.resources[0]["service.instance.id"] == "pins-1/0"
    text = "\n".join(collector.texts)
    for secret in (PIN, pan, CARD, token, enrolled.config.client_id, "localhost"):
        assert secret not in text


def test_a_caller_of_its_own_cannot_have_its_trace_continued(
    traced: tuple[Service, Enrolled, Collector],
) -> None:
    service, enrolled, collector = traced
    url = f"{service.deployment.base_url}/authz/d1/v1/oauth2/token"
    with httpx.Client(verify=enrolled.tls()) as http:
        patiently(lambda: http.post(url, headers={"traceparent": TRACEPARENT}))
    wait_for(lambda: bool(collector.named("POST /authz/d1/v1/oauth2/token")))
    assert TRACE_ID not in service.log.read_text()
    assert TRACE_ID not in {span.trace_id for span in collector.spans}


def test_a_proxy_says_which_request_is_traced_and_the_collector_may_be_away(
    tmp_path: Path, postgres: Postgres, softhsm: SoftHsm
) -> None:
    path = f"/cms/api/v1/issuers/{ISSUER}/cards/{CARD}/pin/changeCounter"
    made = deployment(tmp_path, new_database(postgres), softhsm).behind_proxy()
    transport = httpx.HTTPTransport(uds=str(tmp_path / "d1.sock"))
    with (
        collecting() as collector,
        made.given(traces_url=collector.url, traces_ratio=0).serving(wait=False) as service,
        httpx.Client(transport=transport, base_url="http://pins") as proxy,
    ):
        service.wait_until_answering()
        # Nobody's certificate: 401, and no less a request.
        for headers in ({}, {"traceparent": TRACEPARENT}, {"traceparent": f"{TRACEPARENT[:-1]}0"}):
            assert proxy.get(path, headers=headers).status_code == 401
        wait_for(lambda: bool(collector.spans))
        of_d1 = [line for line in service.lines("request") if line["listener"] == "d1"]
        assert [line.get("trace_id") for line in of_d1] == [None, TRACE_ID, TRACE_ID]
    requests = [(span.trace_id, span.parent_id) for span in collector.spans if span.attributes]
    assert requests == [(TRACE_ID, SPAN_ID)]


def test_a_collector_that_is_away_costs_spans_and_one_line(
    tmp_path: Path, postgres: Postgres, softhsm: SoftHsm
) -> None:
    made = deployment(tmp_path, new_database(postgres), softhsm)
    url = f"http://127.0.0.1:{free_ports(1)[0]}/v1/traces"
    with made.given(traces_url=url, traces_ratio=1).serving(wait=False) as service:
        wait_for(lambda: service.answers() and bool(service.lines("traces.unavailable")))
        assert service.answers()
    assert len(service.lines("traces.unavailable")) == 1


OFF = """
import sys
from pathlib import Path
from cms import serve
from cms.app import create_app
from cms.settings import Settings
here = Path("/nowhere")
url = Path(sys.argv[1])
create_app(Settings(database_url_file=url, public_url="https://pins", vault_socket_directory=here,
    d1_certificate_file=here, d1_key_file=here, d1_client_ca_file=here))
print([name for name in ("cms.tracing", "opentelemetry.sdk", "google.protobuf", "requests")
       if name in sys.modules])
"""


def test_without_a_collector_nothing_of_it_is_loaded(tmp_path: Path) -> None:
    url = tmp_path / "url"
    url.write_text("postgresql:///cms")
    command = [sys.executable, "-c", OFF, str(url)]
    ran = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert ran.stdout.strip() == "[]"

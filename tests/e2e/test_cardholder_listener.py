"""The cardholder listener of a real service: TLS without a client certificate, its routes only."""

import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psycopg
import pytest

from cms.sandbox import HANG_SECONDS
from cms.sandbox.machine.postgres import Postgres
from cms.sandbox.machine.softhsm import SoftHsm
from cms.sandbox.partners.hosted_app import PageSession
from hsm.pkcs11.token import Pkcs11Token
from tests.bearers import bearer
from tests.deployment import (
    CrashingPostgres,
    Deployment,
    Enrolled,
    deployment,
    new_database,
    patiently,
    wait_for,
)
from tests.issuer_records import add_clients, app_client, name_card, run_sql

BANK, APP = "firstbank1", "firstbank1-app"
CARD, HOLDER = "card-1", "holder-1"
D1_ROUTES = [
    ("POST", "/authz/d1/v1/oauth2/token"),
    ("GET", "/cms/api/v1/issuers/firstbank1/cards/card-1/pin"),
    ("GET", "/readyz"),
]


@dataclass(frozen=True)
class PinService:
    """A running service with an app, a cardholder and D1."""

    http: httpx.Client
    bearer: str
    d1: Enrolled
    log: Path

    def post(self, path: str) -> httpx.Response:
        headers = {"x-client-key": APP, "Authorization": f"Bearer {self.bearer}"}
        return patiently(lambda: self.http.post(path, headers=headers))

    def submission(self, pin: str) -> dict[str, str]:
        """Open a set page, and make what its script sends for *pin*."""
        issued = self.post("/v1/card/set-pin/token").json()
        loaded = self.http.get(issued["hostedPageUrl"])
        assert loaded.status_code == 200
        assert "frame-ancestors 'none'" in loaded.headers["Content-Security-Policy"]
        opened = self.http.post("/pin-direct/session", json={"token": issued["token"]}).json()
        page = PageSession(opened["session"], issued["token"], opened["grantId"], opened["key"])
        return page.submission(pin)


@contextmanager
def open_desk(prepared: Deployment, hsm_token: Pkcs11Token) -> Iterator[PinService]:
    d1, vault = prepared.enrol(hsm_token, BANK), prepared.vault(hsm_token)
    add_clients(vault, BANK, app_client(APP))
    name_card(prepared.database_url, vault, d1.sample_issuer, CARD, cardholder_id=HOLDER)
    url = prepared.environment["CMS_CARDHOLDER_URL"]
    tls = ssl.create_default_context(cafile=prepared.pki / "ca.pem")
    with (
        prepared.serving() as service,
        httpx.Client(base_url=url, verify=tls, timeout=HANG_SECONDS) as http,
    ):
        yield PinService(http, bearer(HOLDER, BANK), d1, service.log)


@contextmanager
def serving(
    directory: Path, database_url: str, softhsm: SoftHsm, hsm_token: Pkcs11Token
) -> Iterator[PinService]:
    prepared = deployment(directory, database_url, softhsm).for_cardholders()
    with open_desk(prepared, hsm_token) as opened:
        yield opened


@pytest.fixture(scope="module")
def pin_service(
    tmp_path_factory: pytest.TempPathFactory,
    postgres: Postgres,
    softhsm: SoftHsm,
    hsm_token: Pkcs11Token,
) -> Iterator[PinService]:
    directory = tmp_path_factory.mktemp("cardholder")
    with serving(directory, new_database(postgres), softhsm, hsm_token) as pin_service:
        yield pin_service


def test_a_pin_set_by_d1_is_shown_once_as_an_image(pin_service: PinService) -> None:
    with pin_service.d1.client() as d1:
        d1.set_pin(CARD, "4071", pin_service.d1.sample_issuer.pans[CARD])
    issued = pin_service.post("/v1/card/pin/token")
    assert issued.status_code == 200, issued.text
    first, second = (pin_service.http.get(issued.json()["imageUrl"]) for _ in range(2))
    assert (first.status_code, first.headers["X-Pin-Result"]) == (200, "shown")
    assert (second.status_code, second.headers["X-Pin-Result"]) == (410, "ended")
    assert first.content != second.content
    assert len(second.content) < len(first.content)
    assert issued.json()["token"] not in pin_service.log.read_text()


def test_a_pin_set_on_the_page_is_read_by_d1(pin_service: PinService) -> None:
    answer = pin_service.http.post("/pin-direct/submit", json=pin_service.submission("5273"))
    assert answer.status_code == 204, answer.text
    with pin_service.d1.client() as d1:
        assert d1.get_pin(CARD, pin_service.d1.sample_issuer.pans[CARD]) == "5273"


def test_a_database_that_is_lost_in_the_middle_shows_nothing_and_stores_nothing(
    tmp_path: Path, own_postgres: CrashingPostgres, softhsm: SoftHsm, hsm_token: Pkcs11Token
) -> None:
    url = new_database(own_postgres)
    with serving(tmp_path, url, softhsm, hsm_token) as pin_service, ThreadPoolExecutor() as pool:
        pan = pin_service.d1.sample_issuer.pans[CARD]
        with pin_service.d1.client() as d1:
            d1.set_pin(CARD, "4071", pan)
        image_url = pin_service.post("/v1/card/pin/token").json()["imageUrl"]
        members = pin_service.submission("5273")
        with closing(psycopg.connect(url)) as other:
            other.execute("SELECT FROM cards FOR UPDATE")
            other.execute("SELECT FROM control_tokens FOR UPDATE")
            image = pool.submit(pin_service.http.get, image_url)
            submit = pool.submit(pin_service.http.post, "/pin-direct/submit", json=members)
            wait_for(lambda: waiting(url) == 2)
            own_postgres.crash()
        assert (image.result().status_code, submit.result().status_code) == (503, 503)
        assert image.result().headers["X-Pin-Result"] == "failed"
        assert submit.result().json() == {"message": "Internal server error"}
        own_postgres.recover(tmp_path / "postgres.log")
        with pin_service.d1.client() as d1:
            assert patiently(lambda: d1.get_pin(CARD, pan)) == "4071"
        assert run_sql(url, "SELECT consumed_at, end_reason FROM control_tokens"
                       " WHERE purpose = 'view'") == [(None, None)]  # fmt: skip
        assert run_sql(url, "SELECT event, reason FROM audit_events WHERE actor = %s"
                       " AND event LIKE 'pin.%%'", APP) == []  # fmt: skip


def waiting(url: str) -> int:
    """Count the statements that wait for a lock."""
    ((count,),) = run_sql(
        url, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    )
    return int(count)


@pytest.mark.parametrize(("method", "path"), D1_ROUTES)
def test_the_routes_of_the_other_listeners_are_not_here(
    pin_service: PinService, method: str, path: str
) -> None:
    answer = pin_service.http.request(method, path)
    assert answer.status_code == 404
    assert answer.json() == {"message": "Not found"}


@pytest.mark.parametrize("path", ["/v1/card/status", "/details-image", "/pin-direct/set"])
def test_the_cardholders_routes_are_not_on_d1s_listener(pin_service: PinService, path: str) -> None:
    d1 = pin_service.d1
    with httpx.Client(verify=d1.tls(), base_url=d1.config.base_url, timeout=HANG_SECONDS) as http:
        assert http.get(path).status_code == 404

"""What all workers of web and vault counted, whichever answers; and that all give one readiness."""

import os
import re
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from cms.sandbox.machine.postgres import Postgres
from cms.sandbox.machine.softhsm import SoftHsm
from hsm.pkcs11.token import Pkcs11Token
from tests.deployment import Enrolled, Service, deployment, new_database, patiently, wait_for

pytestmark = pytest.mark.slow

COUNTER = "/cms/api/v1/issuers/{issuerId}/cards/{cardId}/pin/changeCounter"
WORKERS = 2


@pytest.fixture(scope="module")
def served(
    tmp_path_factory: pytest.TempPathFactory,
    postgres: Postgres,
    softhsm: SoftHsm,
    hsm_token: Pkcs11Token,
) -> Iterator[tuple[Service, Enrolled]]:
    prepared = deployment(
        tmp_path_factory.mktemp("metrics"), new_database(postgres), softhsm, workers=WORKERS
    ).vault_given(workers=WORKERS)
    enrolled = prepared.enrol(hsm_token, "metricbnk1")
    with prepared.serving() as service:
        wait_for(lambda: len(service.workers()) == WORKERS)
        yield service, enrolled


def samples(service: Service) -> Mapping[str, float]:
    """What is shown, by name and labels as Prometheus writes them."""
    answer = service.ops("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        f"{each.name}{ {**each.labels} }": each.value
        for family in text_string_to_metric_families(answer.text)
        for each in family.samples
    }


def total(service: Service, name: str, **labels: str) -> float:
    """Add up what has these labels."""
    found = [
        value
        for shown, value in samples(service).items()
        if shown.startswith(name + "{")
        and all(f"'{label}': '{value}'" in shown for label, value in labels.items())
    ]
    return sum(found)


def test_the_counts_of_all_workers_are_one_whoever_answers(
    served: tuple[Service, Enrolled],
) -> None:
    service, enrolled = served
    route = {"listener": "d1", "route": COUNTER, "method": "GET", "status": "200"}
    for _ in range(6):
        with enrolled.client() as client:
            patiently(lambda: client.counter("card-1"))
    for _ in range(6):
        assert total(service, "cms_request_seconds_count", **route) == 6
    assert total(service, "cms_workers_started_total") == WORKERS


def test_a_worker_that_is_killed_takes_no_count_with_it(
    served: tuple[Service, Enrolled],
) -> None:
    service, enrolled = served
    with enrolled.client() as client:
        patiently(lambda: client.counter("card-1"))
    route = {"listener": "d1", "route": COUNTER, "status": "200"}
    before = total(service, "cms_request_seconds_count", **route)
    started = total(service, "cms_workers_started_total")
    killed = service.workers()[0]
    os.kill(killed, signal.SIGKILL)
    wait_for(lambda: total_or_none(service, "cms_workers_started_total") == started + 1)
    assert total(service, "cms_request_seconds_count", **route) == before
    directory = metrics_directory(service)
    assert len([*directory.glob("counter_*.db")]) == WORKERS
    assert directory.stat().st_mode & 0o777 == 0o700


def test_the_vault_s_counts_are_shown_too_and_outlive_its_workers(
    served: tuple[Service, Enrolled],
) -> None:
    service, enrolled = served
    with enrolled.client() as client:
        client.set_pin("card-1", "4071", enrolled.sample_issuer.pans["card-1"])
        assert client.get_pin("card-1", enrolled.sample_issuer.pans["card-1"]) == "4071"
    verb = {"verb": "export_jwe"}
    assert total(service, "hsm_call_seconds_count", **verb) == 1
    assert total(service, "cms_vault_call_seconds_count", **verb) == 1
    assert total(service, "hsm_log_lines_total", action="pin.export") == 1
    assert total(service, "hsm_openings_total", result="opened") == WORKERS
    assert total(service, "hsm_wait_seconds_count", socket="d1") > 0
    assert total(service, "hsm_key_info", key="pin.g1") == 1
    assert total(service, "cms_audit_rows_total", event="pin.set") == 1
    assert total(service, "cms_audit_rows_total", event="pin.get") == 1
    assert samples(service)["cms_clock_difference_seconds{}"] == 0
    os.kill(service.vault_workers()[0], signal.SIGKILL)
    wait_for(lambda: total_or_none(service, "hsm_openings_total", result="opened") == WORKERS + 1)
    assert total(service, "hsm_workers_ended_total", why="CRASHED") == 1
    assert total(service, "hsm_call_seconds_count", **verb) == 1


def test_readiness_names_the_certificate_and_manifests_that_end(
    served: tuple[Service, Enrolled],
) -> None:
    service, _ = served
    wait_for(lambda: total_or_none(service, "cms_ready", part="all") == 1)
    assert total(service, "cms_certificate_end_timestamp_seconds", listener="d1") > 0
    wait_for(lambda: total(service, "cms_manifest_end_timestamp_seconds", issuer="metricbnk1") > 0)
    assert total(service, "cms_workers", state="answering") == WORKERS


def test_without_a_vault_the_web_still_shows_its_own(served: tuple[Service, Enrolled]) -> None:
    service, _ = served
    service.vault.terminate()
    service.vault.wait()
    shown = samples(service)
    assert any(name.startswith("cms_request_seconds") for name in shown)
    assert not any(name.startswith("hsm_") for name in shown)
    answer = service.ops("/readyz")
    assert answer.status_code == 503
    assert {fault["part"] for fault in answer.json()["problems"]} == {"vault"}


def total_or_none(service: Service, name: str, **labels: str) -> float | None:
    """The same while a worker is being replaced, which may cost an answer."""
    try:
        return total(service, name, **labels)
    except httpx.TransportError:
        return None


def metrics_directory(service: Service) -> Path:
    (worker, *_) = service.workers()
    environment = Path(f"/proc/{worker}/environ").read_bytes().decode()
    found = re.search(r"PROMETHEUS_MULTIPROC_DIR=([^\0]+)", environment)
    assert found
    return Path(found[1])

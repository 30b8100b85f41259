"""What all workers of web and vault counted, whichever answers; and that all give one readiness."""

import os
import re
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

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


def total_or_none(service: Service, name: str) -> float | None:
    try:
        return total(service, name)
    except OSError:
        return None


def metrics_directory(service: Service) -> Path:
    (worker, *_) = service.workers()
    environment = Path(f"/proc/{worker}/environ").read_bytes().decode()
    found = re.search(r"PROMETHEUS_MULTIPROC_DIR=([^\0]+)", environment)
    assert found
    return Path(found[1])

"""The operations face against its own description: generated requests, documented answers."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import given
from hypothesis import strategies as st

from cms import interfaces
from cms.faces.operation import JSON
from cms.faces.ops import NOT_READY, ops_app
from cms.persistence.tables import REVISION
from cms.services.ends import Ends
from cms.services.health import Health
from tests.cms.faces import conformity, generated
from tests.cms.faces.generated import DESCRIBED, MOSTLY, QUICK, cases_of
from tests.cms.services.test_health import Both
from tests.in_process_vault import InProcessVault

#: Each operation, and the answers that the generated requests must all have brought out.
OPERATIONS = {
    ("/healthz", "GET"): {200},
    ("/readyz", "GET"): {200, 503},
    ("/metrics", "GET"): {200},
    ("/interfaces", "GET"): {200},
    ("/interfaces/{face}", "GET"): {200, 404},
    ("/openapi/{face}", "GET"): {200, 404},
}
#: Of the database: as it should be, another one, and none.
REVISIONS = st.sampled_from([REVISION, "newer", ""])


@dataclass(frozen=True)
class Service:
    """The face, called from tests that are not asynchronous."""

    portal: BlockingPortal
    both: Both
    http: httpx.AsyncClient


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    both = Both()
    vault = InProcessVault(both)  # type: ignore[arg-type] # as far as it is asked
    health = Health(vault, both, ends=Ends({"firstbank1": datetime.now(UTC)}))  # type: ignore[arg-type] # the same
    transport = httpx.ASGITransport(ops_app(health, vault, interfaces.shown()))
    client = httpx.AsyncClient(transport=transport, base_url="http://ops")
    with (
        start_blocking_portal("asyncio") as portal,
        portal.wrap_async_context_manager(client) as http,
    ):
        yield Service(portal, both, http)


def test_every_operation_is_tried() -> None:
    assert OPERATIONS.keys() == {
        (path, method)
        for path, methods in interfaces.documents()["ops"]["paths"].items()
        for method in map(str.upper, methods)
    }


@pytest.mark.parametrize(("path", "method"), sorted(OPERATIONS))
def test_generated_requests_get_documented_answers(
    service: Service, path: str, method: str
) -> None:
    statuses = set()

    @QUICK
    @given(case=cases_of("ops", path, method), vault=MOSTLY, database=MOSTLY, revision=REVISIONS)
    def try_out(*, case: Any, vault: bool, database: bool, revision: str) -> None:  # noqa: ANN401 - a case
        both = service.both
        both.token_unavailable, both.database_unavailable = not vault, not database
        both.revision_found = revision
        statuses.add(generated.send(service.portal, service.http, case, {}, DESCRIBED))

    try_out()
    assert statuses == OPERATIONS[path, method]


def test_a_defect_is_answered_as_described(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Health, "of_all", lambda _: 1 / 0)
    for path in ("/readyz", "/metrics"):
        answer = service.portal.call(service.http.get, path)
        assert (answer.status_code, answer.json()) == (500, {"detail": "Internal Server Error"})
        assert not [*conformity.faults(path, "GET", 500, answer.headers, answer.content)]
    assert [record.getMessage() for record in caplog.records] == ["internal"] * 2


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/readyz", 503, b'{"ready": false, "vault": true, "database": false, "warnings": []}'),
        (
            "/readyz",
            503,
            json.dumps({**NOT_READY, "warnings": [{"part": "disk", "reason": ""}]}).encode(),
        ),
        ("/readyz", 500, b"{}"),
        ("/openapi/{face}", 404, b""),
        ("/openapi/{face}", 200, b"[]"),
    ],
)
def test_an_answer_that_is_not_as_described_is_found(path: str, status: int, body: bytes) -> None:
    assert [*conformity.faults(path, "GET", status, {"content-type": JSON}, body)]

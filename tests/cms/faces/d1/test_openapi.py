"""The D1 face against its own description: generated requests, documented answers."""

import base64
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.specs.openapi import checks

from cms.faces.d1.jwks import JWKS_PATH
from cms.faces.d1.oauth import TOKEN_PATH
from cms.sandbox.machine.postgres import Postgres
from hsm.vault import Vault
from tests.cms.faces.d1_face import PIN, D1Face
from tests.conftest import TEMPLATE
from tests.service import PUBLIC_URL, d1_app

CARD = "/cms/api/v1/issuers/{issuerId}/cards/{cardId}"
ACTIVATE = "/cms/api/v1/issuers/{issuerId}/physicalCards/{cardId}/activate"
#: Each operation, and the answers that the generated requests must all have brought out.
OPERATIONS = {
    (f"{CARD}/pin", "GET"): {200, 400, 401, 403, 404},
    (f"{CARD}/pin", "PUT"): {204, 400, 401, 403, 404},
    (f"{CARD}/pin/changeCounter", "GET"): {200, 400, 401, 403, 404},
    (ACTIVATE, "POST"): {204, 400, 401, 403, 404},
    (TOKEN_PATH, "POST"): {200, 400, 401},
    (JWKS_PATH, "GET"): {200},
}
CHECKS = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
#: None leaves the generated path as it is.
CARDS = (None, "a.b", "active", "empty", "blocked", "closed", "unknown")
MOSTLY = st.sampled_from([True, True, False])
QUICK = settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@dataclass(frozen=True)
class Service:
    """A running service, called from tests that are not asynchronous."""

    portal: BlockingPortal
    d1_face: D1Face

    @property
    def schema(self) -> Any:  # noqa: ANN401 - a schema of schemathesis
        return schemathesis.openapi.from_dict(d1_app(self.d1_face.application).openapi())

    def send(self, case: Any, headers: dict[str, str]) -> httpx.Response:  # noqa: ANN401 - a case
        """Send a case as it is, with *headers* besides."""
        prepared = requests.Request(**case.as_transport_kwargs(base_url=PUBLIC_URL)).prepare()
        sent = {**prepared.headers, **headers}
        body = prepared.body
        assert body is None or isinstance(body, str | bytes)
        call = partial(
            self.d1_face.d1.http.request,
            prepared.method or "",
            prepared.url or "",
            content=body,
            headers=[(latin_1(name), latin_1(value)) for name, value in sent.items()],
        )
        return self.portal.call(call)


def latin_1(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1", "replace")


@pytest.fixture(scope="module")
def service(
    postgres: Postgres, vault: Vault, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    name = f"openapi_{secrets.token_hex(6)}"
    postgres.create_database(name, template=TEMPLATE)
    set_up = D1Face.set_up(postgres.url(name), tmp_path_factory.mktemp(name), vault)
    with (
        start_blocking_portal("asyncio") as portal,
        portal.wrap_async_context_manager(set_up) as d1_face,
    ):
        yield Service(portal, d1_face)
    postgres.drop_database(name)


def test_every_route_is_described_and_nothing_else(service: Service) -> None:
    paths = d1_app(service.d1_face.application).openapi()["paths"]
    described = {(path, method.upper()) for path, item in paths.items() for method in item}
    assert described == OPERATIONS.keys()


@pytest.mark.parametrize(("path", "method"), sorted(OPERATIONS))
def test_generated_requests_get_documented_answers(
    service: Service, path: str, method: str
) -> None:
    d1_face = service.d1_face
    operation = service.schema[path][method]
    cases = st.one_of(*(operation.as_strategy(generation_mode=mode) for mode in GenerationMode))
    credentials = base64.b64encode(
        f"{d1_face.sample_issuer.client_id}:{d1_face.sample_issuer.secret}".encode()
    )
    basic = {"authorization": f"Basic {credentials.decode()}"}
    good = basic if path == TOKEN_PATH else dict(d1_face.bearer)
    statuses = set()

    @QUICK
    @given(case=cases, encrypted=MOSTLY)
    def send(card: str | None, *, known: bool, case: Any, encrypted: bool) -> None:  # noqa: ANN401 - a case
        if card is not None:
            case.path_parameters |= {"issuerId": d1_face.sample_issuer.issuer_id, "cardId": card}
        if encrypted and isinstance(case.body, dict) and "encryptedPinBlock" in case.body:
            jwe = d1_face.sample_issuer.pin_jwe(PIN, "active")
            case.body |= {"type": "ISO0", "encryptedPinBlock": jwe}
        answer = service.send(case, good if known else {})
        statuses.add(answer.status_code)
        case.validate_response(answer, checks=CHECKS)

    for card in CARDS if "{cardId}" in path else [None] * len(CARDS):
        send(card, known=True)
    send(None, known=False)
    assert OPERATIONS[path, method] <= statuses

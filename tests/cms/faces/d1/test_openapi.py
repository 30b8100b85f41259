"""The D1 face against its own description: generated requests, documented answers."""

import base64
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import given

from cms.faces.d1.jwks import JWKS_PATH
from cms.faces.d1.oauth import TOKEN_PATH
from cms.sandbox.machine.postgres import Postgres
from hsm.vault import Vault
from tests.cms.faces import generated
from tests.cms.faces.d1_face import PIN, D1Face
from tests.cms.faces.generated import MOSTLY, QUICK, cases_of
from tests.deployment import TEMPLATE

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
#: None leaves the generated path as it is.
CARDS = (None, "a.b", "active", "empty", "blocked", "closed", "unknown")


@dataclass(frozen=True)
class Service:
    """A running service, called from tests that are not asynchronous."""

    portal: BlockingPortal
    d1_face: D1Face


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


@pytest.mark.parametrize(("path", "method"), sorted(OPERATIONS))
def test_generated_requests_get_documented_answers(
    service: Service, path: str, method: str
) -> None:
    d1_face = service.d1_face
    cases = cases_of("d1", path, method)
    credentials = base64.b64encode(
        f"{d1_face.sample_issuer.client_id}:{d1_face.sample_issuer.secret}".encode()
    )
    basic = {"authorization": f"Basic {credentials.decode()}"}
    good = basic if path == TOKEN_PATH else dict(d1_face.bearer)
    statuses = set()

    @QUICK
    @given(case=cases, encrypted=MOSTLY)
    def try_out(card: str | None, *, known: bool, case: Any, encrypted: bool) -> None:  # noqa: ANN401 - a case
        if card is not None:
            case.path_parameters |= {"issuerId": d1_face.sample_issuer.issuer_id, "cardId": card}
        if encrypted and isinstance(case.body, dict) and "encryptedPinBlock" in case.body:
            jwe = d1_face.sample_issuer.pin_jwe(PIN, "active")
            case.body |= {"type": "ISO0", "encryptedPinBlock": jwe}
        headers = good if known else {}
        statuses.add(generated.send(service.portal, d1_face.d1.http, case, headers))

    for card in CARDS if "{cardId}" in path else [None] * len(CARDS):
        try_out(card, known=True)
    try_out(None, known=False)
    assert OPERATIONS[path, method] <= statuses

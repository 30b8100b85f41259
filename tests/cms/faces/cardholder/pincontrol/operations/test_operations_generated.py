"""Pincontrol and PIN operations against their description: generated requests, known answers."""

import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import given

from cms.sandbox.machine.postgres import Postgres
from tests.cms.faces import generated
from tests.cms.faces.cardholder.pincontrol import backends
from tests.cms.faces.cardholder.pincontrol.operations.operations_face import (
    OperationsFace,
    block_of,
    opened,
    set_up,
)
from tests.cms.faces.cardholder.pincontrol.pincontrol_face import basic
from tests.cms.faces.generated import FEW, MOSTLY, cases_of
from tests.deployment import TEMPLATE
from tests.issuer_records import SECRET

#: Each operation, and the answers that the generated requests must all have brought out.
OPERATIONS = {
    ("/pincontrol/v2/plastic/{plasticId}", "POST"): {201, 400, 401},
    ("/pincontrol/pin", "POST"): {200, 400},
    ("/pincontrol/frame", "GET"): {410},
    ("/pincontrol/page/session", "POST"): {400},
    ("/pincontrol/page/view", "POST"): {400},
    ("/pincontrol/page/digits", "POST"): {400},
    ("/pincontrol/page/extend", "POST"): {400},
    ("/pincontrol/page/submit", "POST"): {400},
    ("/pincontrol/page/cancel", "POST"): {204, 400},
    ("/pin/v2/{plasticId}", "GET"): {200, 400, 401},
    ("/pin/v2/{plasticId}", "POST"): {200, 400, 401},
    ("/pin/v3/view", "POST"): {400, 401},
    ("/pin/v3/set/tzpk", "POST"): {400, 401},
    ("/pin/v3/set", "POST"): {400, 401},
    ("/pin/v2/view", "POST"): {404},
}


@dataclass(frozen=True)
class Service:
    """Running faces, called from tests that are not asynchronous."""

    portal: BlockingPortal
    operations_face: OperationsFace
    plastic_id: str


@asynccontextmanager
async def serving(url: str, directory: Path) -> AsyncIterator[tuple[OperationsFace, str]]:
    async with set_up(url, directory) as d1_face, opened(d1_face) as operations_face:
        _, plastic_id = await operations_face.pincontrol.plastic(pin="4071")
        yield operations_face, plastic_id


@pytest.fixture(scope="module")
def service(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    name = f"generated_{secrets.token_hex(6)}"
    postgres.create_database(name, template=TEMPLATE)
    running = serving(postgres.url(name), tmp_path_factory.mktemp(name))
    with (
        start_blocking_portal("asyncio") as portal,
        portal.wrap_async_context_manager(running) as (operations_face, plastic_id),
    ):
        yield Service(portal, operations_face, plastic_id)
    postgres.drop_database(name)


@pytest.mark.parametrize(("path", "method"), sorted(OPERATIONS))
def test_generated_requests_get_documented_answers(
    service: Service, path: str, method: str
) -> None:
    pincontrol = service.operations_face.pincontrol
    http = pincontrol.http if path.startswith("/pincontrol/") else service.operations_face.http
    statuses = set()

    @FEW
    @given(case=cases_of("pincontrol", path, method), live=MOSTLY)
    def try_out(*, known: bool, case: Any, live: bool) -> None:  # noqa: ANN401 - a case
        if known and live and "{plasticId}" in path:
            case.path_parameters = {"plasticId": service.plastic_id}
            case.query = {"auditUser": "clerk", "zpkIndex": "0"}
            if path.startswith("/pin/") and method == "POST":
                case.body = {"zpkIndex": "0", "pinBlock": block_of("4071")}
                case.media_type = "application/json"
        if known and live and path == "/pincontrol/pin":
            case.body = {
                "controlId": service.portal.call(pincontrol.control_id, service.plastic_id)
            }
            case.media_type = "application/x-www-form-urlencoded"
        headers = basic(backends.USER, SECRET) if known else {}
        statuses.add(generated.send(service.portal, http, case, headers))

    for known in (True, False):
        try_out(known=known)
    assert OPERATIONS[path, method] <= statuses

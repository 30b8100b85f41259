"""The hosted face against its own description: generated requests, documented answers."""

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
from hsm.vault import Vault
from tests.cms.faces import generated
from tests.cms.faces.cardholder.hosted import apps
from tests.cms.faces.cardholder.hosted.hosted_face import HostedFace, opened
from tests.cms.faces.d1_face import D1Face
from tests.cms.faces.generated import FEW, MOSTLY, cases_of
from tests.deployment import TEMPLATE

#: Each operation, and the answers that the generated requests must all have brought out.
OPERATIONS = {
    ("/v1/card/pin/token", "POST"): {200, 422, 499},
    ("/v1/card/set-pin/token", "POST"): {200, 422, 499},
    ("/v1/card/status", "GET"): {200, 499},
    ("/details-image", "GET"): {200, 410},
    ("/pin-direct/set", "GET"): {200, 410},
    ("/pin-direct/session", "POST"): {200, 400},
    ("/pin-direct/extend", "POST"): {400, 410},
    ("/pin-direct/submit", "POST"): {400, 410},
    ("/pin-direct/cancel", "POST"): {204, 400},
    ("/pin-assets/{hash}/{name}", "GET"): {404},
}
PURPOSES = {"/details-image": "pin", "/pin-direct/set": "set-pin", "/pin-direct/session": "set-pin"}


@dataclass(frozen=True)
class Service:
    """A running face, called from tests that are not asynchronous."""

    portal: BlockingPortal
    hosted_face: HostedFace
    holder: str

    def control_token(self, purpose: str) -> str:
        return self.portal.call(self.hosted_face.control_token, purpose, self.holder)


@asynccontextmanager
async def serving(url: str, directory: Path, vault: Vault) -> AsyncIterator[tuple[HostedFace, str]]:
    async with D1Face.set_up(url, directory, vault) as d1_face:
        await apps.add_apps(d1_face)
        async with opened(d1_face) as hosted_face:
            _, holder = await hosted_face.holder()
            yield hosted_face, holder


@pytest.fixture(scope="module")
def service(
    postgres: Postgres, vault: Vault, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    name = f"hosted_{secrets.token_hex(6)}"
    postgres.create_database(name, template=TEMPLATE)
    running = serving(postgres.url(name), tmp_path_factory.mktemp(name), vault)
    with (
        start_blocking_portal("asyncio") as portal,
        portal.wrap_async_context_manager(running) as (hosted_face, holder),
    ):
        yield Service(portal, hosted_face, holder)
    postgres.drop_database(name)


@pytest.mark.parametrize(("path", "method"), sorted(OPERATIONS))
def test_generated_requests_get_documented_answers(
    service: Service, path: str, method: str
) -> None:
    caller = service.hosted_face.headers(service.holder) if path.startswith("/v1/") else {}
    statuses = set()

    @FEW
    @given(case=cases_of("hosted", path, method), live=MOSTLY)
    def try_out(*, known: bool, case: Any, live: bool) -> None:  # noqa: ANN401 - a case
        if known and live and path in PURPOSES:
            token = service.control_token(PURPOSES[path])
            if method == "GET":
                case.query = {"token": token}
            else:
                case.body, case.media_type = {"token": token}, "application/json"
        headers = caller if known else {}
        http = service.hosted_face.http
        statuses.add(generated.send(service.portal, http, case, headers))

    for known in (True, False):
        try_out(known=known)
    assert OPERATIONS[path, method] <= statuses

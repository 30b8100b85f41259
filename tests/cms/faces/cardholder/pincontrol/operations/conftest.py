"""One service for each file, with a vault of its own; the operations are served for each test."""

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cms.sandbox.machine.postgres import Postgres
from tests import counted
from tests.cms.faces.cardholder.pincontrol.operations.operations_face import (
    OperationsFace,
    opened,
    set_up,
)
from tests.cms.faces.d1_face import D1Face
from tests.deployment import TEMPLATE


@pytest.fixture(scope="module")
def state_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("operations")


@pytest.fixture(scope="module")
async def with_operations(postgres: Postgres, state_directory: Path) -> AsyncIterator[D1Face]:
    name = f"operations_{secrets.token_hex(6)}"
    postgres.create_database(name, template=TEMPLATE)
    async with set_up(postgres.url(name), state_directory) as d1_face:
        yield d1_face
    postgres.drop_database(name)


@pytest.fixture
async def operations_face(
    with_operations: D1Face, state_directory: Path
) -> AsyncIterator[OperationsFace]:
    counted.forget_in(state_directory)
    async with opened(with_operations) as operations_face:
        yield operations_face

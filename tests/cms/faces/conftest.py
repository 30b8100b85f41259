"""One running service for each file of face tests."""

import secrets
from collections.abc import AsyncIterator, Iterator

import pytest

from cms.sandbox.machine.postgres import Postgres
from hsm.vault import Vault
from tests.cms.faces.conformity import all_answers_described
from tests.cms.faces.d1_face import D1Face
from tests.deployment import TEMPLATE


@pytest.fixture(scope="module")
async def d1_face(
    postgres: Postgres, vault: Vault, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[D1Face]:
    """A service that the tests of one file share: each uses cards or banks of its own."""
    name = f"scene_{secrets.token_hex(6)}"
    postgres.create_database(name, template=TEMPLATE)
    async with D1Face.set_up(postgres.url(name), tmp_path_factory.mktemp(name), vault) as d1_face:
        yield d1_face
    postgres.drop_database(name)


@pytest.fixture(autouse=True)
def _answers_are_described() -> Iterator[None]:
    """Every answer that a test of a face gets is one that the face's document describes."""
    with all_answers_described() as faults:
        yield
    assert not faults, "\n".join(sorted({*faults}))

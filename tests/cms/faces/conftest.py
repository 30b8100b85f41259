"""One running service for each file of face tests."""

import secrets
from collections.abc import AsyncIterator

import pytest

from cms.sandbox.postgres import Postgres
from hsm.vault import Vault
from tests.cms.faces.scene import Scene
from tests.conftest import TEMPLATE


@pytest.fixture(scope="module")
async def scene(
    postgres: Postgres, vault: Vault, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Scene]:
    """A service that the tests of one file share: each uses cards or banks of its own."""
    name = f"scene_{secrets.token_hex(6)}"
    postgres.create_database(name, template=TEMPLATE)
    async with Scene.set_up(postgres.url(name), tmp_path_factory.mktemp(name), vault) as scene:
        yield scene
    postgres.drop_database(name)

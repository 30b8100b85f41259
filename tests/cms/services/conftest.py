"""A desk for each test, over a database of its own."""

from collections.abc import AsyncIterator

import pytest

from hsm.vault import Vault
from tests.cms.services.desk import Desk


@pytest.fixture
async def desk(database_url: str, vault: Vault) -> AsyncIterator[Desk]:
    async with Desk.opened(database_url, vault) as desk:
        yield desk

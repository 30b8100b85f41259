"""A PIN service for each test, over a database of its own."""

from collections.abc import AsyncIterator

import pytest

from hsm.vault import Vault
from tests.cms.services.d1.pin_service import PinService


@pytest.fixture
async def pin_service(database_url: str, vault: Vault) -> AsyncIterator[PinService]:
    async with PinService.opened(database_url, vault) as pin_service:
        yield pin_service

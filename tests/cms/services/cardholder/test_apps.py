"""The origins of apps: found in the database, and cached for a few seconds."""

from unittest.mock import AsyncMock

import pytest

from hsm.manifest.origins import ORIGIN_CHARS_MAX
from cms.services.cardholder.apps import Apps

pytestmark = pytest.mark.anyio


async def test_an_origin_that_is_too_long_to_be_one_is_neither_looked_up_nor_cached() -> None:
    store = AsyncMock()
    apps = Apps(AsyncMock(), store)
    assert not await apps.is_origin("https://" + "x" * ORIGIN_CHARS_MAX)
    assert not store.is_origin.called
    store.is_origin.return_value = True
    assert await apps.is_origin("https://app.example")

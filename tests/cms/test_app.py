"""What a process does before it says that it is ready."""

from pathlib import Path

import pytest

from crypto.pin_image import _glyphs
from hsm.vault import Vault
from tests.service import running

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("cardholders", [True, False])
async def test_digits_are_drawn_before_the_first_cardholder_waits_for_them(
    database_url: str, tmp_path: Path, vault: Vault, cardholders: bool
) -> None:
    key = tmp_path / "control-token-key"
    key.write_bytes(bytes(32))
    given = {
        "cardholder_url": "https://cards.test" if cardholders else None,
        "control_token_key_file": key,
    }
    _glyphs.cache_clear()
    async with running(database_url, tmp_path, vault, **given) as application:
        assert application.health.ready
        assert bool(_glyphs.cache_info().currsize) == cardholders

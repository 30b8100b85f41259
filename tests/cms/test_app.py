"""What a process does before it says that it is ready, and with which sockets of the vault."""

from pathlib import Path

import pytest

from cms.app import create_app
from cms.services import health
from hsm.client import VaultClient
from tests.service import settings

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("listeners", ["d1", "cardholder", "d1,cardholder"])
async def test_a_process_uses_the_sockets_of_its_listeners(
    database_url: str, tmp_path: Path, listeners: str
) -> None:
    key = tmp_path / "control-token-key"
    key.write_bytes(bytes(32))
    given = {"cardholder_url": "https://cards.test", "control_token_key_file": key}
    application = create_app(settings(database_url, tmp_path, listeners=listeners, **given))
    assert set(application.listeners) == {*listeners.split(","), "ops"}
    assert isinstance(application.vault, VaultClient)
    assert set(application.vault._sockets) == set(listeners.split(","))
    await application.http.aclose()


async def test_without_a_vault_a_process_starts_and_is_not_ready(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "PAUSE_SECONDS", 0.01)
    application = create_app(settings(database_url, tmp_path))
    async with application.running():
        assert application.health.database_ready
        assert not application.health.ready

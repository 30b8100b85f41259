"""What commands say when the vault of this host is unavailable."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from cms.sandbox import HANG_SECONDS
from tests.cms.operator.operator_at_work import run_module

UNBLOCK = ("cms", "cards", "unblock", "testbank01", "card-1")
LOOK = (
    "; see the log of python -m hsm serve, whether CMS_VAULT_SOCKET_DIRECTORY is its directory, and"
    " whether this user is its HSM_ADMIN_UID: docs/operating.md tells of both\n"
)


@pytest.fixture
def settings(tmp_path: Path) -> Mapping[str, str]:
    file = tmp_path / "database-url"
    file.touch(0o600)
    file.write_text("postgresql://nobody@/cms?host=/nowhere")
    return {
        "CMS_DATABASE_URL_FILE": str(file),
        "CMS_VAULT_SOCKET_DIRECTORY": str(tmp_path),
        "CMS_VAULT_SILENCE_SECONDS": str(HANG_SECONDS),
    }


def test_without_a_vault_it_is_said_where_to_look(settings: Mapping[str, str]) -> None:
    answer = run_module(*UNBLOCK, **settings)
    assert (answer.code, answer.err) == (2, f"the vault: No such file or directory{LOOK}")


def test_without_the_directory_its_setting_is_named() -> None:
    answer = run_module(*UNBLOCK)
    assert (answer.code, answer.err) == (
        2,
        "CMS_VAULT_SOCKET_DIRECTORY is missing; see docs/settings.md\n",
    )

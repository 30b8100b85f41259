"""A host whose log has one chain, of one line."""

from pathlib import Path

import pytest

from tests.hsm.log.vault_host import VaultHost


@pytest.fixture
def host(tmp_path: Path) -> VaultHost:
    host = VaultHost(tmp_path / "log")
    worker = host.worker()
    worker.begin()
    worker.check()
    return host

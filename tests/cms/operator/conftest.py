"""An operator with a database and a vault, and an issuer of theirs."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cms.sandbox import HANG_SECONDS
from cms.sandbox.partners.pin_blocks import iso0_block
from hsm.manifest.model import parse
from hsm.vault import Vault
from tests.cms.operator.operator_at_work import NEW_PAN, PIN, Operator, use_vault
from tests.issuer_records import PANS, SECRET, SampleIssuer, d1_client, open_issuer
from tests.operators import manifest
from tests.vault_process import serving


@pytest.fixture
def operator(
    database_url: str,
    vault: Vault,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Operator]:
    """Somebody who was never shown a PAN or a PIN when the test is over."""
    file = tmp_path / "database-url"
    file.touch(0o600)
    file.write_text(database_url + "\n")
    monkeypatch.setenv("CMS_DATABASE_URL_FILE", str(file))
    use_vault(monkeypatch, vault)
    operator = Operator(capsys)
    yield operator
    seen = "".join(operator.seen)
    for secret in (*PANS, NEW_PAN, PIN, iso0_block(PIN, NEW_PAN)):
        assert secret not in seen
    assert "Traceback" not in seen


@pytest.fixture
def served(operator: Operator, vault: Vault, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A vault process on the same host, for commands in processes of their own."""
    with serving(Path(os.environ["HSM_STATE_DIRECTORY"])) as process:
        monkeypatch.setenv("CMS_VAULT_SOCKET_DIRECTORY", str(process.sockets))
        monkeypatch.setenv("CMS_VAULT_SILENCE_SECONDS", str(HANG_SECONDS))
        yield


@pytest.fixture
def sample_issuer(database_url: str, vault: Vault) -> SampleIssuer:
    sample_issuer = open_issuer(database_url, vault)
    sample_issuer.pans["new-1"] = NEW_PAN
    return sample_issuer


@pytest.fixture
def draft(tmp_path: Path) -> Path:
    """A draft of an issuer's manifest for trials, with D1 as its only client."""
    file = tmp_path / "draft.json"
    client = d1_client("testbank01", "CN=d1", secret=SECRET)
    file.write_text(parse(manifest("testbank01", 7, clients=[client])).indented())
    return file

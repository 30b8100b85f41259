"""``python -m hsm serve``: a vault in processes of its own, called over its sockets."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hsm.errors import ManifestRefused
from hsm.pkcs11.token import Pkcs11Token
from tests.contracts.issuer import PIN, Host, Issuer, open_issuer
from tests.operators import open_vault
from tests.vault_process import Caller, VaultProcess, serving


@pytest.fixture
def state(hsm_token: Pkcs11Token, tmp_path: Path) -> Path:
    open_vault(hsm_token, tmp_path)
    return tmp_path


@pytest.fixture
def vault(state: Path) -> Iterator[VaultProcess]:
    with serving(state) as vault:
        yield vault


@pytest.fixture
def issuer(hsm_token: Pkcs11Token, state: Path, vault: VaultProcess) -> Iterator[Issuer]:
    caller = Caller(vault.sockets)
    yield open_issuer(Host(hsm_token, state, caller))
    caller.close()


def test_a_pin_is_set_and_read_over_the_sockets(issuer: Issuer) -> None:
    sealed_record = issuer.seal_record()
    sealed_pin = issuer.set_pin(PIN, sealed_record)
    assert issuer.pin(sealed_pin, sealed_record) == PIN


def test_a_refusal_comes_back_as_the_error_that_it_is(issuer: Issuer) -> None:
    with pytest.raises(ManifestRefused, match="has no manifest"):
        issuer.vault.read_manifest("nobank0000")

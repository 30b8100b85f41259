"""``python -m cms config``: what an operator types and gets back."""

from dataclasses import replace
from pathlib import Path

import pytest
from hsm.manifest.json_file import to_json

from cms.domain.errors import ServiceUnavailable
from hsm.port import ConfigKind, SealedConfig
from hsm.vault import Vault
from tests.cms.operator.operator_at_work import Operator
from tests.cms.services.d1.pin_service import PinService
from tests.issuer_records import SampleIssuer, config


def policy(vault: Vault, version: int = 2, **body: object) -> SealedConfig:
    return vault.seal_config(config("testbank01", ConfigKind.POLICY, body, version))


def write(path: Path, sealed: SealedConfig) -> Path:
    path.write_text(to_json(sealed))
    return path


def test_a_sealed_configuration_is_stored_listed_and_shown(
    operator: Operator, sample_issuer: SampleIssuer, vault: Vault, tmp_path: Path
) -> None:
    file = write(tmp_path / "policy.json", policy(vault, length_max=6))
    operator.must("config", "load", file)
    listed = operator.must("config", "list", sample_issuer.issuer_id).splitlines()
    assert [line.split()[1:3] for line in listed] == [
        ["kind=policy", "version=1"],
        ["kind=policy", "version=2"],
        ["kind=recipient", "version=1"],
        ["kind=wire", "version=1"],
    ]
    assert '"length_max":6' in operator.must("config", "show", sample_issuer.issuer_id, "policy", 2)
    assert "reason=policy 2" in operator.must("audit", "list", sample_issuer.issuer_id)


def test_a_version_is_never_replaced(
    operator: Operator, sample_issuer: SampleIssuer, vault: Vault, tmp_path: Path
) -> None:
    file = write(tmp_path / "policy.json", policy(vault, version=1, length_max=6))
    assert operator.refused("config", "load", file) == "duplicate configuration"
    assert '"length_max":8' in operator.must("config", "show", sample_issuer.issuer_id, "policy", 1)


def test_what_was_not_sealed_is_not_stored(
    operator: Operator, sample_issuer: SampleIssuer, tmp_path: Path
) -> None:
    file = tmp_path / "draft.json"
    file.write_text(to_json(config("testbank01", ConfigKind.POLICY, {}, version=2)))
    refusal = operator.refused("config", "load", file)
    assert refusal == "not sealed: use python -m hsm config seal first"


@pytest.mark.anyio
async def test_what_was_edited_after_sealing_is_refused_by_the_vault(
    operator: Operator, sample_issuer: SampleIssuer, vault: Vault, tmp_path: Path, database_url: str
) -> None:
    edited = replace(policy(vault, refuse_runs=True), body=b'{"refuse_runs":false}')
    operator.must("config", "load", write(tmp_path / "policy.json", edited))
    async with PinService.over(sample_issuer, database_url, vault) as pin_service:
        with pytest.raises(ServiceUnavailable):
            await pin_service.put(sample_issuer.pin_jwe("1234"))
        assert await pin_service.counter() == 0


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"body": 1}'])
def test_a_file_that_is_no_configuration_is_refused(
    operator: Operator, sample_issuer: SampleIssuer, tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "policy.json"
    file.write_bytes(content)
    assert operator.refused("config", "load", file) == "not a configuration"


def test_a_file_that_is_not_text_is_refused(
    operator: Operator, sample_issuer: SampleIssuer, tmp_path: Path
) -> None:
    file = tmp_path / "policy.json"
    file.write_bytes(b"\xff")
    assert operator.refused("config", "load", file) == "the file is not text"


def test_a_configuration_that_the_database_cannot_hold_is_refused(
    operator: Operator, sample_issuer: SampleIssuer, vault: Vault, tmp_path: Path
) -> None:
    file = write(tmp_path / "policy.json", policy(vault, version=2**63))
    assert operator.refused("config", "load", file) == "a value does not fit its column"


def test_a_configuration_of_an_unknown_issuer_is_refused(
    operator: Operator, vault: Vault, tmp_path: Path
) -> None:
    file = write(tmp_path / "policy.json", policy(vault))
    assert operator.refused("config", "load", file) == "unknown issuer"


@pytest.mark.parametrize("version", ["7", "one", str(2**70)])
def test_a_configuration_that_is_not_there_cannot_be_shown(
    operator: Operator, sample_issuer: SampleIssuer, version: str
) -> None:
    answer = operator("config", "show", sample_issuer.issuer_id, "policy", version)
    assert (answer.code, answer.out) == (2, "")

"""One operator: alone one changes nothing of what two must sign.

Every attack is made a second time on a host whose trust file lets it, and then it succeeds.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from jwcrypto.jwk import JWK

from hsm.errors import ManifestRefused
from hsm.manifest.signed import GENERATIONS_TYPE, MANIFEST_TYPE, MINIMUM_VERSIONS_TYPE, parse
from hsm.vault import Vault
from tests.attacks.table import Attacker
from tests.contracts.software_token import SoftwareToken
from tests.key_tables import FIRST, Tables
from tests.operators import (
    TRUST_FILE,
    OperatorKey,
    manifest,
    minimum_versions,
    reopen_vault,
    signed,
)

ATTACKER = Attacker(
    who="one operator who signs manifests",
    gets="a private key",
    does_not=(
        "change who calls, who is encrypted to, a policy, or what a key may be used for: that "
        "takes two. Alone one can refuse to sign"
    ),
)

ISSUER, OTHER = "testbank01", "testbank02"
TOO_FEW = "too few signatures"
#: Two who may sign for every issuer, and one who may for another issuer only.
ANN, BOB, CAROL = OperatorKey(), OperatorKey(), OperatorKey()
NOT_TRUSTED = OperatorKey()


def write_trust(
    directory: Path, *, threshold: int = 2, carol: Sequence[str] | str = (OTHER,)
) -> None:
    entries = [ANN.entry("Ann"), BOB.entry("Bob"), CAROL.entry("Carol", carol)]
    trust = {"threshold": threshold, "sandbox": True, "operators": entries}
    (directory / TRUST_FILE).write_text(json.dumps(trust))


@dataclass(frozen=True)
class Attack:
    """Whose signatures the attacker has, and the trust file that would let it."""

    name: str
    signers: Sequence[OperatorKey]
    weaker: dict[str, Any]


ATTACKS = (
    Attack("one signature", [ANN], {"threshold": 1}),
    Attack("one key twice", [ANN, ANN], {"threshold": 1}),
    Attack("a second key of its own", [ANN, NOT_TRUSTED], {"threshold": 1}),
    Attack("one of another issuer", [CAROL], {"threshold": 1, "carol": "all"}),
    Attack("one of another issuer twice", [CAROL, CAROL], {"threshold": 1, "carol": "all"}),
    Attack("one, and one of another issuer", [ANN, CAROL], {"carol": "all"}),
)
every_attack = pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)


@pytest.fixture
def new_vault(tmp_path: Path) -> Vault:
    """A vault without minimum versions, on a host whose trust file is in *tmp_path*."""
    write_trust(tmp_path)
    return reopen_vault(SoftwareToken(), tmp_path)


@pytest.fixture
def vault(new_vault: Vault) -> Vault:
    """A vault at which the issuer's manifest is in force."""
    new_vault.load_minimum_versions(signed(minimum_versions({}), MINIMUM_VERSIONS_TYPE, [ANN, BOB]))
    new_vault.load_manifest(signed(manifest(ISSUER), MANIFEST_TYPE, [ANN, BOB]))
    return new_vault


@every_attack
def test_one_operator_cannot_have_pins_sent_to_another_key(
    vault: Vault, tmp_path: Path, attack: Attack
) -> None:
    mine = {"jwk": json.loads(JWK.generate(kty="EC", crv="P-256").export_public())}
    text = signed(manifest(ISSUER, 2, recipient=mine), MANIFEST_TYPE, attack.signers)
    before = vault.read_manifest(ISSUER)
    with pytest.raises(ManifestRefused, match=TOO_FEW):
        vault.load_manifest(text)
    assert vault.read_manifest(ISSUER) == before
    write_trust(tmp_path, **attack.weaker)
    vault.load_manifest(text)
    taken = vault.read_manifest(ISSUER).recipient
    assert taken is not None
    assert taken.jwk == mine["jwk"]


@every_attack
def test_one_operator_cannot_say_below_what_a_new_host_takes_nothing(
    new_vault: Vault, tmp_path: Path, attack: Attack
) -> None:
    older = signed(manifest(ISSUER), MANIFEST_TYPE, [ANN, BOB])
    text = signed(minimum_versions({}), MINIMUM_VERSIONS_TYPE, attack.signers)
    with pytest.raises(ManifestRefused, match=TOO_FEW):
        new_vault.load_minimum_versions(text)
    with pytest.raises(ManifestRefused, match="no minimum versions"):
        new_vault.load_manifest(older)
    write_trust(tmp_path, **attack.weaker)
    new_vault.load_minimum_versions(text)
    assert new_vault.load_manifest(older) == 1


@every_attack
def test_one_operator_cannot_say_what_a_key_may_be_used_for(
    vault: Vault, tmp_path: Path, attack: Attack
) -> None:
    """Such as that one of two who are to open nothing opens again."""
    tables = Tables()
    states = {**FIRST, "pvk@testbank01.g1": "retired"}
    vault.load_generations(resigned(tables.next(states), [ANN, BOB]))
    text = resigned(tables.next({**states, "pvk@testbank01.g1": "active"}), attack.signers)
    with pytest.raises(ManifestRefused, match=TOO_FEW):
        vault.load_generations(text)
    assert vault.read_generations().version == 1
    write_trust(tmp_path, **attack.weaker)
    assert vault.load_generations(text) == 2


def resigned(text: str, operators: Sequence[OperatorKey]) -> str:
    return signed(parse(text).payload, GENERATIONS_TYPE, operators)


def test_two_operators_can_do_all_of_it(new_vault: Vault) -> None:
    new_vault.load_minimum_versions(
        signed(minimum_versions({ISSUER: 2}), MINIMUM_VERSIONS_TYPE, [ANN, BOB])
    )
    assert new_vault.load_manifest(signed(manifest(ISSUER, 2), MANIFEST_TYPE, [BOB, ANN])) == 2
    assert new_vault.load_manifest(signed(manifest(OTHER), MANIFEST_TYPE, [ANN, CAROL])) == 1

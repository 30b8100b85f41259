"""opencryptoki: how it is named, ceremonies on it, what it refuses. The contract has the vault."""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import psec
import pytest

from hsm.ceremonies import ceremony_record
from hsm.pkcs11 import own_keys
from hsm.pkcs11.keys import KeyLabel, KeyRole
from hsm.pkcs11.token import Pkcs11Token
from tests import opencryptoki
from tests.hsm.ceremonies.import_machine import (
    COMPONENTS,
    ISSUER,
    KBPK,
    PASSPHRASE,
    PVK,
    PVK_KCV,
    ImportMachine,
    furnish,
)
from tests.hsm.own_process import FIRST
from tests.hsm.pkcs11.test_enforcement import agree_in_clear, is_refused
from tests.opencryptoki import COMMANDS, IMPORTS, MODULE, OpenCryptokiToken

if reason := opencryptoki.why_not():
    pytest.skip(reason, allow_module_level=True)

MISSING = "the PKCS#11 module has no CKM_DES3_ECB_ENCRYPT_DATA, which keys of role"


@pytest.fixture(scope="module")
def machine(
    opencryptoki_tokens: Mapping[str, OpenCryptokiToken], tmp_path_factory: pytest.TempPathFactory
) -> ImportMachine:
    """An import machine with two HSM tokens, of which the second opens key blocks."""
    second = {
        "HSM_IMPORT_TOKEN_LABEL": IMPORTS,
        "HSM_IMPORT_PIN_FILE": str(opencryptoki_tokens[IMPORTS].pin_file),
    }
    directory = tmp_path_factory.mktemp("machine")
    machine = ImportMachine(opencryptoki_tokens[COMMANDS], directory, second)
    furnish(machine)
    machine.bring_kbpk(COMPONENTS)
    return machine


@pytest.mark.parametrize("label", FIRST, ids=str)
def test_a_key_is_as_its_role_wants_it(third_hsm_token: Pkcs11Token, label: KeyLabel) -> None:
    report = own_keys.report(third_hsm_token, label)
    assert report.as_expected
    assert report.unknown == ()


def test_a_secret_of_ecdh_is_held_because_its_key_says_so(
    third_hsm_token: Pkcs11Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: a key without CKA_DERIVE_TEMPLATE lets its secret be read."""
    monkeypatch.setattr(third_hsm_token, "_takes_derive_templates", False)
    without = KeyLabel(KeyRole.PAGE, 2)
    third_hsm_token.generate(without)
    try:
        assert not is_refused(third_hsm_token, partial(agree_in_clear, label=without))
    finally:
        third_hsm_token.destroy(without)
    assert is_refused(third_hsm_token, agree_in_clear)


def test_it_is_taken_as_software(machine: ImportMachine) -> None:
    refused = machine.operator.run("check")
    assert (refused.returncode, "HSM_MODULE is SoftHSM or another" in refused.stderr) == (2, True)
    checked = machine.operator.run("check", "--sandbox")
    assert (checked.returncode, checked.stderr) == (0, "")


def test_a_uri_names_one_of_its_tokens(machine: ImportMachine) -> None:
    names = f"token={COMMANDS};manufacturer=IBM;model=Soft;slot-id=1;library-manufacturer=IBM"
    pin_file = machine.softhsm.environment["HSM_PIN_FILE"]
    uri = f"pkcs11:{names}?module-path={MODULE}&pin-source=file:{pin_file}"
    named = dict.fromkeys(machine.softhsm.environment, "")
    assert machine.listed(HSM_URI=uri, **named) == machine.listed()


def test_custodians_bring_a_block_and_make_a_key_with_two_tokens(
    machine: ImportMachine, tmp_path: Path
) -> None:
    block, out = tmp_path / "pvk.tr31", tmp_path / "zpk.tr31"
    block.write_text(psec.tr31.wrap(KBPK, psec.tr31.Header("D", "V2", "T", "C", "00", "N"), PVK))
    machine.bring_block(block, PVK_KCV)
    words = ("make-key", "zpk", ISSUER, "--out", str(out), "--optional", "KP")
    done = machine.hold(*words, typed=[PASSPHRASE] * 4)
    assert (done.returncode, done.stderr) == (0, "")
    record, _ = ceremony_record.read(machine.directory / f"record-{machine.number}")
    header, key = psec.tr31.unwrap(KBPK, out.read_text().strip())
    assert (len(key), "KP" in dict(header.blocks)) == (16, True)
    assert record.hsm_token.manufacturer == "IBM"
    assert f"pvk@{ISSUER}.g1 {PVK_KCV}" in machine.listed()
    assert [line for line in machine.listed() if line.startswith("zpk@")]
    assert len(machine.listed_second()) == 1


def test_a_key_that_it_could_not_use_is_not_stored(machine: ImportMachine, tmp_path: Path) -> None:
    file = tmp_path / "smi.tr31"
    file.write_text(psec.tr31.wrap(KBPK, psec.tr31.Header("D", "E2", "T", "X", "00", "N"), PVK))
    before = machine.listed()
    done = machine.import_block(file, PVK_KCV, role="smi")
    assert (done.returncode, MISSING in done.stderr) == (2, True)
    assert machine.listed() == before


def test_the_probe_says_what_can_be_had_all_the_same(machine: ImportMachine) -> None:
    probed = machine.operator.run("probe", "--json")
    assert (probed.returncode, probed.stderr) == (0, "")
    assert json.loads(probed.stdout)

"""Ceremonies with a second HSM token: where each key ends up, and what is refused."""

from pathlib import Path

import psec
import pytest

from hsm.ceremonies import ceremony_record
from hsm.manifest.signed import GENERATIONS_TYPE
from tests.hsm.ceremonies.import_machine import (
    COMPONENTS,
    ISSUER,
    KBPK,
    LABEL,
    PASSPHRASE,
    PVK,
    PVK_KCV,
    ImportMachine,
    aes_kcv,
    make_import_machine,
    make_second,
)
from tests.hsm.vault_commands import load
from tests.key_tables import FIRST, table
from tests.operators import signed

KBPK_LISTED = f"block-protection@{ISSUER}.g1 {aes_kcv(KBPK)}"


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> ImportMachine:
    """One whose second HSM token has a block-protection key."""
    machine = make_import_machine(tmp_path_factory.mktemp("machine"), second=True)
    machine.bring_kbpk(COMPONENTS)
    return machine


@pytest.fixture
def block(tmp_path: Path) -> Path:
    file = tmp_path / "pvk.tr31"
    header = psec.tr31.Header("D", "V2", "T", "C", "00", "N")
    file.write_text(psec.tr31.wrap(KBPK, header, PVK))
    return file


def test_the_key_that_opens_blocks_is_on_the_second_token_only(machine: ImportMachine) -> None:
    assert KBPK_LISTED in machine.listed_second()
    assert not [line for line in machine.listed() if line.startswith("block-protection")]
    record, _ = ceremony_record.read(machine.directory / "record-1")
    assert record.hsm_token.label == LABEL


def test_the_key_of_a_block_is_on_the_token_that_serves_only(
    machine: ImportMachine, block: Path
) -> None:
    machine.bring_block(block, PVK_KCV)
    record, _ = ceremony_record.read(machine.directory / f"record-{machine.number}")
    (stored,) = record.keys
    assert record.block is not None
    assert (record.hsm_token.label, record.block.protected_by) == (
        "pin-vault",
        f"block-protection@{ISSUER}.g1",
    )
    assert f"{stored.label} {PVK_KCV}" in machine.listed()
    assert machine.listed_second() == [KBPK_LISTED]


def test_a_key_is_made_on_the_one_and_wrapped_by_the_other(
    machine: ImportMachine, tmp_path: Path
) -> None:
    out = tmp_path / "zpk.tr31"
    words = ("make-key", "zpk", ISSUER, "--out", str(out), "--optional", "KP")
    done = machine.hold(*words, typed=[PASSPHRASE] * 4)
    assert (done.returncode, done.stderr) == (0, "")
    header, key = psec.tr31.unwrap(KBPK, out.read_text().strip())
    assert dict(header.blocks)["KP"].startswith("01")
    assert [line for line in machine.listed() if line.startswith("zpk@")]
    assert len(key) == 16
    assert machine.listed_second() == [KBPK_LISTED]


def test_a_key_that_moves_to_the_second_token_is_the_next_generation(tmp_path: Path) -> None:
    machine = make_import_machine(tmp_path / "machine", second=False)
    machine.bring_kbpk(COMPONENTS)
    machine.second = make_second(machine.softhsm)
    machine.bring_kbpk(COMPONENTS)
    moved = f"block-protection@{ISSUER}.g2 {aes_kcv(KBPK)}"
    assert machine.listed_second() == [moved]
    assert KBPK_LISTED in machine.listed()
    assert moved not in machine.listed()


def test_a_compromised_key_on_the_second_token_is_destroyed_there(tmp_path: Path) -> None:
    machine = make_import_machine(tmp_path / "machine", second=True)
    machine.bring_kbpk(COMPONENTS)
    label = f"block-protection@{ISSUER}.g1"
    words = ("destroy-key", label)
    refused = machine.hold(*words, typed=[PASSPHRASE] * 4)
    assert (refused.returncode, "does not say" in refused.stderr) == (2, True)
    load(
        machine.operator,
        machine.state,
        signed(table({**FIRST, label: "compromised"}), GENERATIONS_TYPE),
    )
    done = machine.hold(*words, typed=[PASSPHRASE] * 4)
    assert (done.returncode, done.stderr) == (0, "")
    assert machine.listed_second() == []
    record, _ = ceremony_record.read(machine.directory / f"record-{machine.number}")
    assert (record.hsm_token.label, [key.label for key in record.keys]) == (LABEL, [label])


def test_without_the_second_token_nothing_is_imported(machine: ImportMachine, block: Path) -> None:
    alone = ImportMachine(machine.softhsm, machine.directory, {}, number=100)
    refused = alone.import_block(block, PVK_KCV)
    assert refused.returncode == 2
    assert refused.stderr.endswith("no block-protection key for this version of key block\n")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"HSM_IMPORT_TOKEN_LABEL": ""}, "HSM_IMPORT_TOKEN_LABEL is missing; see docs/settings.md"),
        ({"HSM_IMPORT_PIN_FILE": ""}, "HSM_IMPORT_PIN_FILE is missing; see docs/settings.md"),
        (
            {"HSM_IMPORT_TOKEN_LABEL": "nobody"},
            "HSM_IMPORT_TOKEN_LABEL: no token has it; name one that is there, and connect its"
            " device; see docs/settings.md",
        ),
        (
            {"HSM_IMPORT_PIN_FILE": "/nowhere"},
            "HSM_IMPORT_PIN_FILE: No such file or directory; see docs/settings.md",
        ),
    ],
    ids=str,
)
def test_a_second_token_that_is_half_named_or_not_there_is_refused(
    machine: ImportMachine, block: Path, settings: dict[str, str], message: str
) -> None:
    words = ("import-block", "pvk", ISSUER, str(block))
    refused = machine.hold(*words, typed=[], **settings)
    assert (refused.returncode, refused.stderr) == (2, f"{message}\n")


def test_the_token_that_serves_is_no_second_one(machine: ImportMachine, block: Path) -> None:
    environment = machine.softhsm.environment
    named = {
        "HSM_IMPORT_TOKEN_LABEL": environment["HSM_TOKEN_LABEL"],
        "HSM_IMPORT_PIN_FILE": environment["HSM_PIN_FILE"],
    }
    refused = machine.hold("import-block", "pvk", ISSUER, str(block), typed=[], **named)
    assert (refused.returncode, refused.stderr) == (2, "the second token is the first one\n")


def test_no_machine_serves_that_has_the_second_login(machine: ImportMachine) -> None:
    refused = machine.operator.run("serve", "--sandbox", **machine.state, **machine.second)
    assert refused.returncode == 2
    assert "HSM_IMPORT_* is set" in refused.stderr


def test_check_names_a_key_that_opens_blocks_where_it_serves(tmp_path: Path) -> None:
    machine = make_import_machine(tmp_path / "machine", second=False)
    warning = f"block-protection@{ISSUER}.g1 opens key blocks with the login that serves"
    assert warning not in machine.operator.run("check", "--sandbox").stdout
    machine.bring_kbpk(COMPONENTS)
    checked = machine.operator.run("check", "--sandbox")
    assert (checked.returncode, checked.stderr) == (0, "")
    assert warning in checked.stdout

"""A module that cannot do what a shared key is for: SoftHSM2, told to derive no TDES keys."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psec
import pytest
from pkcs11 import Mechanism

from crypto import kcv
from hsm.ceremonies import ceremony_record
from hsm.manifest.signed import GENERATIONS_TYPE
from hsm.pkcs11 import mechanisms
from hsm.pkcs11.keys import KeyRole
from tests.crypto.ciphers import tdes_ecb
from tests.hsm.ceremonies.import_machine import (
    COMPONENTS,
    ISSUER,
    KBPK,
    PASSPHRASE,
    ImportMachine,
    make_import_machine,
)
from tests.hsm.vault_commands import load
from tests.key_tables import FIRST, table
from tests.operators import signed

KEY = bytes.fromhex("1F2F3D4C5B6B79890123456789ABCDEF")
KEY_KCV = kcv.tdes(tdes_ecb(KEY)).hex().upper()
LABEL = f"smi@{ISSUER}.g1"
MISSING = (
    "the PKCS#11 module has no CKM_DES3_ECB_ENCRYPT_DATA, which keys of role smi need: "
    "MechanismInvalid"
)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> ImportMachine:
    """An import machine with a block-protection key."""
    machine = make_import_machine(tmp_path_factory.mktemp("machine"), second=False)
    machine.bring_kbpk(COMPONENTS)
    return machine


@pytest.fixture
def block(tmp_path: Path) -> Path:
    file = tmp_path / "smi.tr31"
    file.write_text(psec.tr31.wrap(KBPK, psec.tr31.Header("D", "E2", "T", "X", "00", "N"), KEY))
    return file


#: SoftHSM2 can be told what to do, and not what to leave.
ALL = {
    mechanism
    for role in KeyRole
    for kind in role.kinds
    for mechanism in mechanisms.needed(role, kind)
}


@contextmanager
def deriving_nothing(machine: ImportMachine) -> Iterator[None]:
    file = machine.softhsm.directory / "softhsm2.conf"
    text = file.read_text()
    left = ",".join(f"CKM_{one.name}" for one in ALL - {Mechanism.DES3_ECB_ENCRYPT_DATA})
    file.write_text(f"{text}slots.mechanisms = {left}\n")
    yield
    file.write_text(text)


def test_a_key_that_the_module_could_not_use_is_not_stored(
    machine: ImportMachine, block: Path
) -> None:
    """With it there, no command and no worker would open the HSM token any more."""
    before = machine.listed()
    with deriving_nothing(machine):
        done = machine.import_block(block, KEY_KCV, role="smi")
        assert (done.returncode, done.stderr.splitlines()[-1]) == (2, MISSING)
        assert not (machine.directory / f"record-{machine.number}").exists()
        assert machine.listed() == before


def test_one_that_is_there_is_refused_by_name_and_can_be_destroyed(
    machine: ImportMachine, block: Path
) -> None:
    """As after a new version of the module; the control is that the mechanism was there before."""
    assert machine.import_block(block, KEY_KCV, role="smi").returncode == 0
    compromised = table({**FIRST, LABEL: "compromised"})
    load(machine.operator, machine.state, signed(compromised, GENERATIONS_TYPE))
    with deriving_nothing(machine):
        listed = machine.operator.run("list")
        assert (listed.returncode, listed.stdout, listed.stderr) == (2, "", f"{MISSING}\n")
        done = machine.hold("destroy-key", LABEL, typed=[PASSPHRASE] * 4)
        assert (done.returncode, done.stderr) == (0, "")
        record, _ = ceremony_record.read(machine.directory / f"record-{machine.number}")
        assert [key.label for key in record.keys] == [LABEL]
        assert machine.operator.run("list").returncode == 0

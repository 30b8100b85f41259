"""An import machine with an HSM token that serves, and perhaps a second one for imports."""

import json
import secrets
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cms.sandbox.machine.softhsm import SoftHsm
from crypto import kcv
from crypto.secret import Secret
from hsm.manifest.operator_key import OperatorKey
from hsm.manifest.signed import MINIMUM_VERSIONS_TYPE
from tests.crypto.ciphers import aes_cmac, tdes_ecb
from tests.hsm.commanding import ROLES, Done, Operator, lines
from tests.hsm.own_process import OwnHsmToken
from tests.operators import OPERATORS, minimum_versions, signed

ISSUER: Final = "testbank01"
PASSPHRASE: Final = "of a custodian, 7 words"
COMPONENTS: Final = (
    "1D8465C29E0B3FA74C0D92E6B1785AF3C61F0E9A5B27D4833F6A90C2E87B14D5",
    "A7C03E5519F28B6D04E7715C8A2F93B6580DE1C47F3A9625B0DC4E8817F562A9",
)
KBPK: Final = (int(COMPONENTS[0], 16) ^ int(COMPONENTS[1], 16)).to_bytes(32)
PVK: Final = bytes.fromhex("1F2F3D4C5B6B79890123456789ABCDEF")
PVK_KCV: Final = kcv.tdes(tdes_ecb(PVK)).hex().upper()
LABEL: Final = "imports"


def aes_kcv(key: bytes) -> str:
    return kcv.aes(aes_cmac(key)).hex().upper()


@dataclass
class ImportMachine:
    """Custodians at a machine; *second* names the second HSM token, if there is one."""

    softhsm: OwnHsmToken
    directory: Path
    second: Mapping[str, str]
    number: int = field(default=0)

    @property
    def operator(self) -> Operator:
        return Operator(self.softhsm)

    @property
    def custodians(self) -> list[Path]:
        return [self.directory / "cleo.pem", self.directory / "dan.pem"]

    @property
    def state(self) -> dict[str, str]:
        directory = self.directory
        return {
            "HSM_STATE_DIRECTORY": str(directory / "state"),
            "HSM_TRUST_FILE": str(directory / "trust.json"),
        }

    def hold(self, *words: str, typed: Sequence[str], **settings: str) -> Done:
        """Hold a ceremony; what is set takes the place of what this machine has."""
        self.number += 1
        held = [word for file in self.custodians for word in ("--custodian", str(file))]
        record = ("--record", str(self.directory / f"record-{self.number}"))
        given = {**self.state, **self.second, **settings}
        return self.operator.run(*words, *held, *record, typed=lines(*typed), **given)

    def bring_kbpk(self, components: Sequence[str], **settings: str) -> None:
        typed = [
            word
            for component in components
            for word in (PASSPHRASE, component, aes_kcv(bytes.fromhex(component)))
        ]
        typed += [aes_kcv(KBPK), PASSPHRASE, PASSPHRASE]
        words = ("import-components", "block-protection", ISSUER)
        done = self.hold(*words, typed=typed, **settings)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr

    def bring_block(self, file: Path, key_kcv: str) -> None:
        done = self.import_block(file, key_kcv)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr

    def import_block(self, file: Path, key_kcv: str, role: str = "pvk") -> Done:
        typed = [PASSPHRASE, PASSPHRASE, key_kcv, PASSPHRASE, PASSPHRASE]
        return self.hold("import-block", role, ISSUER, str(file), typed=typed)

    def listed(self, **settings: str) -> list[str]:
        """The keys of the HSM token that serves, or of one that is named: label and fingerprint."""
        done = self.operator.run("list", **settings)
        return [
            f"{words[0]} {words[-1]}" for words in map(str.split, done.stdout.splitlines()) if words
        ]

    def listed_second(self) -> list[str]:
        named = {name.replace("HSM_IMPORT_", "HSM_"): value for name, value in self.second.items()}
        return self.listed(**named)


def make_import_machine(directory: Path, *, second: bool) -> ImportMachine:
    """Make one, with keys of our own on the HSM token that serves, and a log."""
    softhsm = SoftHsm(directory / "softhsm")
    softhsm.ensure()
    machine = ImportMachine(softhsm, directory, make_second(softhsm) if second else {})
    furnish(machine)
    return machine


def furnish(machine: ImportMachine) -> None:
    """Make keys of our own, custodians, and a log."""
    directory = machine.directory
    assert machine.operator.run("ceremony", ROLES).returncode == 0
    custodians = [OperatorKey.create(file, Secret(PASSPHRASE)) for file in machine.custodians]
    entries = [key.entry(name) for key, name in zip(custodians, ("Cleo", "Dan"), strict=True)]
    operators = [key.entry(name) for key, name in zip(OPERATORS, "AB", strict=True)]
    trust = {"threshold": 2, "operators": operators, "custodians": entries}
    (directory / "trust.json").write_text(json.dumps(trust))
    (directory / "state").mkdir()
    (directory / "minimum-versions.json").write_text(
        signed(minimum_versions({}), MINIMUM_VERSIONS_TYPE)
    )
    begun = machine.operator.run(
        "manifest", "begin", str(directory / "minimum-versions.json"), **machine.state
    )
    assert begun.returncode == 0, begun.stderr


def make_second(softhsm: OwnHsmToken, label: str = LABEL) -> dict[str, str]:
    """Make a second HSM token of the same module; return the variables that name it."""
    tool, pin = shutil.which("softhsm2-util"), secrets.token_hex(8)
    assert tool is not None
    subprocess.run(
        [tool, "--init-token", "--free", "--label", label, "--so-pin", pin, "--pin", pin],
        env={"SOFTHSM2_CONF": softhsm.environment["SOFTHSM2_CONF"]},
        capture_output=True,
        check=True,
    )
    pin_file = softhsm.directory / f"{label}-pin"
    pin_file.touch(0o600)
    pin_file.write_text(f"{pin}\n")
    return {"HSM_IMPORT_TOKEN_LABEL": label, "HSM_IMPORT_PIN_FILE": str(pin_file)}

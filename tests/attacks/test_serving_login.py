"""Whoever has the login of the HSM token that serves, and captured a key block of a partner.

The key in it was imported with a second HSM token, of which the attacker has no login.
"""

import subprocess
import sys
from pathlib import Path

import psec
import pytest

from cms.sandbox import HANG_SECONDS
from tests.attacks.table import Attacker
from tests.hsm.ceremonies.import_machine import (
    COMPONENTS,
    KBPK,
    PVK,
    PVK_KCV,
    ImportMachine,
    make_import_machine,
)
from tests.hsm.own_process import ROOT, environment

ATTACKER = Attacker(
    who="whoever has the login of the HSM token that serves, and a partner's key block",
    gets=(
        "the use of every key on that HSM token: it opens what is sealed, as the vault does. On "
        "devices that let a login derive a secret that can be read "
        "([what modules enforce](docs/hsm-modules.md#what-modules-enforce)), session keys of "
        "SECCOS, and secrets agreed by ECDH, in clear"
    ),
    does_not=(
        "open a key block, captured before or after, where the block-protection key is on a "
        "second HSM token (`HSM_IMPORT_*`), nor read a key of the first"
    ),
)


def attack(machine: ImportMachine, block: Path) -> str:
    """Act as the attacker in a process of its own, with the login that serves and no other."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.attacks.serving_login", str(block)],
        cwd=ROOT,
        env=environment(machine.softhsm),
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=True,
    )
    return done.stdout.strip()


@pytest.fixture
def block(tmp_path: Path) -> Path:
    """The partner's key, as the attacker captured it on its way."""
    file = tmp_path / "pvk.tr31"
    header = psec.tr31.Header("D", "V2", "T", "C", "00", "N")
    file.write_text(psec.tr31.wrap(KBPK, header, PVK))
    return file


def test_the_login_that_serves_opens_no_block(tmp_path: Path, block: Path) -> None:
    machine = make_import_machine(tmp_path / "machine", second=True)
    machine.bring_kbpk(COMPONENTS)
    machine.bring_block(block, PVK_KCV)
    assert f"pvk@testbank01.g1 {PVK_KCV}" in machine.listed()
    assert attack(machine, block) == "not opened"


def test_with_its_key_on_the_token_that_serves_it_does(tmp_path: Path, block: Path) -> None:
    """The control."""
    machine = make_import_machine(tmp_path / "machine", second=False)
    machine.bring_kbpk(COMPONENTS)
    machine.bring_block(block, PVK_KCV)
    assert f"pvk@testbank01.g1 {PVK_KCV}" in machine.listed()
    assert attack(machine, block) == f"opened: {PVK_KCV}"

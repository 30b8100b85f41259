"""The units of systemd: their settings are settings, and they leave the programs little."""

import ctypes
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cms.settings import Settings
from hsm.settings import ServerSettings, VaultSettings

UNITS = Path(__file__).resolve().parents[2] / "deploy" / "systemd"
VAULT, WEB = UNITS / "pins-vault.service", UNITS / "pins-web@.service"
OPERATING = UNITS.parents[1] / "docs" / "operating.md"
EXPOSURE = re.compile(r"Overall exposure level for .*: [\d.]+ [A-Z]+")
PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 1
MODULES = "cms.serve, cms.app, hsm.server.start, hsm.pkcs11.calls, uvloop"


def test_every_setting_of_a_unit_is_one() -> None:
    known = {f"CMS_{name}".upper() for name in Settings.model_fields}
    for of_vault in (ServerSettings, VaultSettings):
        known |= {f"HSM_{name}".upper() for name in of_vault.model_fields}
    for unit, prefix in ((VAULT, "HSM_"), (WEB, "CMS_")):
        text = unit.read_text()
        assert {*re.findall(r"\b(?:HSM|CMS)_[A-Z0-9_]+", text)} <= known
        given = " ".join(re.findall("^Environment=(.*)", text, re.MULTILINE))
        assert {name[:4] for name in re.findall(r"([A-Z0-9_]+)=", given)} == {prefix, "PYTH"}


def test_a_start_that_was_refused_is_not_tried_again() -> None:
    assert "RestartPreventExitStatus=2" in VAULT.read_text()
    assert "RestartPreventExitStatus=1 2" in WEB.read_text()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze")
@pytest.mark.parametrize("unit", [VAULT, WEB], ids=["vault", "web"])
def test_systemd_finds_no_more_that_a_unit_leaves_open_than_the_page_says(unit: Path) -> None:
    page = OPERATING.read_text()
    (command,) = re.findall(rf"^systemd-analyze .*/{unit.name} .*$", page, re.MULTILINE)
    done = subprocess.run(
        ["/bin/sh", "-euc", command],
        cwd=UNITS.parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    (told,) = EXPOSURE.findall(done.stdout)
    assert told in EXPOSURE.findall(page)


def refuse_executable_memory() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "this kernel does not know it")


def test_the_programs_need_no_memory_that_becomes_executable() -> None:
    """MemoryDenyWriteExecute= of the units, by the kernel itself (since Linux 6.3)."""
    script = f"import mmap, {MODULES}\nmmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC)"
    try:
        done = subprocess.run(
            [sys.executable, "-c", script],
            cwd=UNITS.parents[1],
            preexec_fn=refuse_executable_memory,
            capture_output=True,
            text=True,
            check=False,
        )
    except subprocess.SubprocessError:
        pytest.skip("this kernel cannot refuse executable memory")
    # All is loaded; only the last line, the control, is refused.
    assert done.stderr.splitlines()[-1].startswith("PermissionError"), done.stderr
    assert "line 2" in done.stderr

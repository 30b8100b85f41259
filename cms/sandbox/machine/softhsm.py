"""An HSM token of SoftHSM2 for the demo and the tests: a directory, random PINs, no other user."""

import os
import pty
import secrets
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cms.sandbox import HANG_SECONDS
from hsm.development import SECRET_MARK

MODULES: Final = (
    Path("/usr/lib/softhsm/libsofthsm2.so"),
    Path("/usr/lib64/pkcs11/libsofthsm2.so"),
    Path("/usr/local/lib/softhsm/libsofthsm2.so"),
)
LABEL: Final = "pin-vault"
PIN_BYTES: Final = 16
#: As real modules behave: a forked child starts without a login.
CONFIGURATION: Final = """directories.tokendir = {tokens}
objectstore.backend = file
log.level = ERROR
library.reset_on_fork = true
"""


class SoftHsmError(Exception):
    """SoftHSM2 is not installed or did not make an HSM token."""


@dataclass(frozen=True, slots=True)
class SoftHsm:
    """An HSM token in *directory*, and the environment that names it."""

    directory: Path

    @property
    def environment(self) -> dict[str, str]:
        """The variables that :mod:`hsm` and SoftHSM2 itself read."""
        return {
            "SOFTHSM2_CONF": str(self.directory / "softhsm2.conf"),
            "HSM_MODULE": str(_module()),
            "HSM_TOKEN_LABEL": LABEL,
            "HSM_PIN_FILE": str(self.directory / "user-pin"),
        }

    def ensure(self) -> bool:
        """Make the HSM token unless it is there; say whether it was made.

        Raises:
            SoftHsmError: SoftHSM2 is not installed, or it failed.
        """
        _module()
        if (self.directory / "user-pin").exists():
            return False
        tokens = self.directory / "tokens"
        shutil.rmtree(tokens, ignore_errors=True)  # of an interrupted start: its PINs are lost
        tokens.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.directory.chmod(0o700)
        _write(self.directory / "softhsm2.conf", CONFIGURATION.format(tokens=tokens))
        officer_pin, user_pin = _new_pin(), _new_pin()
        self._initialise(officer_pin, user_pin)
        _write(self.directory / "officer-pin", officer_pin + "\n")
        _write(self.directory / "user-pin", user_pin + "\n")
        return True

    def remove(self) -> None:
        """Remove the HSM token and every key in it."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def _initialise(self, officer_pin: str, user_pin: str) -> None:
        # The tool asks on a terminal; PINs on its command line would show in the process list.
        ours, theirs = pty.openpty()
        try:
            tool = subprocess.Popen(  # noqa: S603 - no word from outside
                [_tool(), "--init-token", "--free", "--label", LABEL],
                stdin=theirs,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**os.environ, "SOFTHSM2_CONF": str(self.directory / "softhsm2.conf")},
            )
            answers = (officer_pin, officer_pin, user_pin, user_pin)
            os.write(ours, "".join(f"{pin}\n" for pin in answers).encode())
            tool.communicate(timeout=HANG_SECONDS)
        except subprocess.TimeoutExpired:
            tool.kill()
            tool.wait()
        finally:
            os.close(ours)
            os.close(theirs)
        if tool.returncode != 0:
            raise SoftHsmError("softhsm2-util did not make an HSM token")


def _new_pin() -> str:
    return f"{SECRET_MARK}-{secrets.token_hex(PIN_BYTES)}"


def _module() -> Path:
    for path in MODULES:
        if path.exists():
            return path
    raise SoftHsmError("SoftHSM2 is not installed: apt-get install softhsm2")


def _tool() -> str:
    tool = shutil.which("softhsm2-util")
    if tool is None:
        raise SoftHsmError("SoftHSM2 is not installed: apt-get install softhsm2")
    return tool


def _write(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)

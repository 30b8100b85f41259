"""opencryptoki with its token in software: a third PKCS#11 module, of other authors again.

Its daemon, its configuration and its keys have one place on a machine. So it is started where all
of that is the tests' own, in the container that ``make opencryptoki-test`` makes.
"""

import os
import secrets
import shutil
import signal
import subprocess
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cms.sandbox import HANG_SECONDS
from hsm.settings import HsmTokenSettings
from tests.deployment import wait_for
from tests.processes import runs

DAEMON, TOOL = "/usr/sbin/pkcsslotd", "/usr/sbin/pkcsconf"
MODULE: Final = Path(f"/usr/lib/{sysconfig.get_config_var('MULTIARCH')}/libopencryptoki.so.0")
IN_A_CONTAINER: Final = Path("/run/.containerenv")
CONFIGURATION: Final = Path("/etc/opencryptoki/opencryptoki.conf")
SOCKET, PID_FILE = (Path(f"/run/opencryptoki/pkcsslotd.{end}") for end in ("socket", "pid"))
#: What the daemon wants to be there, and the group of whoever may use the tokens.
STATE: Final = Path("/var/lib/opencryptoki")
DIRECTORIES: Final = (
    *(STATE, Path("/var/log/opencryptoki"), Path("/var/lock/opencryptoki")),
    Path("/run/opencryptoki"),
)
GROUP: Final = "pkcs11"
#: One slot each: of the tests' own process, of commands, and the one for imports.
PINS, COMMANDS, IMPORTS = "pins", "commands", "imports"
LABELS: Final = (PINS, COMMANDS, IMPORTS)
#: The format of what it stores since 3.12.
SLOT: Final = (
    "slot {number}\n{{\nstdll = libpkcs11_sw.so\ntokname = {label}\ntokversion = 3.12\n}}\n"
)
FIRST_OFFICER_PIN: Final = "87654321"
"""Of every token that was not used yet."""


def why_not() -> str:
    """Say why it cannot run here; empty: it can."""
    missing = [program for program in (DAEMON, TOOL) if not Path(program).exists()]
    if missing:
        return f"not installed: {', '.join(missing)}; make opencryptoki-test runs it in a container"
    if not IN_A_CONTAINER.exists() or os.geteuid() != 0:
        return (
            "it would take this machine's own place; make opencryptoki-test has it in a container"
        )
    return ""


@dataclass(frozen=True)
class OpenCryptokiToken:
    """One of its HSM tokens; the PINs are in *directory*, as those of SoftHSM2 are."""

    label: str
    slot: int
    directory: Path

    @property
    def environment(self) -> dict[str, str]:
        return {
            "HSM_MODULE": str(MODULE),
            "HSM_TOKEN_LABEL": self.label,
            "HSM_PIN_FILE": str(self.pin_file),
        }

    @property
    def pin_file(self) -> Path:
        return self.directory / "user-pin"

    @property
    def settings(self) -> HsmTokenSettings:
        return HsmTokenSettings(module=MODULE, token_label=self.label, pin_file=self.pin_file)

    def initialise(self) -> None:
        """Give it a label and PINs of 8 characters, which is the most that it takes."""
        self.directory.mkdir()
        officer, user = secrets.token_hex(4), secrets.token_hex(4)
        self._configure("-I", "-S", FIRST_OFFICER_PIN, typed=f"{self.label}\n")
        self._configure("-P", "-S", FIRST_OFFICER_PIN, "-n", officer)
        self._configure("-u", "-S", officer, "-n", user)
        (self.directory / "officer-pin").write_text(f"{officer}\n")
        self.pin_file.touch(0o600)
        self.pin_file.write_text(f"{user}\n")

    def _configure(self, *words: str, typed: str = "") -> None:
        done = subprocess.run(
            [TOOL, "-c", str(self.slot), *words],
            input=typed,
            capture_output=True,
            text=True,
            timeout=HANG_SECONDS,
            check=False,
        )
        assert done.returncode == 0, (words[0], done.stdout, done.stderr)


@contextmanager
def opencryptoki(directory: Path) -> Iterator[dict[str, OpenCryptokiToken]]:
    """Start the daemon; yield its HSM tokens by their labels, without keys."""
    slots = [SLOT.format(number=number, label=label) for number, label in enumerate(LABELS)]
    CONFIGURATION.write_text("version opencryptoki-3.23\n" + "".join(slots))
    for path in DIRECTORIES:
        path.mkdir(exist_ok=True)
        path.chmod(0o770)
        shutil.chown(path, group=GROUP)
    # It goes into the background, whatever it is told.
    subprocess.run([DAEMON, "-l", str(directory / "log")], timeout=HANG_SECONDS, check=True)
    wait_for(lambda: SOCKET.exists() and PID_FILE.exists())
    pid = int(PID_FILE.read_text())
    try:
        tokens = [
            OpenCryptokiToken(label, slot, directory / label) for slot, label in enumerate(LABELS)
        ]
        for token in tokens:
            token.initialise()
        yield {token.label: token for token in tokens}
    finally:
        # SIGTERM lets it wait for every process that has a token open.
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not runs(pid))
        for file in (SOCKET, PID_FILE):
            file.unlink()
        for label in LABELS:
            shutil.rmtree(STATE / label)

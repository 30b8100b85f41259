"""A command that holds a private key, a passphrase or PANs leaves no core dump with them."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import ROOT, status_of
from tests.vault_process import wait_until

pytestmark = pytest.mark.slow

#: Each asks for a passphrase, and waits.
COMMANDS = (
    ("hsm", "manifest", "key", "KEY", "--name", "Ann"),
    ("cms", "cards", "feed-key", "KEY", "--name", "personaliser"),
)


def core_bytes_max(pid: int) -> str:
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    return next(line.split()[5] for line in lines if line.startswith("Max core file size"))


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_a_command_forbids_core_dumps_before_it_asks(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    with subprocess.Popen(
        [
            sys.executable,
            "-m",
            *(str(tmp_path / word) if word == "KEY" else word for word in words),
        ],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as command:
        assert command.stdin is not None
        # The last of what it asks of the kernel; a core of no size may be the machine's own limit.
        wait_until(lambda: status_of(command.pid)["NoNewPrivs"] == "1")
        assert core_bytes_max(command.pid) == "0"
        command.stdin.close()
        assert command.wait() == 2  # an empty passphrase

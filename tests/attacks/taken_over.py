"""``python -m tests.attacks.taken_over UID PID PATH …``: code that runs as a listener of the web.

It has that process's environment and user, looks for what leads to a PIN, and prints what it found.
"""

import json
import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hsm import messages
from hsm.messages import SocketName
from hsm.socket_files import path_of
from tests.hsm.server import intruder
from tests.hsm.server.working import Stranger


def become(uid: int) -> None:
    """Be that user, without any right of root."""
    if uid != os.geteuid():
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)


def readable(paths: Iterable[Path]) -> Sequence[str]:
    """Which of these files and directories it can read."""
    found = []
    for path in paths:
        with suppress(PermissionError):
            _ = [*path.iterdir()] if path.is_dir() else path.read_bytes()
            found.append(path.name)
    return found


def open_sockets(directory: Path) -> Sequence[str]:
    """On which sockets of the vault it is greeted."""
    found = []
    for name in SocketName:
        with suppress(OSError), Stranger(directory, name) as stranger:
            if stranger.read() == messages.encode_greeting():
                found.append(path_of(directory, name, 0).name)
    return found


def look(vault_worker: int, paths: Iterable[Path]) -> dict[str, Any]:
    return {
        "settings": [name for name in os.environ if name.startswith(("HSM_", "SOFTHSM"))],
        "files": readable(paths),
        "sockets": open_sockets(Path(os.environ["CMS_VAULT_SOCKET_DIRECTORY"])),
        "memory": [
            name for name, way in intruder.WAYS.items() if intruder.led_in(way, vault_worker)
        ],
    }


if __name__ == "__main__":
    become(int(sys.argv[1]))
    print(json.dumps(look(int(sys.argv[2]), map(Path, sys.argv[3:]))))  # noqa: T201

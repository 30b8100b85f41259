"""The processes of this machine, as the kernel lists them, and one of Python's."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from cms.sandbox import HANG_SECONDS

ROOT: Final = Path(__file__).resolve().parents[1]


def started_for(directory: Path) -> list[int]:
    """Every process that has a file of *directory* among its settings."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"={directory}/".encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
    return found


def family(pid: int) -> list[int]:
    """Everything below a process."""
    below = children(pid)
    return below + [pid for child in below for pid in family(child)]


def children(pid: int) -> list[int]:
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(word) for each in threads for word in (each / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def runs(pid: int) -> bool:
    """Whether it is there and no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def loaded_by(*words: str) -> set[str]:
    """Run a module without any setting, and name all that it imports."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", *words],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_SECONDS,
    )
    imports = (line for line in done.stderr.splitlines() if line.startswith("import time:"))
    return {line.rpartition("|")[2].strip() for line in imports}

"""Where the log of a host is: a directory of chains, each of which one process writes at a time.

::

    HSM_STATE_DIRECTORY/log/chains.jsonl         the list of chains: the beginning, and each chain
    HSM_STATE_DIRECTORY/log/0/2026-11-27.jsonl   the first chain, a file a day (UTC)
    HSM_STATE_DIRECTORY/log/1/2026-11-27.jsonl   another, of a process that ran beside it

Each file is a part of a chain of :mod:`hsm.log.lines`; all are of mode 0600, of the vault's user.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Final

from hsm import directories
from hsm.errors import LogUnavailable

DIRECTORY: Final = "log"
"""Of the log, in the directory of this host's state."""
LIST: Final = "chains.jsonl"
FILES: Final = "*.jsonl"


def list_of(directory: Path) -> Path:
    """Name the list of chains of the log in *directory*."""
    return directory / LIST


def chains_of(directory: Path) -> Mapping[int, Path]:
    """Find the directories of the chains that are there, listed or not, by their numbers.

    Raises:
        OSError: *directory* cannot be read.
    """
    found = ((path.name, path) for path in directory.iterdir() if path.is_dir())
    return {int(name): path for name, path in found if name.isascii() and name.isdigit()}


def files_of(chain: Path) -> list[Path]:
    """List the files in the directory of a chain, the oldest first."""
    return sorted(chain.glob(FILES))


@contextmanager
def usable() -> Iterator[None]:
    """Say so of a log that cannot be used.

    Raises:
        LogUnavailable: a file within raised OSError.
    """
    try:
        yield
    except OSError:
        raise LogUnavailable("the log cannot be read or written") from None


def open_file(path: Path, flags: int = 0) -> FileIO:
    """Open a file to append to it, and to read it."""

    def opener(name: str, _: int) -> int:
        return os.open(name, os.O_RDWR | os.O_APPEND | flags, 0o600)

    return FileIO(path, "a+", opener=opener)


def make_file(path: Path) -> FileIO:
    """Make a file whose name survives a loss of power.

    Raises:
        FileExistsError: there is one.
    """
    file = open_file(path, os.O_CREAT | os.O_EXCL)
    _settle(file.fileno(), path.parent)
    return file


def make_directory(path: Path) -> None:
    """Make a directory whose name survives a loss of power. One that is there stays."""
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        return
    made = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _settle(made, path.parent)
    finally:
        os.close(made)


def _settle(made: int, parent: Path) -> None:
    # Whoever types a command first may be root; the service must go on.
    os.fchown(made, parent.stat().st_uid, -1)
    directories.sync(parent)

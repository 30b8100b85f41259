"""Directories of this host: used by one process at a time, and their names put on the disk."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keep away others who lock the same directory; give up the lock at the end.

    Raises:
        OSError: there is no such directory, or it cannot be read.
    """
    lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def sync(directory: Path) -> None:
    """Have the names of its files survive a loss of power (fsync(2)).

    Raises:
        OSError: there is no such directory, or the disk refuses.
    """
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)

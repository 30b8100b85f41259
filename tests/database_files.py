"""Where the Postgres servers of tests have their data."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

MEMORY: Final = Path("/dev/shm")
BYTES_MIN: Final = 4 * 2**30


@contextmanager
def database_directory() -> Iterator[Path]:
    """Make a directory in memory where that has room, else on disk; it is gone after the block.

    A server waits for the disk at each commit, and has to: the service takes none that can lose
    one (``fsync``). In memory that wait is over at once. What was written outlives a server that is
    killed in both.
    """
    with tempfile.TemporaryDirectory(dir=MEMORY if _has_room() else None) as directory:
        yield Path(directory)


def _has_room() -> bool:
    if not os.access(MEMORY, os.W_OK | os.X_OK):
        return False
    return shutil.disk_usage(MEMORY).free >= BYTES_MIN

"""What the supervisor sees of its workers: a few bytes of memory that they share with it.

A cell a worker: when it is ready, and since when it has been busy. Both are seconds of the
monotonic clock, the same in every process of the machine, and 0 for never.
"""

import mmap
import os
import struct
from typing import Final, Self

_SECONDS: Final = struct.Struct("=d")
_READY: Final = 0
_BUSY: Final = _SECONDS.size
CELL_BYTES: Final = 2 * _SECONDS.size


class Cell:
    """The cell of one worker.

    Args:
        handle: a descriptor of that memory.
    """

    def __init__(self, handle: int) -> None:
        self.handle = handle
        self._memory = mmap.mmap(handle, CELL_BYTES)

    @classmethod
    def make(cls) -> Self:
        """Make a cell with its memory."""
        handle = os.memfd_create("vault-worker")
        os.ftruncate(handle, CELL_BYTES)
        return cls(handle)

    def close(self) -> None:
        """Give the memory back."""
        self._memory.close()
        os.close(self.handle)

    @property
    def ready_at(self) -> float:
        """When the worker began to serve."""
        return self._read(_READY)

    @ready_at.setter
    def ready_at(self, seconds: float) -> None:
        _SECONDS.pack_into(self._memory, _READY, seconds)

    @property
    def busy_since(self) -> float:
        """When the verb that runs was begun."""
        return self._read(_BUSY)

    @busy_since.setter
    def busy_since(self, seconds: float) -> None:
        _SECONDS.pack_into(self._memory, _BUSY, seconds)

    def _read(self, offset: int) -> float:
        seconds: float = _SECONDS.unpack_from(self._memory, offset)[0]
        return seconds

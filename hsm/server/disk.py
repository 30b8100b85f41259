"""Answers that wait until the line which tells of them is on the disk."""

import os
import time
from collections import deque
from collections.abc import Iterator
from queue import SimpleQueue
from threading import Thread
from typing import Final, Generic, TypeVar

GATHER_SECONDS: Final = 0.002
"""How long more is waited for while several callers are there, to go to the disk together."""
T = TypeVar("T")


class Disk(Generic[T]):
    """A thread that waits for the disk, so that the vault need not.

    The thread does as little as can be: the interpreter runs one of them at a time. The methods
    are for the thread of the vault. *T* is what an answer is held as.
    """

    def __init__(self) -> None:
        self._noted = False
        self._inode = -1
        self._file = -1
        self._held = 0
        self._queue = SimpleQueue[tuple[int, T | None] | None]()
        self._finished = deque[tuple[T, bool]]()
        self.woken = os.eventfd(0, os.EFD_CLOEXEC)
        """A descriptor that can be read when :meth:`finished` has something."""
        self._thread = Thread(target=self._run, name="disk", daemon=True)
        self._thread.start()

    def note(self, file: int) -> None:
        """Note that the file of this descriptor has a line for the call that runs."""
        self._noted = True
        inode = os.fstat(file).st_ino
        if inode != self._inode:
            # That one may be closed before the thread comes to it.
            before, self._file = self._file, os.dup(file)
            self._inode = inode
            if before >= 0:
                self._queue.put((before, None))

    def hold(self, answer: T) -> bool:
        """Hold the answer of the call that ran if a line was noted for it; tell whether one was."""
        if not self._noted:
            return False
        self._noted = False
        self._held += 1
        self._queue.put((self._file, answer))
        return True

    def finished(self) -> Iterator[tuple[T, bool]]:
        """Take the answers, and whether the line of each is on the disk; False: it may not be."""
        os.eventfd_read(self.woken)
        while self._finished:
            self._held -= 1
            yield self._finished.popleft()

    @property
    def holds(self) -> bool:
        """Whether answers wait."""
        return self._held > 0

    def close(self) -> None:
        """End the thread when it has done what waits."""
        self._queue.put(None)
        self._thread.join()
        os.close(self.woken)
        if self._file >= 0:
            os.close(self._file)

    def _run(self) -> None:
        several, is_last = False, False
        while not is_last and (first := self._queue.get()) is not None:
            if several:
                time.sleep(GATHER_SECONDS)
            taken = [first]
            while not (is_last or self._queue.empty()):
                more = self._queue.get()
                if more is None:
                    is_last = True
                else:
                    taken.append(more)
            durable = {file: _is_durable(file) for file in {file for file, _ in taken}}
            # A caller alone sends nothing before it has its answer.
            several = len(taken) > 1 or not self._queue.empty()
            for file, answer in taken:
                if answer is None:
                    os.close(file)
                else:
                    self._finished.append((answer, durable[file]))
            os.eventfd_write(self.woken, 1)


def _is_durable(file: int) -> bool:
    """Wait until what was written to *file* is on the disk."""
    try:
        os.fdatasync(file)
    except OSError:
        return False
    return True

"""Answers that wait until the line which tells of them is on the disk."""

import os
from collections import deque
from collections.abc import Callable, Iterable
from queue import SimpleQueue
from threading import Thread
from typing import NamedTuple, TypeAlias

Send: TypeAlias = Callable[[bool], None]
"""Sends an answer; False: its line may not be on the disk."""


class _Held(NamedTuple):
    file: int
    send: Send


class Disk:
    """A thread that waits for the disk, so that the vault need not.

    What is written while it waits goes to the disk together. Its methods are for the thread of
    the vault.
    """

    def __init__(self) -> None:
        self._noted: int | None = None
        self._held = 0
        self._queue = SimpleQueue[_Held | None]()
        self._finished = deque[tuple[Send, bool]]()
        self.woken = os.eventfd(0, os.EFD_CLOEXEC)
        """A descriptor that can be read when :meth:`finished` has something."""
        self._thread = Thread(target=self._run, name="disk", daemon=True)
        self._thread.start()

    def note(self, file: int) -> None:
        """Note that the file of this descriptor has a line for the call that runs."""
        if self._noted is not None:
            os.close(self._noted)
        # That one may be closed before the thread comes to it.
        self._noted = os.dup(file)

    def hold(self, send: Send) -> bool:
        """Hold the answer of the call that ran if a line was noted for it; tell whether one was."""
        if self._noted is None:
            return False
        self._queue.put(_Held(self._noted, send))
        self._noted = None
        self._held += 1
        return True

    def finished(self) -> Iterable[tuple[Send, bool]]:
        """Take the answers whose lines are on the disk, or cannot be brought there."""
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

    def _run(self) -> None:
        told_to_end = False
        while not told_to_end:
            taken = [self._queue.get()]
            while not self._queue.empty():
                taken.append(self._queue.get())
            held = [one for one in taken if one is not None]
            told_to_end = len(held) < len(taken)
            files = {os.fstat(one.file).st_ino: one.file for one in held}
            durable = {inode: _is_durable(file) for inode, file in files.items()}
            for one in held:
                self._finished.append((one.send, durable[os.fstat(one.file).st_ino]))
                os.close(one.file)
            os.eventfd_write(self.woken, 1)


def _is_durable(file: int) -> bool:
    """Wait until what was written to *file* is on the disk."""
    try:
        os.fdatasync(file)
    except OSError:
        return False
    return True

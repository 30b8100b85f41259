"""Answers that wait until the line which tells of them is on the disk."""

import os
from collections import deque
from collections.abc import Callable, Iterable
from io import FileIO
from queue import SimpleQueue
from threading import Thread
from typing import NamedTuple, TypeAlias

Send: TypeAlias = Callable[[bool], None]
"""Sends an answer; False: its line may not be on the disk."""


class _Held(NamedTuple):
    file: FileIO
    send: Send


class Disk:
    """A thread that waits for the disk, so that the vault need not.

    What is written while it waits goes to the disk together. Its methods are for the thread of
    the vault.
    """

    def __init__(self) -> None:
        self._noted: FileIO | None = None
        self._held = 0
        self._queue = SimpleQueue[_Held | None]()
        self._finished = deque[tuple[Send, bool]]()
        self.woken = os.eventfd(0, os.EFD_CLOEXEC)
        """A descriptor that can be read when :meth:`finished` has something."""
        self._thread = Thread(target=self._run, name="disk", daemon=True)
        self._thread.start()

    def note(self, file: FileIO) -> None:
        """Note that *file* has a line for the call that runs."""
        self._noted = file

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
            durable = {file: _is_durable(file) for file in {one.file for one in held}}
            self._finished.extend((one.send, durable[one.file]) for one in held)
            os.eventfd_write(self.woken, 1)


def _is_durable(file: FileIO) -> bool:
    """Wait until what was written to *file* is on the disk."""
    try:
        os.fdatasync(file.fileno())
    except OSError:
        return False
    return True

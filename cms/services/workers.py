"""What each worker of this program last saw, so that any of them can tell it for all.

A worker writes what it sees to a file of its slot, in the directory that all share
(:mod:`hsm.exposition`). Without a directory it is alone.
"""

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal, TypeAlias

import msgspec

from hsm import exposition

SILENT_SECONDS: Final = 20.0
"""A worker looks every 6 s, and what it asks takes 5 s at most."""
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder


Part: TypeAlias = Literal["vault", "database", "worker", "clock", "manifest", "certificate"]


class Fault(msgspec.Struct, frozen=True):
    """What is wrong, or soon will be."""

    part: Part
    reason: str


class View(msgspec.Struct, frozen=True):
    """What a worker saw."""

    pid: int
    at: float
    """By the clock that all processes of a machine share, in seconds."""
    vault: bool
    database: bool
    problems: tuple[Fault, ...] = ()
    """Why it is not ready."""
    warnings: tuple[Fault, ...] = ()
    connections: int = 0
    """To the database, that are open."""
    connections_free: int = 0
    callers_waiting: int = 0
    """For one of them."""
    clock_difference_seconds: float = 0.0
    """By how much the database's clock is ahead of this host's; below 0: behind."""

    @property
    def is_silent(self) -> bool:
        """Whether it should have been written anew long ago."""
        return now() - self.at > SILENT_SECONDS


def now() -> float:
    """Return the time by the clock of views."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)


class Workers:
    """The views of all workers.

    Args:
        slot: of this worker.
    """

    def __init__(self, slot: str = "0") -> None:
        self._slot = slot
        self._own: View | None = None

    def tell(self, view: View) -> None:
        """Have the others know what this worker saw."""
        self._own = view
        directory = exposition.directory()
        if directory is not None:
            new = directory / f"new-view-{self._slot}"
            with suppress(OSError):  # no room: the others will say that this worker is silent
                new.write_bytes(_encode(view))
                new.replace(directory / f"view-{self._slot}")

    def views(self) -> Sequence[View]:
        """Read what the workers saw that are running, this one's too."""
        directory = exposition.directory()
        if directory is None:
            return [] if self._own is None else [self._own]
        views = [_read(path) for path in sorted(directory.glob("view-*"))]
        return [view for view in views if view is not None and _is_running(view.pid)]


def _read(path: Path) -> View | None:
    with suppress(OSError, msgspec.MsgspecError):
        return _decode(View).decode(path.read_bytes())
    return None


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:  # it ended, or another user's has its number
        return False
    return True

"""The chain of this process: the first of the host's chains that no other process holds.

It is held by a lock on its directory until the process ends, however it does. So nobody else
appends to it, and to append takes no lock and needs nothing to be read again. Which chains a host
has is written in a chain as well, the list of chains: a chain that is deleted is missed, and a host
that never began has no list.
"""

import fcntl
import os
import weakref
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from hsm import directories
from hsm.errors import LogUnavailable
from hsm.log import files, lines
from hsm.log.end import UNKNOWN, End, last_line
from hsm.log.lines import Action, Event, Line, Mac
from hsm.pkcs11.keys import KeyLabel

BEHIND_MAX: Final = timedelta(seconds=5)
"""So much may the clock be behind a line of the host's; one that is put back writes nothing."""


class OwnChain:
    """A chain that this process holds as long as this object lives.

    Its methods raise OSError when a file cannot be read or written, and ``VaultUnavailable`` when
    the HSM token does not answer.
    """

    def __init__(self, directory: Path, lock: int) -> None:
        self._directory = directory
        self._end: End | None = None
        weakref.finalize(self, os.close, lock)

    def find_end(self) -> Line | None:
        """Look where the chain ends; return its last line, None if it has no line.

        Raises:
            LogUnavailable: it does not end with the line that this process wrote last.
        """
        end = self._end
        if end is not None and end.is_as_left():
            return end.last
        paths = files.files_of(self._directory)
        found = End.find(paths) if paths else None
        last = None if found is None else found.last
        if end is not None and end.last is not None:
            _check_last(last, end.last)
        self._end = found
        return last

    def write(self, event: Event, at: datetime, label: KeyLabel, mac: Mac) -> Line:
        """Append a line where :meth:`find_end` found the end, in the file of its day."""
        day, end = at.date().isoformat(), self._end
        if end is None:
            end = self._end = End.of_new(self._directory / f"{day}.jsonl")
        # A clock that was put back a little does not bring back the file of the day before.
        elif day > end.name:
            os.fdatasync(end.file.fileno())
            end.size_bytes = UNKNOWN
            path = self._directory / f"{day}.jsonl"
            end = self._end = End.of_new(path, end.last, end.before)
        return end.write(event, at, label, mac)

    @property
    def file(self) -> int:
        """The open file of the line that was written last."""
        if self._end is None:
            raise LogUnavailable("the log cannot be read or written")
        return self._end.file.fileno()


def begin(directory: Path, at: datetime, label: KeyLabel, mac: Mac) -> None:
    """Begin the log of a host that has none. One that is there stays.

    Raises:
        OSError: it cannot be made.
        VaultUnavailable: the HSM token does not answer.
    """
    files.make_directory(directory)
    path = files.list_of(directory)
    with directories.locked(directory):
        listed = End.find([path]) if path.exists() else End.of_new(path)
        if listed.last is None:
            listed.write(Event(Action.BEGAN), at, label, mac)
            os.fdatasync(listed.file.fileno())


def take(directory: Path, now: datetime, label: KeyLabel, mac: Mac) -> OwnChain:
    """Take the first chain that no other process holds; begin one where they all are held.

    Raises:
        LogUnavailable: the host's log did not begin, lacks a chain or a chain's lines, or ends
            later than now.
        OSError: it cannot be read or written.
        VaultUnavailable: the HSM token does not answer.
    """
    path = files.list_of(directory)
    if not path.exists():
        raise LogUnavailable(
            "this host has no log: it begins with a list of minimum versions, see docs/operating.md"
        )
    with directories.locked(directory):
        listed = End.find([path])
        check_clock(now, listed.last)
        own = None
        for chain in _listed_chains(directory, listed.last):
            own = own or _held(chain)
            check_clock(now, last_line(files.files_of(chain)))
        return own or _begin_chain(directory, listed, now, label, mac)


def check_clock(now: datetime, last: Line | None) -> None:
    """Look whether *now* can be the time of a line after *last*.

    Raises:
        LogUnavailable: it cannot, or *last* is None: the lines of the chain are missing.
    """
    if last is None:
        raise LogUnavailable("a chain of the log has no line")
    if last.at - now > BEHIND_MAX:
        raise LogUnavailable("the clock is behind the log")


def _listed_chains(directory: Path, last: Line | None) -> Iterator[Path]:
    count = _count(last)
    there = files.chains_of(directory)
    for number in range(count):
        if number not in there:
            raise LogUnavailable("a chain of the log is missing")
        yield there[number]


def _count(last: Line | None) -> int:
    """Tell from the last line of the list how many chains there are."""
    return 0 if last is None or last.event.chain is None else last.event.chain + 1


def _begin_chain(directory: Path, listed: End, at: datetime, label: KeyLabel, mac: Mac) -> OwnChain:
    """Begin a chain, and list it when its first line is on the disk."""
    number = _count(listed.last)
    chain = directory / str(number)
    files.make_directory(chain)
    own = _held(chain)
    if own is None:
        raise LogUnavailable("a chain that is not listed is held")
    # A process may have ended before it listed the chain.
    first = own.find_end()
    if first is None:
        first = own.write(Event(Action.CHAIN, chain=number), at, label, mac)
    elif first.seq > 1:
        raise LogUnavailable("a chain of the log is not in its list")
    os.fdatasync(own.file)
    event = Event(Action.CHAIN, chain=number, first=lines.digest(first.text))
    listed.write(event, at, label, mac)
    os.fdatasync(listed.file.fileno())
    return own


def _held(chain: Path) -> OwnChain | None:
    """Hold a chain, unless another process does."""
    lock = os.open(chain, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException as error:
        os.close(lock)
        if isinstance(error, BlockingIOError):
            return None
        raise
    return OwnChain(chain, lock)


def _check_last(found: Line | None, own: Line) -> None:
    if found is None or found.seq < own.seq:
        raise LogUnavailable("the log is shorter than it was")
    if found != own:
        raise LogUnavailable("the log was changed by others")

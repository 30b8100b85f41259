"""The log that the vault of a host writes: ``HSM_STATE_DIRECTORY/log/2026-11-27.jsonl``.

A file a day (UTC), mode 0600; the chain of :mod:`hsm.log.lines` goes on over the files. All workers
of the host append to it, one at a time, under a lock on the directory; each reads again only what
another one has written since. A process that ends while it writes leaves a line that is not whole;
the next line stands on a line of its own and names that one as the one before it.
"""

import fcntl
import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from io import FileIO
from pathlib import Path
from typing import Final, TypeAlias

from hsm.errors import LogBroken, LogUnavailable
from hsm.log import lines
from hsm.log.lines import NOTHING_BEFORE, Action, Event, Line, Mac
from hsm.pkcs11.keys import KeyLabel

DIRECTORY: Final = "log"
"""Of the log, in the directory of this host's state."""
FILES: Final = "*.jsonl"
REFUSALS_SECONDS: Final = 60
"""Refusals alike in this time are one line."""

_Refused: TypeAlias = tuple[str, str | None, str | None, str | None]
"""Reason, issuer, face, client."""


@dataclass(slots=True)
class _End:
    """Where the log ends."""

    file: FileIO
    day: str
    size_bytes: int
    directory_changed_ns: int
    seq: int
    before: str
    """SHA-256 of the last line, whole or not."""
    is_whole: bool
    """Whether the file ends with a line feed, or is empty."""

    def follow(self) -> bool:
        """Move behind the lines that other workers appended to the file, all of them whole.

        Returns:
            False, and nothing is moved, where that is not all that became of it.
        """
        file = self.file.fileno()
        grown_bytes = os.fstat(file).st_size - self.size_bytes
        if grown_bytes == 0:
            return True
        if grown_bytes < 0 or not self.is_whole:
            return False
        *_, text, rest = (b"", *os.pread(file, grown_bytes, self.size_bytes).split(b"\n"))
        try:
            self.seq = Line.parse(b"" if rest else text).seq
        except LogBroken:
            return False
        self.before = lines.digest(text)
        self.size_bytes += grown_bytes
        return True


@dataclass(slots=True)
class _Waiting:
    """Refusals that no line tells yet."""

    since: datetime
    count: int = 0


@dataclass(slots=True)
class VaultLog:
    """The log of this host.

    Every method raises ``LogUnavailable`` when the log is not there, cannot be written, or is
    shorter than it was; and ``VaultUnavailable`` when the HSM token does not answer.
    """

    directory: Path
    """Where its files are; only the vault's user may read or write there."""
    mac: Mac
    label: KeyLabel
    """The active key of role ``log-mac``."""
    now: Callable[[], datetime]
    """The time, UTC."""
    _end: _End | None = field(default=None, init=False)
    _refused: dict[_Refused, _Waiting] = field(default_factory=dict, init=False)

    def begin(self) -> None:
        """Begin the log of a host that has none: its first line. One that is there stays."""
        with _files():
            self.directory.mkdir(mode=0o700, exist_ok=True)
        with self._alone() as directory:
            if not files_of(self.directory):
                day = _day(self.now())
                file, changed_ns = self._create(directory, day)
                end = _End(file, day, 0, changed_ns, 0, NOTHING_BEFORE, is_whole=True)
                self._write(end, Event(Action.BEGAN))
                with _files():
                    os.fdatasync(file.fileno())

    def check(self) -> None:
        """Look whether there is a log to append to; nothing is written."""
        with self._alone() as directory:
            self._find_end(directory)

    def append(self, event: Event, *, durable: bool) -> str:
        """Append a line; return its receipt.

        Args:
            event: what the line tells.
            durable: whether it must survive a loss of power.
        """
        with self._alone() as directory:
            end = self._end_of_today(directory)
            for refused in self._due():
                self._write(end, refused)
            receipt = self._write(end, event).receipt
        if durable:
            # Not under the lock: what workers write meanwhile goes to the disk together.
            with _files():
                os.fdatasync(end.file.fileno())
        return receipt

    def refuse(
        self,
        reason: str,
        issuer_id: str | None = None,
        face: str | None = None,
        client_id: str | None = None,
    ) -> str | None:
        """Tell of a refusal: at once, or with others like it when 60 seconds are over.

        Args:
            reason: what was refused.
            issuer_id: of a manifest; None: what was refused did not tell.
            face: where.
            client_id: one of that manifest, so that what a caller makes up is not written.

        Returns:
            The receipt of the line; None where it is only counted. What is counted and not told
            when this process ends is lost.
        """
        key = (reason, issuer_id, face, client_id)
        waiting = self._refused.get(key)
        if waiting is not None and not self._is_over(waiting):
            waiting.count += 1
            return None
        count = 1 if waiting is None else waiting.count + 1
        self._refused[key] = _Waiting(self.now())
        return self.append(_refusal(key, count), durable=False)

    def _due(self) -> Iterator[Event]:
        """Tell of refusals that wait since 60 seconds and more."""
        for key, waiting in list(self._refused.items()):
            if self._is_over(waiting):
                del self._refused[key]
                if waiting.count:
                    yield _refusal(key, waiting.count)

    def _is_over(self, waiting: _Waiting) -> bool:
        # Either way: a clock may be set back.
        return abs(self.now() - waiting.since) >= timedelta(seconds=REFUSALS_SECONDS)

    def _write(self, end: _End, event: Event) -> Line:
        """Append a line where the log ends, and move *end* behind it."""
        line = lines.write(event, end.seq + 1, self.now(), end.before, self.label, self.mac)
        text = line.text + b"\n" if end.is_whole else b"\n" + line.text + b"\n"
        # Until all of it is written nobody knows how the file ends.
        self._end = None
        with _files():
            written = end.file.write(text)
        if written != len(text):
            raise LogUnavailable("the log cannot be written")
        end.seq, end.before, end.is_whole = line.seq, lines.digest(line.text), True
        end.size_bytes += written
        self._end = end
        return line

    def _end_of_today(self, directory: int) -> _End:
        """Find where the log ends; begin the file of a new day."""
        end = self._find_end(directory)
        day = _day(self.now())
        # A clock that was set back does not bring back a file that others follow.
        if day > end.day:
            with _files():
                os.fdatasync(end.file.fileno())
            end.file, end.directory_changed_ns = self._create(directory, day)
            end.day, end.size_bytes, end.is_whole = day, 0, True
        return end

    def _find_end(self, directory: int) -> _End:
        end = self._end
        with _files():
            changed_ns = os.fstat(directory).st_mtime_ns
            if end is not None and end.directory_changed_ns == changed_ns and end.follow():
                return end
            found = _read_end(self.directory, changed_ns)
        if end is not None and found.seq < end.seq:
            raise LogUnavailable("the log is shorter than it was")
        self._end = found
        return found

    def _create(self, directory: int, day: str) -> tuple[FileIO, int]:
        """Make the file of a day; its name survives a loss of power."""
        with _files():
            file = _open(self.directory / f"{day}.jsonl", os.O_CREAT | os.O_EXCL)
            # Whoever types a command first on a day may be root; the service must go on.
            os.fchown(file.fileno(), os.fstat(directory).st_uid, -1)
            os.fsync(directory)
            return file, os.fstat(directory).st_mtime_ns

    @contextmanager
    def _alone(self) -> Iterator[int]:
        """Keep the other workers of this host from appending; give the open directory."""
        with _files():
            directory = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with _files():
                fcntl.flock(directory, fcntl.LOCK_EX)
            yield directory
        finally:
            os.close(directory)


def _refusal(key: _Refused, count: int) -> Event:
    reason, issuer_id, face, client_id = key
    return Event(
        *(Action.REFUSED, issuer_id, None, face, client_id),
        reason=reason,
        count=count,
    )


def _read_end(directory: Path, changed_ns: int) -> _End:
    """Read the log from its end until a line is whole.

    Raises:
        FileNotFoundError: none is.
    """
    paths = files_of(directory)
    before: str | None = None
    for path in reversed(paths):
        for text in _texts_from_end(path):
            before = lines.digest(text) if before is None else before
            try:
                line = Line.parse(text)
            except LogBroken:
                continue
            file = _open(paths[-1])
            size_bytes = os.fstat(file.fileno()).st_size
            is_whole = size_bytes == 0 or os.pread(file.fileno(), 1, size_bytes - 1) == b"\n"
            return _End(
                *(file, paths[-1].stem, size_bytes, changed_ns, line.seq, before), is_whole=is_whole
            )
    raise FileNotFoundError


def _texts_from_end(path: Path) -> Iterator[bytes]:
    """Read the lines of a file, the last one first."""
    if not path.stat().st_size:
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        end = len(content) - (content[-1:] == b"\n")
        while end >= 0:
            start = content.rfind(b"\n", 0, end) + 1
            yield content[start:end]
            end = start - 1


def files_of(directory: Path) -> list[Path]:
    """List the files of a log, the oldest first.

    Raises:
        LogUnavailable: the directory cannot be read.
    """
    with _files():
        return sorted(directory.glob(FILES))


def _open(path: Path, flags: int = 0) -> FileIO:
    # Read too: to see how it ends.
    def opener(name: str, _: int) -> int:
        return os.open(name, os.O_RDWR | os.O_APPEND | flags, 0o600)

    return FileIO(path, "a+", opener=opener)


def _day(time: datetime) -> str:
    return time.date().isoformat()


@contextmanager
def _files() -> Iterator[None]:
    """Say so of a log that cannot be used."""
    try:
        yield
    except FileNotFoundError:
        raise LogUnavailable("this host has no log: it begins with a list of floors") from None
    except OSError:
        raise LogUnavailable("the log cannot be read or written") from None

"""Where a chain ends, and how a line is put there.

A process that ends while it writes leaves a line that is not whole; the next line stands on a line
of its own and names that one as the one before it.
"""

import mmap
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from io import FileIO
from pathlib import Path
from typing import Final, Self

from hsm.errors import LogBroken, LogUnavailable
from hsm.log import files, lines
from hsm.log.lines import NOTHING_BEFORE, Event, Line, Mac
from hsm.pkcs11.keys import KeyLabel

UNKNOWN: Final = -1


@dataclass(slots=True)
class End:
    """Where a chain ends, in the last of its files, which one process writes."""

    path: str
    name: str
    """The file's, without its suffix: a day, ISO 8601."""
    file: FileIO
    last: Line | None
    """The last line that is whole; None: there is none yet."""
    before: str
    """SHA-256 of the last line, whole or not."""
    is_whole: bool
    """Whether the file ends with a line feed, or is empty."""
    inode: int
    size_bytes: int
    """As this process left it; UNKNOWN while it writes, and after it failed to."""

    @classmethod
    def of_new(cls, path: Path, last: Line | None = None, before: str = NOTHING_BEFORE) -> Self:
        """Make the file at *path*, for the line after *last*.

        Raises:
            OSError: it cannot be made.
        """
        file = files.make_file(path)
        inode = os.fstat(file.fileno()).st_ino
        return cls(
            *(str(path), path.stem, file, last, before), is_whole=True, inode=inode, size_bytes=0
        )

    @classmethod
    def find(cls, paths: Sequence[Path]) -> Self:
        """Read the files of a chain from their end until a line is whole; there may be none.

        Raises:
            OSError: they cannot be read, or *paths* is empty.
        """
        if not paths:
            raise FileNotFoundError
        last, before = _read_last(paths)
        file = files.open_file(paths[-1])
        status = os.fstat(file.fileno())
        size_bytes = status.st_size
        is_whole = size_bytes == 0 or os.pread(file.fileno(), 1, size_bytes - 1) == b"\n"
        names = str(paths[-1]), paths[-1].stem
        return cls(*names, file, last, before, is_whole, status.st_ino, size_bytes)

    def is_as_left(self) -> bool:
        """Tell whether the file is the one that this process wrote, and as long as it left it.

        Raises:
            OSError: there is none.
        """
        status = os.stat(self.path)  # noqa: PTH116 - half the time of Path's, at each line
        return status.st_size == self.size_bytes and status.st_ino == self.inode

    def write(self, event: Event, at: datetime, label: KeyLabel, mac: Mac) -> Line:
        """Append a line.

        Raises:
            LogUnavailable: not all of it could be written.
            OSError: none of it.
            VaultUnavailable: the HSM token does not answer, or lacks the key.
        """
        seq = 1 if self.last is None else self.last.seq + 1
        line = lines.write(event, seq, at, self.before, label, mac)
        text = line.text + b"\n" if self.is_whole else b"\n" + line.text + b"\n"
        # Until all of it is written nobody knows how the file ends.
        size_bytes, self.size_bytes = self.size_bytes, UNKNOWN
        if self.file.write(text) != len(text):
            raise LogUnavailable("the log cannot be written")
        self.last, self.before, self.is_whole = line, lines.digest(line.text), True
        self.size_bytes = size_bytes + len(text)
        return line


def last_line(paths: Sequence[Path]) -> Line | None:
    """Read the last whole line of a chain, which another process may be writing.

    Raises:
        OSError: its files cannot be read.
    """
    return _read_last(paths)[0]


def _read_last(paths: Sequence[Path]) -> tuple[Line | None, str]:
    """Read the last whole line, and SHA-256 of the last one, whole or not."""
    before: str | None = None
    for path in reversed(paths):
        for text in _texts_from_end(path):
            before = lines.digest(text) if before is None else before
            try:
                return Line.parse(text), before
            except LogBroken:
                continue
    return None, before or NOTHING_BEFORE


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

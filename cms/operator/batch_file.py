"""A file of batches for the bureau, which is written part by part and can be gone on with.

Until its last part is there it is called ``OUT.part``. What stands in it was handed out, whatever
the database knows of it: a part is on the disk before the database notes it, and whoever goes on
notes what is there first. The end of a part that was cut off is dropped.
"""

import fcntl
import json
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from cms.operator.command_line import Refused
from cms.persistence.mailers import Mailed
from hsm import directories
from hsm.port import BatchPart

FILE_ID_BYTES: Final = 16
OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
END: Final = '{"count":'


@dataclass(frozen=True, slots=True)
class _Part:
    """A whole part of a file: its head, and what the bureau gets with it, by card id."""

    head: Mapping[str, Any]
    mailed: Mapping[str, Mailed]


@dataclass
class BatchFile:
    """A file that one command writes."""

    path: Path
    _file: int
    _file_id: str = field(default_factory=lambda: secrets.token_hex(FILE_ID_BYTES))
    _parts: int = field(default=0, init=False)
    is_whole: bool = field(default=False, init=False)
    """Whether its last part is there."""
    mailed: dict[str, Mailed] = field(default_factory=dict, init=False)
    """What the bureau gets with it, by card id."""

    @classmethod
    @contextmanager
    def open(cls, path: Path, issuer_id: str) -> Iterator[Self]:
        """Begin a file of an issuer, or go on with one.

        Raises:
            Refused: it is there already, what was begun is not this user's alone or is something
                else, or another command writes it.
            OSError: it cannot be read or written.
        """
        if path.exists():
            raise Refused("the file is there already")
        opened = os.open(_begun(path), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            try:
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Refused("another command writes this file") from None
            found = os.fstat(opened)
            if found.st_mode & OTHERS or found.st_uid != os.geteuid():
                raise Refused("what was begun of the file is not this user's alone")
            file = cls(path, opened)
            file._read(issuer_id)
            directories.sync(path.parent)
            try:
                yield file
            finally:
                if file.is_empty:
                    _begun(path).unlink()
        finally:
            os.close(opened)

    @property
    def is_empty(self) -> bool:
        """Whether no part of it is there."""
        return self._parts == 0

    def next_part(self, *, is_last: bool) -> BatchPart:
        """Name the part that comes next."""
        return BatchPart(self._file_id, self._parts + 1, is_last)

    def append(self, text: str) -> Mapping[str, Mailed]:
        """Write a part, and wait until it is on the disk; return what the bureau gets with it.

        Raises:
            OSError: it cannot be written.
        """
        left = text.encode("ascii")
        while left:
            left = left[os.write(self._file, left) :]
        os.fsync(self._file)
        return self._add(_parsed(text))

    def finish(self) -> None:
        """Give the file its name.

        Raises:
            FileExistsError: another file got that name.
            OSError: it cannot be given.
        """
        # Where a rename would take the place of another file.
        os.link(_begun(self.path), self.path)
        _begun(self.path).unlink()
        directories.sync(self.path.parent)

    def _read(self, issuer_id: str) -> None:
        with os.fdopen(os.dup(self._file), "rb") as stream:
            begun = stream.read()
        whole = 0
        try:
            for end in _ends(begun):
                part = _parsed(begun[whole:end].decode("ascii"))
                if part.head["issuerId"] != issuer_id:
                    raise Refused("what was begun of the file is another issuer's")
                self._add(part)
                whole = end
        except (ValueError, KeyError, TypeError):
            raise Refused("what was begun of the file is something else") from None
        if begun and not whole and not begun.startswith(b'{"layout":'):
            raise Refused("what was begun of the file is something else")
        os.ftruncate(self._file, whole)
        os.lseek(self._file, whole, os.SEEK_SET)

    def _add(self, part: _Part) -> Mapping[str, Mailed]:
        self._file_id, self._parts = part.head["file"], part.head["part"]
        self.is_whole = part.head["last"]
        self.mailed |= part.mailed
        return part.mailed


def _begun(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def _ends(begun: bytes) -> Iterator[int]:
    """Find where parts end."""
    at = 0
    for line in begun.splitlines(keepends=True):
        at += len(line)
        if line.startswith(END.encode()) and line.endswith(b"\n"):
            yield at


def _parsed(text: str) -> _Part:
    head, *lines, _ = map(json.loads, text.splitlines())
    return _Part(head, {line["cardId"]: Mailed(line["counter"], line["receipt"]) for line in lines})

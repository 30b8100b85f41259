"""Follows a chain from its first line over all its files: is every line there, and in its place?"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hsm.errors import LogBroken
from hsm.log.lines import NOTHING_BEFORE, Line, Mac, digest


@dataclass(frozen=True, slots=True)
class Place:
    """A line of a file, counted from 1."""

    path: Path
    number: int

    def __str__(self) -> str:
        return f"{self.path}:{self.number}"


class Chain:
    """What was read of one chain so far.

    Args:
        mac: makes the MACs to compare with; None: they are not checked, only that each line follows
            the one before it.
    """

    def __init__(self, mac: Mac | None = None) -> None:
        self._mac = mac
        self._before = NOTHING_BEFORE
        self.seq = 0
        """Of the last line."""
        self.place: Place | None = None
        """Of the line that is looked at."""
        self.torn: list[Place] = []
        """Lines that are not whole, as when a process ends while it writes; the next names them."""

    def follow(self, paths: Iterable[Path]) -> Iterator[Line]:
        """Read the lines of *paths*, in this order; each that is yielded follows the one before.

        Raises:
            LogBroken: one does not; :attr:`place` says which. Or there is none at all: a chain has
                its first line.
            OSError: a file cannot be read.
            VaultUnavailable: the HSM token does not answer, or lacks the key.
        """
        for path in paths:
            self.place = Place(path, 1)
            with path.open("rb") as file:
                for number, text in enumerate(file, 1):
                    self.place = Place(path, number)
                    line = self._take(text.removesuffix(b"\n"))
                    if line is not None:
                        yield line
        if self.seq == 0:
            raise LogBroken("up to here there is no line")

    def _take(self, text: bytes) -> Line | None:
        before, self._before = self._before, digest(text)
        try:
            line = Line.parse(text)
        except LogBroken:
            if self.place is not None:
                self.torn.append(self.place)
            return None
        self._check(line, before)
        self.seq = line.seq
        return line

    def _check(self, line: Line, before: str) -> None:
        if self._mac is not None and not line.has_mac_of(self._mac):
            raise LogBroken("its MAC is wrong")
        if line.seq > self.seq + 1:
            raise LogBroken("lines before it are missing")
        if line.seq <= self.seq:
            raise LogBroken("it is out of order, or of another log")
        if line.before != before:
            raise LogBroken("the line before it is not the one that it followed")

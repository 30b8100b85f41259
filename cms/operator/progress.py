"""A bar on standard error shows somebody at a terminal how far a long command is."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol


class Bar(Protocol):
    """A bar; where nobody is at a terminal it shows nothing."""

    def update(self, count: int) -> object:
        """Say that so many more are done."""


@contextmanager
def bar(unit: str, total: int | None = None) -> Iterator[Bar]:
    """Show how many are done, of *total* where that is known."""
    from tqdm import tqdm

    with tqdm(total=total, unit=f" {unit}", disable=None) as shown:
        yield shown


@contextmanager
def lines_of(file: Path) -> Iterator[Iterator[bytes]]:
    """Read a file line by line, and show how much of it is done.

    Raises:
        OSError: it cannot be read.
    """
    from tqdm import tqdm

    with file.open("rb") as opened:
        total = file.stat().st_size or None
        with tqdm(total=total, unit="B", unit_scale=True, disable=None) as shown:
            yield _told(opened, shown)


def complain(text: str) -> None:
    """Print one line on standard error, above a bar."""
    from tqdm import tqdm

    tqdm.write(text, file=sys.stderr)


def _told(lines: BinaryIO, shown: Bar) -> Iterator[bytes]:
    for line in lines:
        yield line
        # Whoever asks for the next line is done with this one.
        shown.update(len(line))

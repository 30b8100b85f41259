"""The tables of docs/hsm-modules.md, which has a column for each module."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

PAGE: Final = Path(__file__).resolve().parents[3] / "docs" / "hsm-modules.md"


def column(corner: str, module: str) -> Mapping[str, str]:
    """Read what the table with *corner* at its top left says of a module, by row.

    A module that can run here is compared with its column; the others' stay as they were found.
    A module without a column has no rows.
    """
    rows = [_cells(line) for line in PAGE.read_text().splitlines() if line.startswith("|")]
    head = next((row for row in rows if row[0] == corner and module in row), None)
    if head is None:
        return {}
    body = rows[rows.index(head) + 2 :]
    length = next((at for at, row in enumerate(body) if _is_head(body, at)), len(body))
    return {row[0]: row[head.index(module)] for row in body[:length]}


def _is_head(rows: list[list[str]], at: int) -> bool:
    return at + 1 < len(rows) and set(rows[at + 1][0]) == {"-"}


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]

"""Rows of tests/vectors as pytest parameters."""

import json
from pathlib import Path
from typing import Any

import pytest

Row = dict[str, Any]

FOLDER = Path(__file__).parents[1] / "vectors"


def rows(name: str, *kinds: str) -> list[Any]:
    """Return the rows of file *name* of these *kinds*, each under a readable id."""
    found = [row for row in json.loads((FOLDER / name).read_text("utf-8")) if row["kind"] in kinds]
    # A misspelt kind must not turn into a test without cases.
    assert {row["kind"] for row in found} == set(kinds)
    return [pytest.param(row, id=f"{number}-{row['comment']}") for number, row in enumerate(found)]

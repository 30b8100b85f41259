"""The lines that operators look up are those that the programs write."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEADING = "## When it does not start, or does not serve"
PAGE = (ROOT / "docs" / "operating.md").read_text()
SECTION = PAGE.partition(HEADING)[2].partition("\n## ")[0]
ROWS = [line for line in SECTION.splitlines() if line.startswith("| `")]
LINES = [told for row in ROWS for told in re.findall(r"`([^`]+)`", row.split(" | ")[0])]
SOURCE = "\n".join(
    path.read_text() for package in ("cms", "hsm") for path in (ROOT / package).rglob("*.py")
)


def parts(told: str) -> list[str]:
    """What of a line is always there."""
    return [
        part.strip(" ,")
        for part in re.split(r"…|^(?:CMS|HSM)_\w*(?:: |…)", told)
        if part.strip(" ,")
    ]


@pytest.mark.parametrize("told", LINES)
def test_a_line_of_the_page_is_one_that_is_written(told: str) -> None:
    assert all(part in SOURCE for part in parts(told)), parts(told)


@pytest.mark.parametrize(
    "told",
    ["no minimum versions", "no directory that can", "clock is behind", "that of this release"],
)
def test_what_befalls_newcomers_is_there(told: str) -> None:
    assert any(told in line for line in LINES)

"""The table of attackers in SECURITY.md, made from the tests that act as them.

``python -m tests.attacks.table`` writes it.
"""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
SECURITY: Final = HERE.parents[1] / "SECURITY.md"
BEGIN, END = "<!-- made from tests/attacks -->\n", "<!-- end of what is made -->\n"
HEAD: Final = "| who | gets | does not | shown by |\n|---|---|---|---|\n"


@dataclass(frozen=True, slots=True)
class Attacker:
    """A line of the table; each test module of this directory has one, ``ATTACKER``."""

    who: str
    gets: str
    does_not: str


def table() -> str:
    """Write the table."""
    names = sorted(path.stem for path in HERE.glob("test_*.py"))
    attackers = {name: import_module(f"tests.attacks.{name}").ATTACKER for name in names}
    return HEAD + "".join(
        f"| {one.who} | {one.gets} | {one.does_not} | `tests/attacks/{name}.py` |\n"
        for name, one in attackers.items()
    )


def with_table(text: str) -> str:
    """Replace the table in *text*, which is between two comments."""
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + "\n" + table() + "\n" + END + rest.partition(END)[2]


if __name__ == "__main__":
    SECURITY.write_text(with_table(SECURITY.read_text()))

"""Sequence diagrams as tables: their drawing would need a script that is fetched from elsewhere.

GitHub draws them. Of Mermaid's language only what our pages use: participants, messages, notes.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

BLOCK: Final = re.compile(r"^```mermaid\nsequenceDiagram\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PARTICIPANT: Final = re.compile(r"participant (\w+)(?: as (.+))?")
MESSAGE: Final = re.compile(r"(\w+)--?>>(\w+): (.+)")
NOTE: Final = re.compile(r"Note over ([\w,]+): (.+)")
HEAD: Final = "| from | to | what |\n|---|---|---|\n"


def on_page_markdown(markdown: str, **_: Any) -> str:  # noqa: ANN401 - MkDocs' own arguments
    """Write each diagram of a page as a table."""
    return BLOCK.sub(lambda block: HEAD + "".join(_rows(block[1])), markdown)


def _rows(diagram: str) -> Iterator[str]:
    names: dict[str, str] = {}
    for line in map(str.strip, diagram.splitlines()):
        if found := PARTICIPANT.fullmatch(line):
            names[found[1]] = found[2] or found[1]
        elif found := MESSAGE.fullmatch(line):
            sender, receiver = names[found[1]], names[found[2]]
            yield f"| {sender} | {'itself' if sender == receiver else receiver} | {found[3]} |\n"
        elif found := NOTE.fullmatch(line):
            yield f"| {', '.join(names[each] for each in found[1].split(','))} | | *{found[2]}* |\n"
        else:
            raise ValueError("a line of a diagram that this does not know")

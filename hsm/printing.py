"""What commands print: tables for people at a terminal, JSON for programs.

A table is for a terminal only; into a pipe or a file a row is a line, as it always was. Nothing is
coloured.
"""

from __future__ import annotations

import json
import shutil
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Mapping
from contextlib import redirect_stdout
from datetime import datetime
from functools import wraps
from itertools import islice
from typing import Final, TypeAlias

ROWS_AT_ONCE: Final = 200
"""So many rows have columns of one width, and headings above them."""
NAME_COLUMNS: Final = 22

Result: TypeAlias = dict[str, object]
"""What a command found or did, by the names of the JSON."""


def add_json(parser: ArgumentParser, what: str = "object") -> None:
    """Let a command print its result as JSON; *what* is an ``object`` or ``array of objects``."""
    parser.add_argument("--json", action="store_true", help=f"print a JSON {what}")


def print_json(result: object) -> None:
    """Print what a command found or did, for programs."""
    print(json.dumps(result, indent=2))


def with_result(command: Callable[[Namespace, Result], int]) -> Callable[[Namespace], int]:
    """Give a command that talks with people something to fill its result into.

    With ``--json`` what it tells people goes to standard error, and the result is printed at the
    end: also when the command is refused, if there is some by then. Without, it is dropped.
    """

    @wraps(command)
    def run(arguments: Namespace) -> int:
        result: Result = {}
        if not arguments.json:
            return command(arguments, result)
        try:
            with redirect_stdout(sys.stderr):
                return command(arguments, result)
        finally:
            if result:
                print_json(result)

    return run


def is_for_people() -> bool:
    """Whether somebody at a terminal reads what is printed."""
    return sys.stdout.isatty()


def print_table(rows: Iterable[Mapping[str, object]]) -> None:
    """Print rows of the same names in columns with headings.

    Where the terminal is too narrow for that, a row is a line for each column, as
    :func:`print_columns` prints them.
    """
    rows = iter(rows)
    while some := list(islice(rows, ROWS_AT_ONCE)):
        text = _aligned(some)
        if max(map(len, text.splitlines())) <= shutil.get_terminal_size().columns:
            print(text)
            continue
        for row in some:
            print_columns(row)
            print()


def print_columns(row: Mapping[str, object]) -> None:
    """Print one row, a line for each column."""
    for name, value in row.items():
        print(f"{name:<{NAME_COLUMNS}}{shown(value)}")


def shown(value: object) -> str:
    """Write a value on a line, and so that it does nothing to a terminal."""
    text = "-" if value is None or value == [] else str(value)
    return text if text.isprintable() else ascii(text)[1:-1]


def _aligned(rows: list[Mapping[str, object]]) -> str:
    from prettytable import PrettyTable

    names = [*rows[0]]
    table = PrettyTable([name.upper() for name in names], border=False, align="l")
    table.left_padding_width, table.right_padding_width = 0, 2
    for name in names:
        if all(type(row[name]) is int for row in rows):
            table.align[name.upper()] = "r"
    for row in rows:
        table.add_row([_cell(row[name]) for name in names])
    return "\n".join(line.rstrip() for line in table.get_string().splitlines())


def _cell(value: object) -> str:
    return value.isoformat(" ", "seconds") if isinstance(value, datetime) else shown(value)

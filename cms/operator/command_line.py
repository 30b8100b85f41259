"""What the operator's commands share: parsing words, printing rows, showing refusals.

A noun's module has two parts: the arguments of its commands, and the commands. What a command works
with (database, vault, libraries) it imports when it runs: building the parser, and so ``--help``,
loads none of it.

Exit code 0 is success, 2 a refusal, which is one line on standard error. 141 is what a shell shows
for a program whose output nobody reads on: it ends without a word.
"""

from __future__ import annotations

import argparse
import json
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from hsm import printing
from hsm.command_line import OK, REFUSED, exit_code

if TYPE_CHECKING:
    from cms.persistence.admin import Database
    from hsm.port import CardRef

#: What is typed without an option, by its name: every command says the same of it.
POSITIONALS: Final[Mapping[str, str]] = {
    "issuer": "id of the issuer, 10 characters",
    "card": "id of the card",
    "draft": "file with a draft of the manifest; what changes it does so in place",
    "client": "id of the client; it starts with the id of the issuer",
    "client_key": "public key of the app; it starts with the id of the issuer",
    "user": "user name of the server; it starts with the id of the issuer",
}

Commands: TypeAlias = "argparse._SubParsersAction[ArgumentParser]"  # noqa: SLF001 - no public name
"""What commands are added to: those of the program, or those of a noun."""


class Refused(Exception):
    """What was asked breaks a rule; the message says which and shows no value."""


def add_noun(commands: Commands, name: str, text: str) -> Commands:
    """Add a noun to the program and return what its commands are added to."""
    parser = commands.add_parser(name, help=text)
    return parser.add_subparsers(required=True, metavar="COMMAND")


def add_command(
    commands: Commands, name: str, run: Callable[[Namespace], int], text: str, *positionals: str
) -> ArgumentParser:
    """Add a command.

    Args:
        commands: those of its noun.
        name: the word that is typed.
        run: called with the parsed arguments; returns the exit code.
        text: its line in ``--help``.
        positionals: names of arguments, all in :data:`POSITIONALS`. ``draft`` is the path of a
            file, every other is taken as text.

    Returns:
        Its parser, for further arguments.
    """
    parser = commands.add_parser(name, help=text)
    parser.set_defaults(run=run)
    for positional in positionals:
        kind = Path if positional == "draft" else str
        parser.add_argument(positional, type=kind, help=POSITIONALS[positional])
    return parser


def add_json(parser: ArgumentParser) -> None:
    """Let a command print JSON, for :func:`print_rows`."""
    printing.add_json(parser, "array of objects")


def add_list(commands: Commands, table: str, *positionals: str) -> None:
    """Add the command that lists a table: whole, or with the positional ``issuer`` that one's."""
    parser = add_command(commands, "list", _list_rows, f"list the {table}", *positionals)
    parser.set_defaults(table=table)
    add_json(parser)


def add_show(commands: Commands, table: str, key: Mapping[str, str]) -> None:
    """Add the command that shows one row of a table.

    Args:
        commands: those of the noun.
        table: whose row.
        key: for each column of the key, the positional that gives its value.
    """
    parser = add_command(commands, "show", _show_row, f"show one of the {table}", *key.values())
    parser.set_defaults(table=table, key=key)
    add_json(parser)


def run(parser: ArgumentParser, words: Sequence[str] | None) -> int:
    """Run the command that is typed and return its exit code; a refusal is one line."""
    return exit_code(lambda: _run(parser.parse_args(words)))


def _run(arguments: Namespace) -> int:
    return refusing(lambda: arguments.run(arguments))


def refusing(command: Callable[[], int]) -> int:
    """Run *command* and return its exit code; what it cannot do is one line, and code 2."""
    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    from cms.persistence.admin import AdminError
    from cms.settings import SettingRefused
    from hsm.errors import HsmError
    from hsm.setting_faults import faults, with_page

    try:
        return command()
    except BrokenPipeError:
        raise
    except (ValidationError, SettingsError) as error:
        complain(faults(error, "CMS_"))
    except OSError as error:
        complain(": ".join(str(part) for part in (error.filename, error.strerror) if part))
    except UnicodeDecodeError:
        complain("the file is not text")
    except UnicodeEncodeError:
        complain("an argument is not text")
    except EOFError:
        complain("nothing was typed")
    except KeyboardInterrupt:
        complain("interrupted")
    except (Refused, SettingRefused, AdminError, HsmError) as error:
        complain(with_page(str(error)) or str(type(error).__doc__))
    return REFUSED


def complain(text: str) -> None:
    """Print one line on standard error."""
    print(text, file=sys.stderr)


@contextmanager
def open_database() -> Iterator[Database]:
    """Open a transaction on the database that the settings name; commit it at the end.

    Raises:
        AdminError: the database is unavailable, or has no tables.
        ValidationError: the settings do not name one.
    """
    from cms.persistence import admin
    from cms.settings import DatabaseSettings

    settings = DatabaseSettings()
    with admin.transaction(settings.checked_database_url(), settings.database_tls) as database:
        yield database


def card_of(arguments: Namespace) -> CardRef:
    """Read the positionals ``issuer`` and ``card``.

    Raises:
        Refused: no card can have such a name.
    """
    from hsm.port import CardRef

    try:
        return CardRef(arguments.issuer, arguments.card)
    except ValueError:
        raise Refused("no such card") from None


def moment(text: str | None) -> datetime | None:
    """Read an option that is a time, ISO 8601 with a zone.

    Raises:
        Refused: it is no such time.
    """
    if text is None:
        return None
    with suppress(ValueError):
        found = datetime.fromisoformat(text)
        if found.tzinfo is not None:
            return found
    raise Refused("a time is written as 2026-01-31T12:00:00+01:00")


def print_rows(rows: Iterable[Mapping[str, Any]], *, as_json: bool) -> None:
    """Print rows, in columns, a line each, or as a JSON array; without sealed values."""
    if not as_json and printing.is_for_people():
        printing.print_table(dict(_visible(row)) for row in rows)
        return
    if not as_json:
        for row in rows:
            print("  ".join(f"{name}={printing.shown(value)}" for name, value in _visible(row)))
        return
    separator = "["
    for row in rows:
        members = {name: _for_json(value) for name, value in _visible(row)}
        print(separator, json.dumps(members, ensure_ascii=False), sep="\n", end="")
        separator = ","
    print("[]" if separator == "[" else "\n]")


def print_row(row: Mapping[str, Any], *, as_json: bool) -> None:
    """Print one row, a line for each column, or as a JSON array of one object."""
    if as_json:
        print_rows([row], as_json=True)
        return
    printing.print_columns(dict(_visible(row)))


def _list_rows(arguments: Namespace) -> int:
    """Print the rows of a table."""
    from cms.persistence import admin, tables

    table = tables.metadata.tables[arguments.table]
    with open_database() as database:
        rows = admin.rows(database, table, getattr(arguments, "issuer", None))
        print_rows(rows, as_json=arguments.json)
    return OK


def _show_row(arguments: Namespace) -> int:
    """Print one row of a table."""
    from cms.persistence import admin, tables

    table = tables.metadata.tables[arguments.table]
    key = {column: getattr(arguments, name) for column, name in arguments.key.items()}
    with open_database() as database:
        row = admin.row(database, table, **key)
    print_row(row, as_json=arguments.json)
    return OK


def _visible(row: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in row.items():
        if not name.startswith("sealed_"):
            yield name, value


def _for_json(value: object) -> object:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return value

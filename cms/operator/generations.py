"""``python -m cms generations``: the table of key generations, given to the vault of this host."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cms.operator import command_line
from hsm import printing
from hsm.command_line import OK

if TYPE_CHECKING:
    from hsm.manifest.generation_table import GenerationTable, State
    from hsm.port import KeyGenerations


def add_to(commands: command_line.Commands) -> None:
    """Add the noun and its commands to the program."""
    noun = command_line.add_noun(commands, "generations", "what each key may be used for")
    text = "give this host a signed table; refused while a row needs a key that it retires"
    load = command_line.add_command(noun, "load", load_table, text)
    load.add_argument("file", type=Path, help="a signed table, or -")
    printing.add_json(load)
    text = "list the keys of this host: their state, kid, and JWEs that they opened"
    command_line.add_json(command_line.add_command(noun, "show", show_keys, text))


def load_table(arguments: Namespace) -> int:
    """Have the vault of this host take a table, when no stored value needs what it retires.

    A key that is compromised waits for no database: where a table takes no other key away, it is
    loaded first.

    Raises:
        Refused: a stored value needs a key that it takes away.
    """
    from cms.operator.vault import open_vault
    from hsm.errors import ManifestRefused
    from hsm.manifest import generation_table, signed
    from hsm.messages import LoadGenerations, ReadGenerations
    from hsm.port import KeyGenerations

    text = sys.stdin.read() if str(arguments.file) == "-" else arguments.file.read_text("utf-8-sig")
    table = generation_table.parse(signed.parse(text).payload)
    with open_vault() as vault:
        try:
            before = vault.call(ReadGenerations())
        except ManifestRefused:
            # A new host that must take a table before it serves.
            before = KeyGenerations(0, ())
        retires = _retires(table, before)
        if retires:
            _require_unneeded(table, before, _counted())
        version = vault.call(LoadGenerations(text))
    if arguments.json:
        printing.print_json({"version": version})
    else:
        print(f"version {version} is in force on this host", flush=True)
    if not retires:
        _tell_of_lost(table, before)
    return OK


def show_keys(arguments: Namespace) -> int:
    """Print the keys of this host, a line each."""
    from dataclasses import asdict

    from cms.operator.vault import open_vault
    from hsm.messages import ReadGenerations

    with open_vault() as vault:
        found = vault.call(ReadGenerations())
    if not arguments.json:
        print(f"table: version {found.version}" if found.version else "table: none")
    rows = [
        {name: None if value == "" else value for name, value in asdict(key).items()}
        for key in found.keys
    ]
    command_line.print_rows(rows, as_json=arguments.json)
    return OK


def _counted() -> Mapping[str, int]:
    from cms.persistence.key_labels import rows_by_generation

    with command_line.open_database() as database:
        return rows_by_generation(database)


def _tell_of_lost(table: GenerationTable, before: KeyGenerations) -> None:
    """Tell of the stored values that open under no key, if the database can be asked."""
    from pydantic import ValidationError

    from cms.persistence.admin import AdminError
    from cms.settings import SettingRefused

    try:
        rows = _counted()
    except (AdminError, SettingRefused, ValidationError) as error:
        why = "no database is named" if isinstance(error, ValidationError) else str(error)
        print(f"not counted is what opens under no key now: {why}", file=sys.stderr)
    else:
        _require_unneeded(table, before, rows)


def _retires(table: GenerationTable, before: KeyGenerations) -> bool:
    """Tell whether it takes a key away that a stored value could need, and be asked about."""
    states = {str(label): state for label, state in table.states.items()}
    return any(_may_be_needed(key.state, states.get(key.label)) for key in before.keys)


def _may_be_needed(old: str | None, state: State | None) -> bool:
    from hsm.manifest.generation_table import OPENING, State

    opens = old in OPENING and state not in {*OPENING, State.COMPROMISED}
    # What is retired can come back; what is destroyed cannot.
    return opens or (old == State.RETIRED and state is State.DESTROYED)


def _require_unneeded(
    table: GenerationTable, before: KeyGenerations, rows: Mapping[str, int]
) -> None:
    """Let a table pass that takes no key away that a stored value needs.

    What opens under no key today stops no table: whoever writes rows could name any key, and so
    keep one that is compromised. It is told of.

    Raises:
        Refused: it takes one; names each, and how many values need it.
    """
    from hsm.manifest.generation_table import OPENING

    states = {str(label): state for label, state in table.states.items()}
    now = {key.label: key.state for key in before.keys}
    needed: list[str] = []
    lost: list[str] = []
    for text, count in rows.items():
        state, old = states.get(text), now.get(text)
        if state in OPENING:
            continue
        (needed if _may_be_needed(old, state) else lost).append(f"{text} ({count})")
    if lost:
        print("stored values that open under no key: " + ", ".join(lost), file=sys.stderr)
    if needed:
        raise command_line.Refused(
            "stored values need keys that would open nothing: "
            + ", ".join(needed)
            + "; run python -m cms reseal before, see docs/reseal.md"
        )

"""``python -m cms config``: sealed vault configuration is stored and shown."""

import sys
from argparse import Namespace
from pathlib import Path

from cms.operator import command_line
from hsm.command_line import OK


def add_to(commands: command_line.Commands) -> None:
    """Add the noun and its commands to the program."""
    config = command_line.add_noun(commands, "config", "sealed vault configuration")
    load = command_line.add_command(config, "load", load_config, "store a sealed configuration")
    load.add_argument("file", type=Path, help="what config seal printed, or -")
    command_line.add_list(config, "vault_config", "issuer")
    key = {"issuer_id": "issuer", "kind": "kind", "version": "version"}
    command_line.add_show(config, "vault_config", key)


def load_config(arguments: Namespace) -> int:
    """Store what ``python -m hsm config seal`` printed; its seal is the vault's to check."""
    from hsm.manifest.json_file import from_json
    from hsm.manifest.kinds import parse_body

    from cms.persistence import admin

    given = str(arguments.file)
    text = sys.stdin.read() if given == "-" else arguments.file.read_text("utf-8")
    config = from_json(text)
    if not config.cmac:
        raise command_line.Refused("not sealed: use python -m hsm config seal first")
    parse_body(config.kind, config.body)
    with command_line.open_database() as database:
        admin.load_config(database, config)
    return OK

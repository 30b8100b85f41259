"""``python -m cms config``: sealed vault configuration is stored and shown."""

import sys
from argparse import Namespace
from pathlib import Path

from cms.operator.command_line import (
    OK,
    Commands,
    Refused,
    add_command,
    add_list,
    add_noun,
    add_show,
    open_database,
)


def add_to(commands: Commands) -> None:
    """Add the noun and its commands to the program."""
    config = add_noun(commands, "config", "sealed vault configuration")
    load = add_command(config, "load", load_config, "store a sealed configuration")
    load.add_argument("file", type=Path, help="what config seal printed, or -")
    add_list(config, "vault_config", "issuer")
    key = {"issuer_id": "issuer", "kind": "kind", "version": "version"}
    add_show(config, "vault_config", key)


def load_config(arguments: Namespace) -> int:
    """Store what ``python -m hsm config seal`` printed; its seal is the vault's to check."""
    from hsm.manifest.json_file import from_json
    from hsm.manifest.kinds import parse_body

    from cms.persistence import admin

    given = str(arguments.file)
    text = sys.stdin.read() if given == "-" else arguments.file.read_text("utf-8")
    config = from_json(text)
    if not config.cmac:
        raise Refused("not sealed: use python -m hsm config seal first")
    parse_body(config.kind, config.body)
    with open_database() as database:
        admin.load_config(database, config)
    return OK

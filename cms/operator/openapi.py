"""``python -m cms openapi``: what a face offers."""

from __future__ import annotations

import json
from argparse import Namespace

from cms.faces import NAMES
from cms.operator import command_line
from hsm.command_line import OK


def add_to(commands: command_line.Commands) -> None:
    """Add the command to the program."""
    text = "print what a face offers, as an OpenAPI 3.1 document"
    openapi = command_line.add_command(commands, "openapi", print_document, text)
    openapi.add_argument("face", choices=NAMES, help="which face")


def print_document(arguments: Namespace) -> int:
    """Print the document as JSON."""
    from cms.interfaces import documents

    print(json.dumps(documents()[arguments.face], indent=2, ensure_ascii=False))
    return OK

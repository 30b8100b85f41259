"""``python -m cms scripts``: PINs on their way to the chip; for the authorisation host."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from typing import Final

from cms.operator import command_line
from hsm.command_line import OK

CALLS: Final = {
    "build": "print the command that sets the PIN of a change, for one transaction",
    "delivered": "note that the command was sent to the terminal",
    "confirmed": "note that the card took the PIN",
    "reverse": "put back the PIN from before a change, as a new change",
}


def add_to(commands: command_line.Commands) -> None:
    """Add the noun and its commands to the program."""
    scripts = command_line.add_noun(commands, "scripts", "PINs on their way to the chip")
    for name, text in CALLS.items():
        call = command_line.add_command(scripts, name, one_call, text, "issuer", "card")
        call.set_defaults(call=name, atc=None, arqc=None)
        call.add_argument("counter", type=int, help="of the PIN change")
        if name == "build":
            call.add_argument("--atc", required=True, metavar="HEX", help="tag 9F36")
            call.add_argument("--arqc", required=True, metavar="HEX", help="tag 9F26")
    command_line.add_command(
        scripts, "calls", many_calls, "answer calls on standard input, a JSON object a line"
    )
    text = "list what has not reached its chip"
    status = command_line.add_command(scripts, "status", show_open, text, "issuer")
    status.add_argument("--card", metavar="ID", help="of this card only")
    command_line.add_json(status)


def one_call(arguments: Namespace) -> int:
    """Answer one call."""
    from cms.operator import script_calls
    from cms.operator.vault import open_vault

    call = script_calls.read_call(
        {
            "call": arguments.call,
            "issuerId": arguments.issuer,
            "cardId": arguments.card,
            "counter": arguments.counter,
            "atc": arguments.atc,
            "arqc": arguments.arqc,
        }
    )
    with open_vault() as vault, command_line.open_database() as database:
        print(json.dumps(script_calls.answer(database, vault, call)))
    return OK


def many_calls(_: Namespace) -> int:
    """Answer calls until there are no more; what is refused is answered with ``error``."""
    from cms.operator import script_calls
    from cms.operator.vault import open_vault
    from cms.persistence.admin import AdminError, DatabaseUnavailable
    from hsm.errors import HsmError, KeyMissing, KeyNotInUse, KeyUsedUp, VaultUnavailable

    with open_vault() as vault, command_line.open_database() as database:
        for line in sys.stdin:
            try:
                answer = script_calls.answer(database, vault, script_calls.parse_call(line))
            except (command_line.Refused, AdminError, HsmError) as error:
                is_away = isinstance(error, VaultUnavailable | DatabaseUnavailable)
                # A key that is missing, not in use or used up is one card's or issuer's: the others
                # are served.
                if is_away and not isinstance(error, KeyMissing | KeyNotInUse | KeyUsedUp):
                    raise
                database.rollback()
                answer = {"error": str(error) or str(type(error).__doc__)}
            print(json.dumps(answer), flush=True)
    return OK


def show_open(arguments: Namespace) -> int:
    """Print the scripts that are open."""
    from cms.persistence import card_scripts

    with command_line.open_database() as database:
        rows = card_scripts.open_scripts(database, arguments.issuer, arguments.card)
        command_line.print_rows(rows, as_json=arguments.json)
    return OK

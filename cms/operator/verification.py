"""``python -m cms verification``: verification values, for the authorisation host."""

from __future__ import annotations

from argparse import Namespace

from cms.operator import command_line
from hsm.command_line import OK, REFUSED


def add_to(commands: command_line.Commands) -> None:
    """Add the noun and its command to the program."""
    verification = command_line.add_noun(commands, "verification", "verification values of PINs")
    text = "print verification values for the authorisation host"
    export = command_line.add_command(verification, "export", export_values, text, "issuer")
    export.add_argument(
        "--since",
        metavar="ISO8601",
        help="only cards whose PIN changed then or later; let exports overlap by some seconds",
    )


def export_values(arguments: Namespace) -> int:
    """Print verification values, enciphered to the authorisation host: a JSON line a card.

    A card whose values cannot be handed out is named, and the others are printed.
    """
    from cms.operator.value_export import export
    from cms.operator.vault import open_vault
    from cms.persistence import admin, tables

    since = command_line.moment(arguments.since)
    code = OK
    with open_vault() as vault, command_line.open_database() as database:
        admin.row(database, tables.issuers, issuer_id=arguments.issuer)
        for result in export(database, vault, arguments.issuer, since):
            if result.line is None:
                code = REFUSED
                command_line.complain(f"card {result.card_id}: {result.refused}")
            else:
                print(result.line)
    return code

"""``python -m cms issuers``: add an issuer, show it, suspend it and bring it back."""

from argparse import Namespace

from cms.operator import command_line
from hsm.command_line import OK


def add_to(commands: command_line.Commands) -> None:
    """Add the noun and its commands to the program."""
    issuers = command_line.add_noun(commands, "issuers", "issuers of this service")
    add = command_line.add_command(issuers, "add", add_issuer, "add an issuer", "issuer")
    add.add_argument("--name", required=True, help="what people call it")
    command_line.add_list(issuers, "issuers")
    command_line.add_show(issuers, "issuers", {"issuer_id": "issuer"})
    moves = (
        ("suspend", "suspended", "refuse all calls for an issuer"),
        ("resume", "active", "serve a suspended issuer again"),
    )
    for name, state, text in moves:
        move = command_line.add_command(issuers, name, set_state, text, "issuer")
        move.set_defaults(state=state)


def add_issuer(arguments: Namespace) -> int:
    """Add an issuer; its id has exactly 10 characters."""
    from cms.persistence import admin
    from hsm.manifest.clients import CLIENT_ID_PATTERN
    from hsm.port import ISSUER_ID_CHARS

    if len(arguments.issuer) != ISSUER_ID_CHARS:
        raise command_line.Refused("an issuer id has exactly 10 characters")
    if not CLIENT_ID_PATTERN.fullmatch(arguments.issuer):
        # It stands in paths, and every client id starts with it.
        raise command_line.Refused("an issuer id is letters, digits, '-', '_' and '.'")
    with command_line.open_database() as database:
        admin.add_issuer(database, arguments.issuer, arguments.name)
    return OK


def set_state(arguments: Namespace) -> int:
    """Suspend an issuer or bring it back."""
    from cms.persistence import admin

    with command_line.open_database() as database:
        admin.set_issuer_state(database, arguments.issuer, arguments.state)
    return OK

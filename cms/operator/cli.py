"""The words of the operator's command line, and how its refusals are shown.

Exit code 0 is success, 2 a refusal with one line on standard error.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from cms.domain.cards import CardState
from cms.domain.control import CardType
from cms.operator import clients, commands
from cms.operator.card_import import RowRefused
from cms.persistence.admin import AdminError
from hsm.errors import HsmError

REFUSED: Final = 2
Group = Any
"""What ``add_subparsers`` returns; argparse keeps the type to itself."""


def main(argv: Sequence[str]) -> int:
    """Run one operator's command and return its exit code."""
    parser, _ = operator_parser()
    return run(parser.parse_args(argv))


def run(arguments: argparse.Namespace) -> int:
    """Run the command that was parsed and return its exit code."""
    chosen: Callable[[argparse.Namespace], int] = arguments.command
    try:
        return chosen(arguments)
    except ValidationError as error:
        complain(f"settings that are missing or wrong: {_faults(error)}")
    except OSError as error:
        complain(": ".join(str(part) for part in (error.filename, error.strerror) if part))
    except UnicodeDecodeError:
        complain("the file is not text")
    except (EOFError, KeyboardInterrupt):
        complain("nothing was typed")
    except (AdminError, RowRefused, HsmError) as error:
        complain(str(error) or str(type(error).__doc__))
    return REFUSED


def operator_parser() -> tuple[argparse.ArgumentParser, Group]:
    """Build the parser, and the group to which further commands can be added."""
    parser = argparse.ArgumentParser(prog="python -m cms", description="The issuer PIN service.")
    top = parser.add_subparsers(required=True, metavar="COMMAND")
    _issuers(_group(top, "issuers", "issuers of this service"))
    _cards(_group(top, "cards", "cards of an issuer"))
    _clients(_group(top, "clients", "clients of an issuer"))
    _config(_group(top, "config", "sealed vault configuration"))
    _verification(_group(top, "verification", "verification values of PINs"))
    _list(_group(top, "audit", "what happened"), "audit_events", of_issuer=True)
    return parser, top


def complain(text: str) -> None:
    """Print one line on standard error."""
    print(text, file=sys.stderr)


def _faults(error: ValidationError) -> str:
    return ", ".join(
        "CMS_" + str(item["loc"][0]).upper() if item["loc"] else item["msg"]
        for item in error.errors()
    )


def _issuers(group: Group) -> None:
    add = command(group, "add", commands.issuers_add, "add an issuer")
    _arguments(add, "issuer")
    add.add_argument("--name", required=True)
    _list(group, "issuers", of_issuer=False)
    _show(group, "issuers", {"issuer_id": "issuer"})
    for name, state in (("suspend", "suspended"), ("resume", "active")):
        parser = command(group, name, commands.issuers_state, f"make it {state}")
        _arguments(parser, "issuer").set_defaults(state=state)


def _cards(group: Group) -> None:
    add = command(group, "add", commands.cards_add, "add a card; the PAN is asked for")
    _arguments(add, "issuer", "card")
    add.add_argument("--expiry", required=True, metavar="MMYY")
    add.add_argument("--psn", type=int, default=0)
    add.add_argument("--state", default="inactive", choices=["inactive", "active"])
    add.add_argument("--cardholder", metavar="SUBJECT", help="as the identity provider names it")
    add.add_argument("--type", default=CardType.PHYSICAL.value, choices=list(CardType))
    add.add_argument("--plastic-id", metavar="NUMBER", help="its name at the pincontrol face")
    add.add_argument(
        "--personalised",
        action=argparse.BooleanOptionalAction,
        help="whether it is; unless said, a card that is not inactive is",
    )
    add.add_argument("--pan-jwe", type=Path, metavar="FILE", help="the PAN as a JWE")
    bulk = command(group, "import", commands.cards_import, "add cards from JSON lines")
    _arguments(bulk, "issuer").add_argument("file", type=Path)
    _list(group, "cards", of_issuer=True)
    _show(group, "cards", {"issuer_id": "issuer", "card_id": "card"})
    move = command(group, "state", commands.cards_state, "move a card to another state")
    _arguments(move, "issuer", "card").add_argument("state", choices=list(CardState))
    personalised = command(
        group, "personalised", commands.cards_personalised, "note that it is produced"
    )
    _arguments(personalised, "issuer", "card")
    unblock = command(group, "unblock", commands.cards_unblock, "forget failed SECCOS PINs")
    _arguments(unblock, "issuer", "card")


def _clients(group: Group) -> None:
    add = command(group, "add", clients.add, "register a client")
    _arguments(add, "issuer", "client")
    add.add_argument("--subject", action="append", default=[], help="RFC 4514, dns:… or uri:…")
    add.add_argument("--certificate", action="append", default=[], type=Path, metavar="PEM")
    add.add_argument("--secret-file", type=Path, help="made new; without it, no OAuth")
    app = command(group, "add-app", clients.add_app, "register an app, by a public key")
    _arguments(app, "issuer", "client_key")
    for name, text in (("redirect", "where pages may lead"), ("embed", "who may frame them")):
        app.add_argument(f"--{name}-origin", action="append", default=[], help=text)
    app.add_argument("--failure-image-status", type=int, choices=[410, 200], default=410)
    app.add_argument("--sandbox", action="store_true", help="allow http://localhost:PORT")
    backend = command(
        group,
        "add-backend",
        clients.add_backend,
        "register a server for pincontrol",
    )
    _arguments(backend, "issuer", "user")
    backend.add_argument("--password-file", type=Path, required=True, help="made new")
    backend.add_argument(
        "--frame-origin", action="append", default=[], help="who may frame its pages"
    )
    backend.add_argument("--frame-key", metavar="KEY", help="the key of its frames; else made here")
    backend.add_argument("--no-button", action="store_true", help="its app has a button of its own")
    backend.add_argument(
        "--hide-seconds", type=int, default=30, choices=range(5, 121), metavar="5..120"
    )
    backend.add_argument("--style", type=Path, metavar="FILE", help="JSON, of the view page")
    backend.add_argument("--sandbox", action="store_true", help="allow http://localhost:PORT")
    _list(group, "clients", of_issuer=True)
    _show(group, "clients", {"issuer_id": "issuer", "client_id": "client"})
    for name, state in (("disable", "disabled"), ("enable", "active")):
        parser = command(group, name, clients.set_state, f"make it {state}")
        _arguments(parser, "issuer", "client").set_defaults(state=state)


def _config(group: Group) -> None:
    load = command(group, "load", commands.config_load, "store a sealed configuration")
    load.add_argument("file", type=Path, help="what config seal printed, or -")
    _list(group, "vault_config", of_issuer=True)
    _show(
        group,
        "vault_config",
        {"issuer_id": "issuer", "kind": "kind", "version": "version"},
    )


def _verification(group: Group) -> None:
    export = command(
        group, "export", commands.verification_export, "print them for the authorisation host"
    )
    _arguments(export, "issuer").add_argument(
        "--since",
        metavar="ISO8601",
        help="only cards whose PIN changed then or later; let exports overlap by some seconds",
    )


def _group(top: Group, name: str, text: str) -> Group:
    parser = top.add_parser(name, help=text)
    return parser.add_subparsers(required=True, metavar="COMMAND")


def command(
    group: Group, name: str, does: Callable[[argparse.Namespace], int], text: str
) -> argparse.ArgumentParser:
    """Add a command to *group* and return its parser."""
    parser: argparse.ArgumentParser = group.add_parser(name, help=text)
    parser.set_defaults(command=does)
    return parser


def _arguments(parser: argparse.ArgumentParser, *names: str) -> argparse.ArgumentParser:
    for name in names:
        parser.add_argument(name)
    return parser


def _list(group: Group, table: str, *, of_issuer: bool) -> None:
    parser = command(group, "list", commands.list_table, "list them")
    parser.set_defaults(table=table)
    if of_issuer:
        _arguments(parser, "issuer")


def _show(group: Group, table: str, key: dict[str, str]) -> None:
    parser = command(group, "show", commands.show_row, "show one")
    for argument in key.values():
        parser.add_argument(argument, type=int if argument == "version" else str)
    parser.set_defaults(table=table, key=key)

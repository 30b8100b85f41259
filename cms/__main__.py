"""The service's command line: ``python -m cms serve|demo|issuers|cards|clients|config|audit|d1``.

Settings come from the environment; with no ``CMS_`` variable set, from ``var/demo.env``, which the
demo writes. Exit code 0 is success, 1 a service that could not run, 2 a refusal.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Table
from sqlalchemy.exc import OperationalError

from cms import commands
from cms.domain.cards import CardState
from cms.persistence import tables
from cms.persistence.admin import AdminError
from cms.services.card_import import RowRefused
from hsm import demo_env
from hsm.errors import HsmError

OK, FAILED, REFUSED = 0, 1, 2
Subparsers = Any  # argparse keeps the type to itself


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = _parser().parse_args(argv)
    demo_env.load("CMS_")
    command: Callable[[argparse.Namespace], int] = arguments.command
    try:
        return command(arguments)
    except ValidationError as error:
        print(f"settings: {_faults(error)}; set them, or run the demo first", file=sys.stderr)
    except OperationalError:
        print("the database is away", file=sys.stderr)
    except OSError as error:
        print(error.strerror, file=sys.stderr)
    except (AdminError, RowRefused, HsmError) as error:
        print(str(error) or type(error).__doc__, file=sys.stderr)
    return REFUSED


def _serve(_: argparse.Namespace) -> int:
    from cms import serve  # noqa: PLC0415 - the other commands start faster without it
    from cms.settings import Settings  # noqa: PLC0415

    return serve.run(Settings())


def _demo(arguments: argparse.Namespace) -> int:
    from cms.sandbox import demo  # noqa: PLC0415

    return demo.run(once=arguments.once)


def _d1(arguments: argparse.Namespace) -> int:
    from cms.sandbox import d1_client  # noqa: PLC0415

    return d1_client.main(arguments.rest)


def _faults(error: ValidationError) -> str:
    return ", ".join(
        "CMS_" + str(item["loc"][0]).upper() if item["loc"] else item["msg"]
        for item in error.errors()
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m cms", description="The issuer PIN service.")
    top = parser.add_subparsers(required=True, metavar="COMMAND")
    _command(top, "serve", _serve, "run the service")
    _command(top, "demo", _demo, "run the demo").add_argument("--once", action="store_true")
    d1 = _command(top, "d1", _d1, "play Thales D1's side against the demo")
    d1.add_argument("rest", nargs=argparse.REMAINDER, metavar="activate|set-pin|get-pin|counter …")
    _issuers(_group(top, "issuers", "issuers of this service"))
    _cards(_group(top, "cards", "cards of an issuer"))
    _clients(_group(top, "clients", "clients of an issuer"))
    _config(_group(top, "config", "sealed vault configuration"))
    _list(_group(top, "audit", "what happened"), tables.audit_events, of_issuer=True)
    return parser


def _issuers(group: Subparsers) -> None:
    add = _command(group, "add", commands.issuers_add, "add an issuer")
    _arguments(add, "issuer")
    add.add_argument("--name", required=True)
    _list(group, tables.issuers, of_issuer=False)
    _show(group, tables.issuers, {"issuer_id": "issuer"})
    for name, state in (("suspend", "suspended"), ("resume", "active")):
        command = _command(group, name, commands.issuers_state, f"make it {state}")
        _arguments(command, "issuer").set_defaults(state=state)


def _cards(group: Subparsers) -> None:
    add = _command(group, "add", commands.cards_add, "add a card; the PAN is asked for")
    _arguments(add, "issuer", "card")
    add.add_argument("--expiry", required=True, metavar="MMYY")
    add.add_argument("--sequence-number", type=int, default=0)
    add.add_argument("--state", default="inactive", choices=["inactive", "active"])
    add.add_argument("--pan-jwe", type=Path, metavar="FILE", help="the PAN as a JWE")
    bulk = _command(group, "import", commands.cards_import, "add cards from JSON lines")
    _arguments(bulk, "issuer").add_argument("file", type=Path)
    _list(group, tables.cards, of_issuer=True)
    _show(group, tables.cards, {"issuer_id": "issuer", "card_id": "card"})
    move = _command(group, "state", commands.cards_state, "move a card to another state")
    _arguments(move, "issuer", "card").add_argument("state", choices=list(CardState))


def _clients(group: Subparsers) -> None:
    add = _command(group, "add", commands.clients_add, "register a client")
    _arguments(add, "issuer", "client")
    add.add_argument("--subject", action="append", default=[], help="RFC 4514, dns:… or uri:…")
    add.add_argument("--certificate", action="append", default=[], type=Path, metavar="PEM")
    add.add_argument("--secret-file", type=Path, help="made new; without it, no OAuth")
    _list(group, tables.clients, of_issuer=True)
    _show(group, tables.clients, {"issuer_id": "issuer", "client_id": "client"})
    for name, state in (("disable", "disabled"), ("enable", "active")):
        command = _command(group, name, commands.clients_state, f"make it {state}")
        _arguments(command, "issuer", "client").set_defaults(state=state)


def _config(group: Subparsers) -> None:
    load = _command(group, "load", commands.config_load, "store a sealed configuration")
    load.add_argument("file", type=Path, help="what config seal printed, or -")
    load.set_defaults(command=commands.config_load)
    _list(group, tables.vault_config, of_issuer=True)
    _show(
        group,
        tables.vault_config,
        {"issuer_id": "issuer", "kind": "kind", "version": "version"},
    )


def _group(top: Subparsers, name: str, text: str) -> Subparsers:
    parser = top.add_parser(name, help=text)
    return parser.add_subparsers(required=True, metavar="COMMAND")


def _command(
    group: Subparsers, name: str, command: Callable[[argparse.Namespace], int], text: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = group.add_parser(name, help=text)
    parser.set_defaults(command=command)
    return parser


def _arguments(parser: argparse.ArgumentParser, *names: str) -> argparse.ArgumentParser:
    for name in names:
        parser.add_argument(name)
    return parser


def _list(group: Subparsers, table: Table, *, of_issuer: bool) -> None:
    parser = _command(group, "list", commands.list_table, "list them")
    parser.set_defaults(table=table)
    if of_issuer:
        _arguments(parser, "issuer")


def _show(group: Subparsers, table: Table, key: dict[str, str]) -> None:
    parser = _command(group, "show", commands.show_row, "show one")
    _arguments(parser, *key.values()).set_defaults(table=table, key=key)


if __name__ == "__main__":
    sys.exit(main())

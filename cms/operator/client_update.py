"""``python -m cms clients update``: change what a client is registered with, or its secret."""

from argparse import ArgumentParser, ArgumentTypeError, BooleanOptionalAction, Namespace
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from cms.faces.cardholder.page.messages import LANGUAGES
from cms.operator import client_values
from cms.operator.command_line import Refused, open_database
from hsm.command_line import OK

#: What can be changed, and how the clients prove who they are of which it can.
OPTIONS: Final[Mapping[str, frozenset[str]]] = {
    "subject": frozenset({"oauth", "certificate"}),
    "certificate": frozenset({"oauth", "certificate"}),
    "redirect_origin": frozenset({"public"}),
    "embed_origin": frozenset({"public"}),
    "failure_image_status": frozenset({"public"}),
    "frame_origin": frozenset({"basic"}),
    "frame_key": frozenset({"basic"}),
    "button": frozenset({"basic"}),
    "hide_seconds": frozenset({"basic"}),
    "style": frozenset({"basic"}),
    "language": frozenset({"public", "basic"}),
    "new_secret_file": frozenset({"oauth", "basic"}),
}
OLD_SECRET_MINUTES: Final = 60
OLD_SECRET_MINUTES_MAX: Final = 30 * 24 * 60


def add_arguments(update: ArgumentParser) -> None:
    """Add what ``clients update`` takes. Nothing that is not given changes."""
    _add_names(update, "with --certificate, in place of all until now")
    for name, text in (
        ("redirect", "an app's: where its pages may lead"),
        ("embed", "an app's: who may frame its pages"),
        ("frame", "a server's: who may frame its pages"),
    ):
        update.add_argument(
            f"--{name}-origin",
            action="append",
            metavar="ORIGIN",
            help=f"{text}; in place of all until now; empty: none",
        )
    update.add_argument(
        "--failure-image-status",
        type=int,
        choices=[410, 200],
        help="an app's: the status of an image that shows no PIN",
    )
    update.add_argument("--frame-key", metavar="KEY", help="a server's: the key of its frames")
    update.add_argument(
        "--button", action=BooleanOptionalAction, help="a server's: whether its page has a button"
    )
    update.add_argument(
        "--hide-seconds",
        type=int,
        choices=range(5, 121),
        metavar="5..120",
        help="a server's: how long a PIN is shown",
    )
    update.add_argument(
        "--style", type=Path, metavar="FILE", help="a server's: JSON, of its view page"
    )
    update.add_argument(
        "--language", choices=(*LANGUAGES, ""), help="of its pages; empty: as the browser asks"
    )
    update.add_argument(
        "--sandbox", action="store_true", help="allow http://localhost:PORT as an origin"
    )
    update.add_argument(
        "--new-secret-file", type=Path, metavar="FILE", help="make a new secret, or password, in it"
    )
    update.add_argument(
        "--old-secret-valid-minutes",
        type=_minutes,
        metavar="N",
        help=f"how long the old one is valid beside it; {OLD_SECRET_MINUTES} unless said",
    )


def _add_names(update: ArgumentParser, text: str) -> None:
    update.add_argument(
        "--subject",
        action="append",
        metavar="NAME",
        help=f"RFC 4514, dns:…, uri:… or sha256:…; {text}",
    )
    update.add_argument(
        "--certificate", action="append", type=Path, metavar="PEM", help="a certificate"
    )


def update_client(arguments: Namespace) -> int:
    """Change a client; print the key of a server's frames when one is made."""
    from cms.persistence import admin, tables

    issuer_id, client_id = arguments.issuer, arguments.client
    with ExitStack() as undo, open_database() as database:
        key = {"issuer_id": issuer_id, "client_id": client_id}
        client = admin.locked_row(database, tables.clients, **key)
        _require_for(client["auth"], arguments)
        columns = _columns(arguments, client)
        if columns:
            admin.update_client(database, issuer_id, client_id, **columns)
        if arguments.new_secret_file is not None:
            secret_hash = client_values.new_secret(arguments.new_secret_file, undo)
            minutes = arguments.old_secret_valid_minutes
            stays = timedelta(minutes=OLD_SECRET_MINUTES if minutes is None else minutes)
            admin.replace_secret(database, issuer_id, client_id, secret_hash, stays)
        database.commit()
        undo.pop_all()
    if "frame_key" in columns and arguments.frame_key is None:
        print(columns["frame_key"])
    return OK


def _require_for(auth: str, arguments: Namespace) -> None:
    given = [option for option in OPTIONS if getattr(arguments, option) is not None]
    if not given:
        raise Refused("nothing to change: see --help")
    if arguments.old_secret_valid_minutes is not None and arguments.new_secret_file is None:
        raise Refused("--old-secret-valid-minutes goes with --new-secret-file")
    for option in given:
        if auth not in OPTIONS[option]:
            raise Refused(f"--{option.replace('_', '-')} is not for a client of this kind")


def _columns(arguments: Namespace, client: Mapping[str, Any]) -> dict[str, object]:
    columns: dict[str, object] = {}
    if arguments.subject is not None or arguments.certificate is not None:
        columns["certificate_subjects"] = client_values.certificate_names(
            arguments.subject or [], arguments.certificate or []
        )
    if arguments.redirect_origin is not None:
        columns["redirect_origins"] = client_values.redirect_origins(
            arguments.redirect_origin, sandbox=arguments.sandbox
        )
    framing = arguments.embed_origin if client["auth"] == "public" else arguments.frame_origin
    if framing is not None:
        columns["embed_origins"] = client_values.web_origins(framing, sandbox=arguments.sandbox)
    if arguments.frame_key is not None or (arguments.frame_origin and client["frame_key"] is None):
        origins: Sequence[str] = columns.get("embed_origins", client["embed_origins"])  # type: ignore[assignment] # as stored
        made = client_values.frame_key(client["issuer_id"], arguments.frame_key, origins)
        if made is not None:
            columns["frame_key"] = made
    for option, column in (
        ("failure_image_status", "failure_image_status"),
        ("button", "show_button"),
        ("hide_seconds", "hide_seconds"),
    ):
        if getattr(arguments, option) is not None:
            columns[column] = getattr(arguments, option)
    if arguments.style is not None:
        columns["view_style"] = client_values.view_style(arguments.style)
    if arguments.language is not None:
        columns["language"] = arguments.language or None
    return columns


def _minutes(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > OLD_SECRET_MINUTES_MAX:
        raise ArgumentTypeError(f"a number from 0 to {OLD_SECRET_MINUTES_MAX}")
    return int(text)

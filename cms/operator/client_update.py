"""``python -m cms clients update``: change what a client is registered with, or its secret."""

from argparse import ArgumentParser, ArgumentTypeError, BooleanOptionalAction, Namespace
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from cms.faces.cardholder.page.messages import LANGUAGES
from cms.operator import client_values, drafts
from cms.operator.command_line import Refused
from hsm import printing
from hsm.command_line import OK

#: What can be changed, and the kinds of clients of which it can.
OPTIONS: Final[Mapping[str, frozenset[str]]] = {
    "subject": frozenset({"d1"}),
    "certificate": frozenset({"d1"}),
    "redirect_origin": frozenset({"app"}),
    "embed_origin": frozenset({"app"}),
    "failure_image_status": frozenset({"app"}),
    "frame_origin": frozenset({"server"}),
    "frame_key": frozenset({"server"}),
    "button": frozenset({"server"}),
    "hide_seconds": frozenset({"server"}),
    "style": frozenset({"server"}),
    "language": frozenset({"app", "server"}),
    "new_secret_file": frozenset({"d1", "server"}),
}
OLD_SECRET_MINUTES: Final = 7 * 24 * 60
"""Until the manifest is signed and every host has it, the new secret is not taken."""
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
        "--new-secret-file", type=Path, metavar="FILE", help="make a new secret, or password, in it"
    )
    update.add_argument(
        "--old-secret-valid-minutes",
        type=_minutes,
        metavar="N",
        help=f"from now, how long the old one is valid too; {OLD_SECRET_MINUTES} unless said",
    )
    printing.add_json(update)


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
    draft = drafts.read(arguments.draft)
    client = drafts.client_of(draft, arguments.client)
    _require_for(client, arguments)
    changed = client | _members(arguments, client, draft.issuer_id, sandbox=draft.sandbox)
    with ExitStack() as undo:
        if arguments.new_secret_file is not None:
            made = client_values.new_secret(arguments.new_secret_file, undo)
            minutes = arguments.old_secret_valid_minutes
            stays = timedelta(minutes=OLD_SECRET_MINUTES if minutes is None else minutes)
            changed["secrets"] = [made, *_old_secret(client["secrets"], stays)]
        drafts.replace(arguments.draft, draft, changed)
        undo.pop_all()
    key = changed.get("frame_key")
    made_here = key not in (client.get("frame_key"), arguments.frame_key)
    client_values.print_frame_key(key if made_here else None, as_json=arguments.json)
    return OK


def _require_for(client: drafts.Client, arguments: Namespace) -> None:
    given = [option for option in OPTIONS if getattr(arguments, option) is not None]
    if not given:
        raise Refused("nothing to change: see --help")
    if arguments.old_secret_valid_minutes is not None and arguments.new_secret_file is None:
        raise Refused("--old-secret-valid-minutes goes with --new-secret-file")
    for option in given:
        # Whom its certificate alone names asks for no access token.
        has_none = option == "new_secret_file" and not client.get("secrets")
        if client["kind"] not in OPTIONS[option] or has_none:
            raise Refused(f"--{option.replace('_', '-')} is not for a client of this kind")


def _members(
    arguments: Namespace, client: drafts.Client, issuer_id: str, *, sandbox: bool
) -> dict[str, Any]:
    members: dict[str, Any] = {}
    if arguments.subject is not None or arguments.certificate is not None:
        members["certificates"] = client_values.certificate_names(
            arguments.subject or [], arguments.certificate or []
        )
    if arguments.redirect_origin is not None:
        members["redirect_origins"] = client_values.redirect_origins(
            arguments.redirect_origin, sandbox=sandbox
        )
    if arguments.embed_origin is not None:
        members["embed_origins"] = client_values.web_origins(
            arguments.embed_origin, sandbox=sandbox
        )
    if arguments.frame_origin is not None or arguments.frame_key is not None:
        members |= _frames(arguments, client, issuer_id, sandbox=sandbox)
    for option, member in (
        ("failure_image_status", "failure_image_status"),
        ("button", "show_button"),
        ("hide_seconds", "hide_seconds"),
    ):
        if getattr(arguments, option) is not None:
            members[member] = getattr(arguments, option)
    if arguments.style is not None:
        members["view_style"] = client_values.view_style(arguments.style)
    if arguments.language is not None:
        members["language"] = arguments.language or None
    return members


def _frames(
    arguments: Namespace, client: drafts.Client, issuer_id: str, *, sandbox: bool
) -> dict[str, Any]:
    """Say who may frame a server's pages, and by which key; a key goes with the last origin."""
    origins = client["frame_origins"]
    if arguments.frame_origin is not None:
        origins = client_values.web_origins(arguments.frame_origin, sandbox=sandbox)
    kept = client["frame_key"] if origins else None
    key = arguments.frame_key or kept
    return {
        "frame_origins": origins,
        "frame_key": client_values.frame_key(issuer_id, key, origins),
    }


def _old_secret(secrets: list[drafts.Client], stays: timedelta) -> list[drafts.Client]:
    """Return the newest secret until now, for a while; one before it is valid no longer."""
    if stays <= timedelta(0):
        return []
    newest = secrets[0]
    ends = [(datetime.now(UTC) + stays).isoformat(timespec="seconds"), newest["valid_until"]]
    return [{**newest, "valid_until": min(filter(None, ends), key=datetime.fromisoformat)}]


def _minutes(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > OLD_SECRET_MINUTES_MAX:
        raise ArgumentTypeError(f"a number from 0 to {OLD_SECRET_MINUTES_MAX}")
    return int(text)

"""``python -m cms clients``: register a client in a draft, show it, change it, remove it.

Secrets are made here; a draft holds their hashes.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from cms.faces.cardholder.page.messages import LANGUAGES
from cms.operator import client_update, client_values, command_line, drafts
from hsm import printing
from hsm.command_line import OK


def add_to(commands: command_line.Commands) -> None:
    """Add the noun and its commands to the program."""
    text = "clients of an issuer, in a draft of its manifest"
    clients = command_line.add_noun(commands, "clients", text)
    add = partial(command_line.add_command, clients)
    _add_to_add(add("add", add_client, "register a client", "draft", "client"))
    _add_to_add_app(
        add("add-app", add_app, "register an app, by a public key", "draft", "client_key")
    )
    text = "register a server for pincontrol"
    _add_to_add_backend(add("add-backend", add_backend, text, "draft", "user"))
    text = "change what a client is registered with, or its secret"
    update = add("update", client_update.update_client, text, "draft", "client")
    client_update.add_arguments(update)
    add("remove", remove_client, "remove a client", "draft", "client")
    command_line.add_json(add("list", list_clients, "list the clients", "draft"))
    command_line.add_json(add("show", show_client, "show one of the clients", "draft", "client"))


def _add_to_add(add: ArgumentParser) -> None:
    add.add_argument(
        "--subject",
        action="append",
        default=[],
        metavar="NAME",
        help="its certificate's subject as RFC 4514, or dns:…, uri:… or sha256:…",
    )
    add.add_argument(
        "--certificate",
        action="append",
        default=[],
        type=Path,
        metavar="PEM",
        help="its certificate, for its subject, else its SAN, else its SHA-256",
    )
    text = "the secret is made new, into this file; without it, no OAuth"
    add.add_argument("--secret-file", type=Path, metavar="FILE", help=text)


def _add_to_add_app(add: ArgumentParser) -> None:
    for name, text in (("redirect", "where pages may lead"), ("embed", "who may frame them")):
        add.add_argument(
            f"--{name}-origin", action="append", default=[], metavar="ORIGIN", help=text
        )
    add.add_argument(
        "--failure-image-status",
        type=int,
        choices=[410, 200],
        default=410,
        help="the status of an image that shows no PIN; 410 unless said",
    )
    add.add_argument("--language", choices=LANGUAGES, help="of its pages")


def _add_to_add_backend(add: ArgumentParser) -> None:
    text = "the password is made new, into this file"
    add.add_argument("--password-file", type=Path, required=True, metavar="FILE", help=text)
    add.add_argument(
        "--frame-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="who may frame its pages",
    )
    add.add_argument("--frame-key", metavar="KEY", help="the key of its frames; else made here")
    add.add_argument("--no-button", action="store_true", help="its app has a button of its own")
    add.add_argument(
        "--hide-seconds",
        type=int,
        default=30,
        choices=range(5, 121),
        metavar="5..120",
        help="how long a PIN is shown; 30 unless said",
    )
    add.add_argument("--style", type=Path, metavar="FILE", help="JSON, of the view page")
    add.add_argument("--language", choices=LANGUAGES, help="of its pages")
    printing.add_json(add)


def add_client(arguments: Namespace) -> int:
    """Register a client; its secret is made here and written to a new file of mode 0600."""
    draft = drafts.read(arguments.draft)
    client_values.require_id(draft.issuer_id, arguments.client, "client id")
    names = client_values.certificate_names(arguments.subject, arguments.certificate)
    with ExitStack() as undo:
        secrets = []
        if arguments.secret_file is not None:
            secrets.append(client_values.new_secret(arguments.secret_file, undo))
        client = {
            "kind": "d1",
            "client_id": arguments.client,
            "certificates": names,
            "secrets": secrets,
        }
        drafts.add(arguments.draft, draft, client)
        undo.pop_all()
    return OK


def add_app(arguments: Namespace) -> int:
    """Register an app by its public key, with the origins that its pages may lead to or be in."""
    draft = drafts.read(arguments.draft)
    client_values.require_id(draft.issuer_id, arguments.client_key, "client key")
    client = {
        "kind": "app",
        "client_id": arguments.client_key,
        "redirect_origins": client_values.redirect_origins(
            arguments.redirect_origin, sandbox=draft.sandbox
        ),
        "embed_origins": client_values.web_origins(arguments.embed_origin, sandbox=draft.sandbox),
        "failure_image_status": arguments.failure_image_status,
        "language": arguments.language,
    }
    drafts.add(arguments.draft, draft, client)
    return OK


def add_backend(arguments: Namespace) -> int:
    """Register an issuer's own server for the pincontrol face; print the key of its frames."""
    draft = drafts.read(arguments.draft)
    client_values.require_id(draft.issuer_id, arguments.user, "user name")
    origins = client_values.web_origins(arguments.frame_origin, sandbox=draft.sandbox)
    frame_key = client_values.frame_key(draft.issuer_id, arguments.frame_key, origins)
    with ExitStack() as undo:
        client = {
            "kind": "server",
            "client_id": arguments.user,
            "secrets": [client_values.new_secret(arguments.password_file, undo)],
            "frame_key": frame_key,
            "frame_origins": origins,
            "show_button": not arguments.no_button,
            "hide_seconds": arguments.hide_seconds,
            "view_style": client_values.view_style(arguments.style),
            "language": arguments.language,
        }
        drafts.add(arguments.draft, draft, client)
        undo.pop_all()
    client_values.print_frame_key(frame_key, as_json=arguments.json)
    return OK


def remove_client(arguments: Namespace) -> int:
    """Remove a client: with the manifest that is made of the draft, it may not call any more."""
    drafts.remove(arguments.draft, drafts.read(arguments.draft), arguments.client)
    return OK


def list_clients(arguments: Namespace) -> int:
    """Print every client of a draft, without the hashes of its secrets."""
    clients = drafts.clients_of(drafts.read(arguments.draft))
    command_line.print_rows(map(_without_hashes, clients), as_json=arguments.json)
    return OK


def show_client(arguments: Namespace) -> int:
    """Print one client of a draft, without the hashes of its secrets."""
    client = drafts.client_of(drafts.read(arguments.draft), arguments.client)
    command_line.print_row(_without_hashes(client), as_json=arguments.json)
    return OK


def _without_hashes(client: Mapping[str, object]) -> dict[str, object]:
    """Show of each secret only until when it is valid."""
    shown = dict(client)
    secrets = shown.get("secrets")
    if isinstance(secrets, list):
        shown["secrets"] = [{"valid_until": secret["valid_until"]} for secret in secrets]
    return shown

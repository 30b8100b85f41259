"""``python -m cms clients``: register a client, show it, change it, disable it.

Secrets are made here.
"""

from argparse import ArgumentParser, Namespace
from contextlib import ExitStack
from pathlib import Path

from cms.faces.cardholder.page.messages import LANGUAGES
from cms.operator import client_update, client_values, command_line
from hsm.command_line import OK


def add_to(commands: command_line.Commands) -> None:
    """Add the noun and its commands to the program."""
    clients = command_line.add_noun(commands, "clients", "clients of an issuer")
    _add_to_add(
        command_line.add_command(
            clients, "add", add_client, "register a client", "issuer", "client"
        )
    )
    text = "register an app, by a public key"
    _add_to_add_app(
        command_line.add_command(clients, "add-app", add_app, text, "issuer", "client_key")
    )
    text = "register a server for pincontrol"
    _add_to_add_backend(
        command_line.add_command(clients, "add-backend", add_backend, text, "issuer", "user")
    )
    text = "change what a client is registered with, or its secret"
    update = command_line.add_command(
        clients, "update", client_update.update_client, text, "issuer", "client"
    )
    client_update.add_arguments(update)
    command_line.add_list(clients, "clients", "issuer")
    command_line.add_show(clients, "clients", {"issuer_id": "issuer", "client_id": "client"})
    for name, state in (("disable", "disabled"), ("enable", "active")):
        move = command_line.add_command(
            clients, name, set_state, f"make it {state}", "issuer", "client"
        )
        move.set_defaults(state=state)


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
    add.add_argument("--sandbox", action="store_true", help="allow http://localhost:PORT")


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
    add.add_argument("--sandbox", action="store_true", help="allow http://localhost:PORT")


def add_client(arguments: Namespace) -> int:
    """Register a client; its secret is made here and written to a new file of mode 0600."""
    from cms.persistence import admin

    client_values.require_id(arguments.issuer, arguments.client, "client id")
    names = client_values.certificate_names(arguments.subject, arguments.certificate)
    with ExitStack() as undo, command_line.open_database() as database:
        secret_hash = None
        if arguments.secret_file is not None:
            secret_hash = client_values.new_secret(arguments.secret_file, undo)
        admin.add_client(database, arguments.issuer, arguments.client, secret_hash, names)
        database.commit()
        undo.pop_all()
    return OK


def add_app(arguments: Namespace) -> int:
    """Register an app by its public key, with the origins that its pages may lead to or be in."""
    from cms.persistence import admin

    client_values.require_id(arguments.issuer, arguments.client_key, "client key")
    redirect_origins = client_values.redirect_origins(
        arguments.redirect_origin, sandbox=arguments.sandbox
    )
    embed_origins = client_values.web_origins(arguments.embed_origin, sandbox=arguments.sandbox)
    with command_line.open_database() as database:
        admin.add_app(
            database,
            arguments.issuer,
            arguments.client_key,
            redirect_origins=redirect_origins,
            embed_origins=embed_origins,
            failure_image_status=arguments.failure_image_status,
            language=arguments.language,
        )
    return OK


def add_backend(arguments: Namespace) -> int:
    """Register an issuer's own server for the pincontrol face; print the key of its frames."""
    from cms.persistence import admin

    client_values.require_id(arguments.issuer, arguments.user, "user name")
    origins = client_values.web_origins(arguments.frame_origin, sandbox=arguments.sandbox)
    frame_key = client_values.frame_key(arguments.issuer, arguments.frame_key, origins)
    with ExitStack() as undo, command_line.open_database() as database:
        admin.add_backend(
            database,
            arguments.issuer,
            arguments.user,
            client_values.new_secret(arguments.password_file, undo),
            frame_key=frame_key,
            embed_origins=origins,
            show_button=not arguments.no_button,
            hide_seconds=arguments.hide_seconds,
            view_style=client_values.view_style(arguments.style),
            language=arguments.language,
        )
        database.commit()
        undo.pop_all()
    if frame_key is not None:
        print(frame_key)
    return OK


def set_state(arguments: Namespace) -> int:
    """Disable a client or bring it back."""
    from cms.persistence import admin

    with command_line.open_database() as database:
        admin.set_client_state(database, arguments.issuer, arguments.client, arguments.state)
    return OK

"""``python -m cms clients``: register a client, show it, disable it. Secrets are made here."""

import os
import re
import secrets
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from cms.domain.origins import is_app_scheme, is_web_origin
from cms.operator.command_line import (
    OK,
    Commands,
    Refused,
    add_command,
    add_list,
    add_noun,
    add_show,
    open_database,
)

FRAME_KEY_BYTES: Final = 12
CLIENT_KEY_PATTERN: Final = re.compile(r"[!-~]+")
#: No colon: it ends a user name (RFC 7617, section 2).
USER_PATTERN: Final = re.compile(r"[A-Za-z0-9._-]{1,40}")
#: As it stands in a URL.
FRAME_KEY_PATTERN: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


def add_to(commands: Commands) -> None:
    """Add the noun and its commands to the program."""
    clients = add_noun(commands, "clients", "clients of an issuer")
    _add_to_add(add_command(clients, "add", add_client, "register a client", "issuer", "client"))
    text = "register an app, by a public key"
    _add_to_add_app(add_command(clients, "add-app", add_app, text, "issuer", "client_key"))
    text = "register a server for pincontrol"
    _add_to_add_backend(add_command(clients, "add-backend", add_backend, text, "issuer", "user"))
    add_list(clients, "clients", "issuer")
    add_show(clients, "clients", {"issuer_id": "issuer", "client_id": "client"})
    for name, state in (("disable", "disabled"), ("enable", "active")):
        move = add_command(clients, name, set_state, f"make it {state}", "issuer", "client")
        move.set_defaults(state=state)


def _add_to_add(add: ArgumentParser) -> None:
    add.add_argument("--subject", action="append", default=[], help="RFC 4514, dns:… or uri:…")
    add.add_argument("--certificate", action="append", default=[], type=Path, metavar="PEM")
    add.add_argument("--secret-file", type=Path, help="made new; without it, no OAuth")


def _add_to_add_app(add: ArgumentParser) -> None:
    for name, text in (("redirect", "where pages may lead"), ("embed", "who may frame them")):
        add.add_argument(f"--{name}-origin", action="append", default=[], help=text)
    add.add_argument("--failure-image-status", type=int, choices=[410, 200], default=410)
    add.add_argument("--sandbox", action="store_true", help="allow http://localhost:PORT")


def _add_to_add_backend(add: ArgumentParser) -> None:
    add.add_argument("--password-file", type=Path, required=True, help="made new")
    add.add_argument("--frame-origin", action="append", default=[], help="who may frame its pages")
    add.add_argument("--frame-key", metavar="KEY", help="the key of its frames; else made here")
    add.add_argument("--no-button", action="store_true", help="its app has a button of its own")
    add.add_argument(
        "--hide-seconds", type=int, default=30, choices=range(5, 121), metavar="5..120"
    )
    add.add_argument("--style", type=Path, metavar="FILE", help="JSON, of the view page")
    add.add_argument("--sandbox", action="store_true", help="allow http://localhost:PORT")


def add_client(arguments: Namespace) -> int:
    """Register a client; its secret is made here and written to a new file of mode 0600."""
    from cms.persistence import admin

    if not arguments.client.startswith(arguments.issuer):
        raise Refused("a client id starts with the id of its issuer")
    subjects = [*arguments.subject, *map(_subject, arguments.certificate)]
    if not subjects:
        raise Refused("a client needs --subject or --certificate")
    with ExitStack() as undo, open_database() as database:
        secret_hash = None
        if arguments.secret_file is not None:
            secret_hash = _new_secret(arguments.secret_file, undo)
        admin.add_client(database, arguments.issuer, arguments.client, secret_hash, subjects)
        database.commit()
        undo.pop_all()
    return OK


def add_app(arguments: Namespace) -> int:
    """Register an app by its public key, with the origins that its pages may lead to or be in."""
    from cms.persistence import admin

    key = arguments.client_key
    if not key.startswith(arguments.issuer) or not CLIENT_KEY_PATTERN.fullmatch(key):
        raise Refused("a client key is visible ASCII and starts with the id of its issuer")
    for origin in arguments.redirect_origin:
        if not is_app_scheme(origin):
            _require_origin(origin, sandbox=arguments.sandbox)
    for origin in arguments.embed_origin:
        _require_origin(origin, sandbox=arguments.sandbox)
    with open_database() as database:
        admin.add_app(
            database,
            arguments.issuer,
            key,
            redirect_origins=arguments.redirect_origin,
            embed_origins=arguments.embed_origin,
            failure_image_status=arguments.failure_image_status,
        )
    return OK


def add_backend(arguments: Namespace) -> int:
    """Register an issuer's own server for the pincontrol face; print the key of its frames."""
    from cms.persistence import admin

    user = arguments.user
    if not user.startswith(arguments.issuer) or not USER_PATTERN.fullmatch(user):
        raise Refused(
            "a user name is letters, digits, '-', '_' and '.', and starts with the id of its issuer"
        )
    for origin in arguments.frame_origin:
        _require_origin(origin, sandbox=arguments.sandbox)
    frame_key = arguments.frame_key
    if frame_key is not None and not arguments.frame_origin:
        raise Refused("a frame key needs --frame-origin: who may frame its pages")
    if frame_key is None and arguments.frame_origin:
        frame_key = f"{arguments.issuer}-{secrets.token_urlsafe(FRAME_KEY_BYTES)}"
    if frame_key is not None and not (
        frame_key.startswith(arguments.issuer) and FRAME_KEY_PATTERN.fullmatch(frame_key)
    ):
        raise Refused(
            "a frame key is up to 64 letters, digits, '-', '_' and '.',"
            " and starts with the id of its issuer"
        )
    with ExitStack() as undo, open_database() as database:
        admin.add_backend(
            database,
            arguments.issuer,
            user,
            _new_secret(arguments.password_file, undo),
            frame_key=frame_key,
            embed_origins=arguments.frame_origin,
            show_button=not arguments.no_button,
            hide_seconds=arguments.hide_seconds,
            view_style=_view_style(arguments.style),
        )
        database.commit()
        undo.pop_all()
    if frame_key is not None:
        print(frame_key)
    return OK


def set_state(arguments: Namespace) -> int:
    """Disable a client or bring it back."""
    from cms.persistence import admin

    with open_database() as database:
        admin.set_client_state(database, arguments.issuer, arguments.client, arguments.state)
    return OK


def _new_secret(file: Path, undo: ExitStack) -> bytes:
    """Make a secret, write it to a new file, and return its hash; *undo* removes the file."""
    from cms.services.credentials import hash_secret, new_secret

    secret = new_secret()
    _write_new(file, secret + "\n")
    undo.callback(file.unlink)
    return hash_secret(secret)


def _view_style(file: Path | None) -> Mapping[str, object]:
    from cms.faces.cardholder.page.style import ViewStyle, parse_view
    from crypto.errors import JoseError
    from crypto.jose import json_object

    if file is None:
        return {}
    try:
        style = parse_view(json_object.parse(file.read_bytes()))
    except JoseError:
        raise Refused("a style is a JSON object") from None
    if not isinstance(style, ViewStyle):
        raise Refused("; ".join(f"{error.member}: {error.message}" for error in style))
    return style.members()


def _require_origin(text: str, *, sandbox: bool) -> None:
    if not is_web_origin(text, sandbox=sandbox):
        raise Refused(
            "an origin is written as a browser does: https://host or https://host:port, no path;"
            " http://localhost:port with --sandbox; an app's scheme, for redirects, as com.example:"
        )


def _subject(path: Path) -> str:
    from cryptography import x509

    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except ValueError:
        raise Refused("not a PEM certificate") from None
    return certificate.subject.rfc4514_string()


def _write_new(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)

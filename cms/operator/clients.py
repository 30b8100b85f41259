"""What an operator does to clients: register, disable. Their secrets are made here."""

import argparse
import os
import re
import secrets
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from cryptography import x509

from cms.domain.origins import is_app_scheme, is_web_origin
from cms.faces.cardholder.page.style import ViewStyle, parse_view
from cms.operator.commands import OK, open_database
from cms.persistence import admin
from cms.persistence.admin import AdminError
from cms.services.credentials import HASHER
from crypto.errors import JoseError
from crypto.jose import json_object

SECRET_BYTES: Final = 32
FRAME_KEY_BYTES: Final = 12
CLIENT_KEY_PATTERN: Final = re.compile(r"[!-~]+")
#: No colon: it ends a user name (RFC 7617, section 2).
USER_PATTERN: Final = re.compile(r"[A-Za-z0-9._-]{1,40}")
#: As it stands in a URL.
FRAME_KEY_PATTERN: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


def add(arguments: argparse.Namespace) -> int:
    """Register a client; its secret is made here and written to a new file of mode 0600."""
    if not arguments.client.startswith(arguments.issuer):
        raise AdminError("a client id starts with the id of its issuer")
    subjects = [*arguments.subject, *map(_subject, arguments.certificate)]
    if not subjects:
        raise AdminError("a client needs --subject or --certificate")
    with ExitStack() as undo, open_database() as database:
        secret_hash = None
        if arguments.secret_file is not None:
            secret_hash = _new_secret(arguments.secret_file, undo)
        admin.add_client(database, arguments.issuer, arguments.client, secret_hash, subjects)
        database.commit()
        undo.pop_all()
    return OK


def add_app(arguments: argparse.Namespace) -> int:
    """Register an app by its public key, with the origins that its pages may lead to or be in."""
    key = arguments.client_key
    if not key.startswith(arguments.issuer) or not CLIENT_KEY_PATTERN.fullmatch(key):
        raise AdminError("a client key is visible ASCII and starts with the id of its issuer")
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


def add_backend(arguments: argparse.Namespace) -> int:
    """Register an issuer's own server for the pincontrol face; print the key of its frames."""
    user = arguments.user
    if not user.startswith(arguments.issuer) or not USER_PATTERN.fullmatch(user):
        raise AdminError(
            "a user name is letters, digits, '-', '_' and '.', and starts with the id of its issuer"
        )
    for origin in arguments.frame_origin:
        _require_origin(origin, sandbox=arguments.sandbox)
    frame_key = arguments.frame_key
    if frame_key is not None and not arguments.frame_origin:
        raise AdminError("a frame key needs --frame-origin: who may frame its pages")
    if frame_key is None and arguments.frame_origin:
        frame_key = f"{arguments.issuer}-{secrets.token_urlsafe(FRAME_KEY_BYTES)}"
    if frame_key is not None and not (
        frame_key.startswith(arguments.issuer) and FRAME_KEY_PATTERN.fullmatch(frame_key)
    ):
        raise AdminError(
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


def set_state(arguments: argparse.Namespace) -> int:
    """Disable a client or bring it back."""
    with open_database() as database:
        admin.set_client_state(database, arguments.issuer, arguments.client, arguments.state)
    return OK


def _new_secret(file: Path, undo: ExitStack) -> str:
    """Make a secret, write it to a new file, and return its hash; *undo* removes the file."""
    secret = secrets.token_urlsafe(SECRET_BYTES)
    _write_new(file, secret + "\n")
    undo.callback(file.unlink)
    return HASHER.hash(secret)


def _view_style(file: Path | None) -> Mapping[str, object]:
    if file is None:
        return {}
    try:
        style = parse_view(json_object.parse(file.read_bytes()))
    except JoseError:
        raise AdminError("a style is a JSON object") from None
    if not isinstance(style, ViewStyle):
        raise AdminError("; ".join(f"{error.member}: {error.message}" for error in style))
    return style.members()


def _require_origin(text: str, *, sandbox: bool) -> None:
    if not is_web_origin(text, sandbox=sandbox):
        raise AdminError(
            "an origin is written as a browser does: https://host or https://host:port, no path;"
            " http://localhost:port with --sandbox; an app's scheme, for redirects, as com.example:"
        )


def _subject(path: Path) -> str:
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except ValueError:
        raise AdminError("not a PEM certificate") from None
    return certificate.subject.rfc4514_string()


def _write_new(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)

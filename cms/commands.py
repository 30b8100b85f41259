"""What an operator does: issuers, cards, clients, configuration, audit. No PAN is an argument."""

import argparse
import json
import os
import re
import secrets
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from cryptography import x509

from cms.domain.cards import CardState
from cms.domain.origins import is_app_scheme, is_web_origin
from cms.faces.page.style import ViewStyle, parse_view
from cms.persistence import admin, tables
from cms.persistence.admin import AdminError, CardWithValues, Database
from cms.services.card_import import CardImport, new_card
from cms.services.credentials import HASHER
from cms.settings import DatabaseSettings
from crypto.errors import JoseError
from crypto.jose import json_object
from hsm.config import WireProfile, from_json, parse_body
from hsm.errors import SealBroken
from hsm.intake import prompt_pan
from hsm.keys import KeyRole
from hsm.local import open_vault
from hsm.port import ISSUER_ID_CHARS, CardRef, ConfigKind, PinVault, VaultConfig

OK: Final = 0
REFUSED: Final = 2
SECRET_BYTES: Final = 32
PROGRESS_EVERY_ROWS: Final = 100
EXPORT_AT_ONCE: Final = 200
FRAME_KEY_BYTES: Final = 12
CLIENT_KEY_PATTERN: Final = re.compile(r"[!-~]+")
#: No colon: it ends a user name (RFC 7617, section 2).
USER_PATTERN: Final = re.compile(r"[A-Za-z0-9._-]{1,40}")
#: As it stands in a URL.
FRAME_KEY_PATTERN: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
HIDDEN: Final = frozenset({"secret_hash", "cmac", "body"})


def issuers_add(arguments: argparse.Namespace) -> int:
    """Add an issuer."""
    if len(arguments.issuer) != ISSUER_ID_CHARS:
        raise AdminError("an issuer id has exactly 10 characters")
    with _database() as database:
        admin.add_issuer(database, arguments.issuer, arguments.name)
    return OK


def issuers_state(arguments: argparse.Namespace) -> int:
    """Suspend an issuer or bring it back."""
    with _database() as database:
        admin.set_issuer_state(database, arguments.issuer, arguments.state)
    return OK


def cards_add(arguments: argparse.Namespace) -> int:
    """Add one card; its PAN is typed at a prompt or read from a file as a JWE."""
    vault = open_vault()
    if arguments.pan_jwe:
        pan_jwe = arguments.pan_jwe.read_text("ascii", errors="replace").strip()
    else:
        pan_jwe = prompt_pan(vault.public_jwks(KeyRole.INTAKE)["keys"][0])
    with _database() as database:
        new = new_card(
            arguments.issuer,
            arguments.card,
            pan_jwe=pan_jwe,
            expiry=arguments.expiry,
            sequence_number=arguments.sequence_number,
            state=arguments.state,
            cardholder_id=arguments.cardholder,
            card_type=arguments.type,
            plastic_id=arguments.plastic_id,
            produced=arguments.produced,
        )
        config = admin.config_now(database, arguments.issuer)
        CardImport(database, vault, config, WireProfile()).add(new)
    return OK


def cards_import(arguments: argparse.Namespace) -> int:
    """Take in cards from a file of JSON lines; bad lines are named and the others stored."""
    stored, refused = 0, 0
    vault = open_vault()
    with _database() as database, arguments.file.open("rb") as lines:
        admin.row(database, tables.issuers, issuer_id=arguments.issuer)
        config = admin.config_now(database, arguments.issuer)
        for result in CardImport(database, vault, config, _wire(config)).run(
            arguments.issuer, lines
        ):
            if result.refused is None:
                stored += 1
            else:
                refused += 1
                _complain(f"line {result.line}: {result.refused}")
            if result.line % PROGRESS_EVERY_ROWS == 0:
                # The next line that is shown overwrites this one.
                print(f"{result.line} lines", end="\r", file=sys.stderr, flush=True)
    print(f"{stored} cards stored, {refused} lines refused")
    return REFUSED if refused else OK


def cards_state(arguments: argparse.Namespace) -> int:
    """Move a card to another state."""
    card = _card(arguments)
    with _database() as database:
        admin.set_card_state(database, card, CardState(arguments.state))
    return OK


def cards_unblock(arguments: argparse.Namespace) -> int:
    """Let a card take SECCOS PINs again that was refused them after too many failures."""
    card = _card(arguments)
    with _database() as database:
        admin.unblock_card(database, card)
    return OK


def cards_produced(arguments: argparse.Namespace) -> int:
    """Note that a card is produced."""
    card = _card(arguments)
    with _database() as database:
        admin.mark_produced(database, card)
    return OK


def clients_add(arguments: argparse.Namespace) -> int:
    """Register a client; its secret is made here and written to a new file of mode 0600."""
    if not arguments.client.startswith(arguments.issuer):
        raise AdminError("a client id starts with the id of its issuer")
    subjects = [*arguments.subject, *map(_subject, arguments.certificate)]
    if not subjects:
        raise AdminError("a client needs --subject or --certificate")
    with ExitStack() as undo, _database() as database:
        secret_hash = None
        if arguments.secret_file is not None:
            secret_hash = _new_secret(arguments.secret_file, undo)
        admin.add_client(database, arguments.issuer, arguments.client, secret_hash, subjects)
        database.commit()
        undo.pop_all()
    return OK


def clients_add_app(arguments: argparse.Namespace) -> int:
    """Register an app by its public key, with the origins that its pages may lead to or be in."""
    key = arguments.client_key
    if not key.startswith(arguments.issuer) or not CLIENT_KEY_PATTERN.fullmatch(key):
        raise AdminError("a client key is visible ASCII and starts with the id of its issuer")
    for origin in arguments.redirect_origin:
        if not is_app_scheme(origin):
            _require_origin(origin, sandbox=arguments.sandbox)
    for origin in arguments.embed_origin:
        _require_origin(origin, sandbox=arguments.sandbox)
    with _database() as database:
        admin.add_app(
            database,
            arguments.issuer,
            key,
            redirect_origins=arguments.redirect_origin,
            embed_origins=arguments.embed_origin,
            failure_image_status=arguments.failure_image_status,
        )
    return OK


def clients_add_backend(arguments: argparse.Namespace) -> int:
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
    with ExitStack() as undo, _database() as database:
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


def clients_state(arguments: argparse.Namespace) -> int:
    """Disable a client or bring it back."""
    with _database() as database:
        admin.set_client_state(database, arguments.issuer, arguments.client, arguments.state)
    return OK


def config_load(arguments: argparse.Namespace) -> int:
    """Store what ``python -m hsm config seal`` printed."""
    given = str(arguments.file)
    text = sys.stdin.read() if given == "-" else arguments.file.read_text("utf-8")
    config = from_json(text)
    if not config.cmac:
        raise AdminError("not sealed: use python -m hsm config seal first")
    parse_body(config.kind, config.body)
    with _database() as database:
        admin.load_config(database, config)
    return OK


def verification_export(arguments: argparse.Namespace) -> int:
    """Print verification values, enciphered to the authorisation host: a JSON line a card.

    A card whose values cannot be handed out is named, and the others are printed.
    """
    since = _moment(arguments.since)
    vault = open_vault()
    code = OK
    with _database() as database:
        admin.row(database, tables.issuers, issuer_id=arguments.issuer)
        config = admin.config_now(database, arguments.issuer)
        after: str | None = ""
        while after is not None:
            cards = admin.cards_with_values(
                database, arguments.issuer, after=after, since=since, count_max=EXPORT_AT_ONCE
            )
            lines = []
            for found in cards:
                try:
                    lines.append(_export_line(vault, config, found))
                except (AdminError, SealBroken) as error:
                    code = REFUSED
                    _complain(f"card {found.card.card_id}: {str(error) or error.__doc__}")
                else:
                    admin.audit_export(database, found.card, found.counter)
            # First the audit, for good: nothing is handed out of which there is no record.
            database.commit()
            for line in lines:
                print(line)
            after = cards[-1].card.card_id if cards else None
    return code


def list_table(arguments: argparse.Namespace) -> int:
    """Print the rows of a table, sealed values and hashes left out."""
    with _database() as database:
        for row in admin.rows(database, _table(arguments), getattr(arguments, "issuer", None)):
            print("  ".join(f"{name}={_shown(value)}" for name, value in _visible(row)))
    return OK


def show_row(arguments: argparse.Namespace) -> int:
    """Print one row of a table, a line a column."""
    key = {name: getattr(arguments, argument) for name, argument in arguments.key.items()}
    with _database() as database:
        row = admin.row(database, _table(arguments), **key)
    for name, value in _visible(row):
        print(f"{name:<22}{_shown(value)}")
    if "body" in row:
        print(row["body"].decode())
    return OK


@contextmanager
def _database() -> Iterator[Database]:
    settings = DatabaseSettings()
    with admin.transaction(settings.database_url()) as database:
        yield database


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


def _card(arguments: argparse.Namespace) -> CardRef:
    try:
        return CardRef(arguments.issuer, arguments.card)
    except ValueError:
        raise AdminError("no such card") from None


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    with suppress(ValueError):
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return moment
    raise AdminError("a time is written as 2026-01-31T12:00:00+01:00")


def _export_line(vault: PinVault, config: VaultConfig, found: CardWithValues) -> str:
    if found.counter != found.newest:
        raise AdminError("its counter is not the newest of its history")
    line = {
        "issuerId": found.card.issuer_id,
        "cardId": found.card.card_id,
        "counter": found.counter,
        "jwe": vault.export_values(found.values, config, found.card, found.counter),
    }
    return json.dumps(line)


def _table(arguments: argparse.Namespace) -> Any:  # noqa: ANN401 - persistence knows its type
    return tables.metadata.tables[arguments.table]


def _wire(config: VaultConfig) -> WireProfile:
    sealed = config.get(ConfigKind.WIRE)
    body = parse_body(ConfigKind.WIRE, sealed.body) if sealed else WireProfile()
    return body if isinstance(body, WireProfile) else WireProfile()


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


def _visible(row: Mapping[str, Any]) -> Sequence[tuple[str, Any]]:
    return [
        (name, value)
        for name, value in row.items()
        if name not in HIDDEN and not name.startswith("sealed_")
    ]


def _shown(value: object) -> str:
    if isinstance(value, list) and all(isinstance(item, datetime) for item in value):
        return ", ".join(map(str, value)) or "-"
    return "-" if value is None else str(value)


def _complain(text: str) -> None:
    print(text, file=sys.stderr)

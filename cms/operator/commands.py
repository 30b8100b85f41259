"""What an operator does: issuers, cards, configuration, audit. No PAN is an argument."""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any, Final

from cms.domain.cards import CardState
from cms.operator.card_import import CardImport, new_card
from cms.persistence import admin, tables
from cms.persistence.admin import AdminError, CardWithValues, Database
from cms.settings import DatabaseSettings
from hsm.config.json_file import from_json
from hsm.config.kinds import parse_body
from hsm.config.wire import WireProfile
from hsm.errors import SealBroken
from hsm.intake import prompt_pan
from hsm.local import open_vault
from hsm.port import (
    ISSUER_ID_CHARS,
    CardRef,
    ConfigKind,
    PinVault,
    PublicKeyRole,
    VaultConfig,
)

OK: Final = 0
REFUSED: Final = 2
PROGRESS_EVERY_ROWS: Final = 100
EXPORT_AT_ONCE: Final = 200
HIDDEN: Final = frozenset({"secret_hash", "cmac", "body"})


def issuers_add(arguments: argparse.Namespace) -> int:
    """Add an issuer."""
    if len(arguments.issuer) != ISSUER_ID_CHARS:
        raise AdminError("an issuer id has exactly 10 characters")
    with open_database() as database:
        admin.add_issuer(database, arguments.issuer, arguments.name)
    return OK


def issuers_state(arguments: argparse.Namespace) -> int:
    """Suspend an issuer or bring it back."""
    with open_database() as database:
        admin.set_issuer_state(database, arguments.issuer, arguments.state)
    return OK


def cards_add(arguments: argparse.Namespace) -> int:
    """Add one card; its PAN is typed at a prompt or read from a file as a JWE."""
    vault = open_vault()
    if arguments.pan_jwe:
        pan_jwe = arguments.pan_jwe.read_text("ascii", errors="replace").strip()
    else:
        pan_jwe = prompt_pan(vault.public_jwks(PublicKeyRole.INTAKE)["keys"][0])
    with open_database() as database:
        new = new_card(
            arguments.issuer,
            arguments.card,
            pan_jwe=pan_jwe,
            expiry=arguments.expiry,
            psn=arguments.psn,
            state=arguments.state,
            cardholder_id=arguments.cardholder,
            card_type=arguments.type,
            plastic_id=arguments.plastic_id,
            personalised=arguments.personalised,
        )
        config = admin.config_now(database, arguments.issuer)
        CardImport(database, vault, config, WireProfile()).add(new)
    return OK


def cards_import(arguments: argparse.Namespace) -> int:
    """Take in cards from a file of JSON lines; bad lines are named and the others stored."""
    stored, refused = 0, 0
    vault = open_vault()
    with open_database() as database, arguments.file.open("rb") as lines:
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
    with open_database() as database:
        admin.set_card_state(database, card, CardState(arguments.state))
    return OK


def cards_unblock(arguments: argparse.Namespace) -> int:
    """Let a card take SECCOS PINs again that was refused them after too many failures."""
    card = _card(arguments)
    with open_database() as database:
        admin.unblock_card(database, card)
    return OK


def cards_personalised(arguments: argparse.Namespace) -> int:
    """Note that a card is personalised."""
    card = _card(arguments)
    with open_database() as database:
        admin.mark_personalised(database, card)
    return OK


def config_load(arguments: argparse.Namespace) -> int:
    """Store what ``python -m hsm config seal`` printed."""
    given = str(arguments.file)
    text = sys.stdin.read() if given == "-" else arguments.file.read_text("utf-8")
    config = from_json(text)
    if not config.cmac:
        raise AdminError("not sealed: use python -m hsm config seal first")
    parse_body(config.kind, config.body)
    with open_database() as database:
        admin.load_config(database, config)
    return OK


def verification_export(arguments: argparse.Namespace) -> int:
    """Print verification values, enciphered to the authorisation host: a JSON line a card.

    A card whose values cannot be handed out is named, and the others are printed.
    """
    since = _moment(arguments.since)
    vault = open_vault()
    code = OK
    with open_database() as database:
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
    with open_database() as database:
        for row in admin.rows(database, _table(arguments), getattr(arguments, "issuer", None)):
            print("  ".join(f"{name}={_shown(value)}" for name, value in _visible(row)))
    return OK


def show_row(arguments: argparse.Namespace) -> int:
    """Print one row of a table, a line a column."""
    key = {name: getattr(arguments, argument) for name, argument in arguments.key.items()}
    with open_database() as database:
        row = admin.row(database, _table(arguments), **key)
    for name, value in _visible(row):
        print(f"{name:<22}{_shown(value)}")
    if "body" in row:
        print(row["body"].decode())
    return OK


@contextmanager
def open_database() -> Iterator[Database]:
    """Open a transaction on the database that the settings name."""
    settings = DatabaseSettings()
    with admin.transaction(settings.database_url()) as database:
        yield database


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

"""``python -m cms cards``: cards come in, are shown, change state, and get PINs.

No PAN is an argument, and no PIN is shown: those for the bureau are enciphered to it.

``feed-key`` and ``make-feed`` are for the issuer's own machine, where PANs are in clear: they need
files only. What they make goes to a machine of the service, and there ``import`` takes it in.
"""

from __future__ import annotations

import json
import re
from argparse import ArgumentTypeError, Namespace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cms.domain.cards import CardState
from cms.operator import command_line, progress
from hsm import printing
from hsm.command_line import OK, REFUSED, issuer_id, new_passphrase, passphrase_of

if TYPE_CHECKING:
    from hsm.feed_cards import FeedCard


def add_to(commands: command_line.Commands) -> None:
    """Add the noun and its commands to the program."""
    cards = command_line.add_noun(commands, "cards", "cards of an issuer")
    _add_feeds(cards)
    _add_pins(cards)
    command_line.add_list(cards, "cards", "issuer")
    command_line.add_show(cards, "cards", {"issuer_id": "issuer", "card_id": "card"})
    move = command_line.add_command(
        cards, "state", set_state, "move a card to another state", "issuer", "card"
    )
    states = [state.value for state in CardState]
    move.add_argument("state", choices=states, help="where it goes; closed is the end")
    command_line.add_command(
        cards,
        "personalised",
        mark_personalised,
        "note that a card is personalised",
        "issuer",
        "card",
    )
    command_line.add_command(
        cards,
        "unblock",
        unblock,
        "forget the failed PINs of a card, on this host",
        "issuer",
        "card",
    )


def _add_feeds(cards: command_line.Commands) -> None:
    text = "make the key of a feed; print its entry of a manifest"
    key = command_line.add_command(cards, "feed-key", make_key, text)
    key.add_argument("file", type=Path, metavar="FILE", help="a new file")
    key.add_argument("--name", required=True, help="the feed's")
    key.add_argument("--no-passphrase", action="store_true", help="do not encipher the file")
    text = "sign and encrypt cards, on the machine that has their PANs"
    make = command_line.add_command(cards, "make-feed", make_feed, text)
    make.add_argument("issuer", type=issuer_id, help=command_line.POSITIONALS["issuer"])
    make.add_argument("plain", type=Path, metavar="PLAIN", help="a card a line, as JSON")
    make.add_argument("--name", required=True, help="the feed's, as the manifest has it")
    make.add_argument(
        "--key", type=Path, required=True, metavar="FILE", help="the file of the feed's key"
    )
    make.add_argument(
        "--intake-jwk",
        type=Path,
        required=True,
        metavar="FILE",
        help="the vault's key, as python -m hsm jwks intake prints it",
    )
    make.add_argument("--out", type=Path, required=True, metavar="FEED", help="where to")
    printing.add_json(make)
    text = "take in feeds: new cards, and new records of cards"
    load = command_line.add_command(cards, "import", import_cards, text, "issuer")
    load.add_argument("feed", type=Path, metavar="FEED", help="what make-feed made")
    printing.add_json(load)


def _add_pins(cards: command_line.Commands) -> None:
    text = "have PINs made of cards that have none"
    make = command_line.add_command(cards, "generate-pins", generate_pins, text, "issuer")
    make.add_argument("card", nargs="+", help=command_line.POSITIONALS["card"])
    printing.add_json(make)
    text = "write the PINs that the personalisation bureau has not got, for it alone"
    mail = command_line.add_command(cards, "mailers", write_mailers, text, "issuer")
    mail.add_argument("out", type=Path, metavar="OUT", help="a new file, or one to go on with")
    text = "a card whose PIN it gets again: once for each, with --again"
    mail.add_argument("--card", action="append", metavar="CARD", help=text)
    text = "why it gets them again, for the audit: 1 to 40 letters, spaces, ',', '.' and '-'"
    mail.add_argument("--again", type=_reason, metavar="REASON", help=text)
    printing.add_json(mail)


def _reason(text: str) -> str:
    # No digits: a PAN is none.
    if not re.fullmatch("[A-Za-z][A-Za-z ,.-]{0,39}", text):
        raise ArgumentTypeError("not 1 to 40 letters, spaces, ',', '.' and '-'")
    return text


def make_key(arguments: Namespace) -> int:
    """Make the private key of a feed in a new file; print its entry of a manifest."""
    from crypto.jose.jwk import public_jwk
    from hsm import key_file
    from hsm.errors import ManifestRefused
    from hsm.manifest.feeds import NAME_PATTERN

    if not NAME_PATTERN.fullmatch(arguments.name):
        raise ManifestRefused("the name of a feed has 1 to 64 letters, digits, '.', '_' and '-'")
    passphrase = None if arguments.no_passphrase else new_passphrase()
    public = key_file.public(key_file.create(arguments.file, passphrase))
    print(json.dumps({"name": arguments.name, "jwk": public_jwk(public, "sig")}, indent=2))
    return OK


def make_feed(arguments: Namespace) -> int:
    """Sign and encrypt cards; with a line that describes none, nothing is written."""
    import time

    from hsm import key_file
    from hsm.feed_writer import FeedWriter, RefusedLine, read_intake_key

    intake = read_intake_key(arguments.intake_jwk.read_bytes())
    private = key_file.read(arguments.key, partial(passphrase_of, arguments.key))
    writer = FeedWriter(arguments.issuer, arguments.name, private, intake, int(time.time()))
    unfinished = arguments.out.with_name(f".{arguments.out.name}.new")
    feeds, refused = 0, 0
    try:
        with (
            progress.lines_of(arguments.plain) as lines,
            unfinished.open("w", encoding="ascii") as out,
        ):
            for made in writer.feeds(lines, _check_details):
                if isinstance(made, RefusedLine):
                    refused += 1
                    progress.complain(f"line {made.line}: {made.reason}")
                else:
                    feeds += 1
                    print(made, file=out)
        if not refused:
            unfinished.replace(arguments.out)
    finally:
        unfinished.unlink(missing_ok=True)
    if arguments.json:
        printing.print_json({"feeds": 0 if refused else feeds, "refused": refused})
    else:
        print(f"{refused} lines refused: nothing was written" if refused else f"{feeds} feeds made")
    return REFUSED if refused else OK


def _check_details(card: FeedCard) -> None:
    from cms.operator.card_import import Details

    Details.read(card.others)


def import_cards(arguments: Namespace) -> int:
    """Take in feeds; what is refused is named, and the others are stored."""
    from cms.operator.card_import import CardImport
    from cms.operator.vault import open_vault
    from cms.persistence import admin, tables

    added, renewed, refused, loaded_before = 0, 0, 0, 0
    with (
        open_vault() as vault,
        command_line.open_database() as database,
        progress.lines_of(arguments.feed) as lines,
    ):
        admin.row(database, tables.issuers, issuer_id=arguments.issuer)
        for result in CardImport(database, vault, arguments.issuer).run(lines):
            added += result.added
            renewed += result.renewed
            refused += len(result.refused)
            loaded_before += result.loaded_before
            for reason in result.refused:
                progress.complain(f"line {result.line}: {reason}")
        admin.analyze(database)
    if arguments.json:
        counts = {"added": added, "renewed": renewed, "refused": refused}
        printing.print_json({**counts, "feeds_loaded_before": loaded_before})
        return REFUSED if refused else OK
    print(f"{added} cards added, {renewed} renewed, {refused} refused")
    if loaded_before:
        print(f"{loaded_before} feeds were loaded before")
    return REFUSED if refused else OK


def set_state(arguments: Namespace) -> int:
    """Move a card to another state."""
    from cms.persistence import admin

    card = command_line.card_of(arguments)
    with command_line.open_database() as database:
        admin.set_card_state(database, card, CardState(arguments.state))
    return OK


def mark_personalised(arguments: Namespace) -> int:
    """Note that a card is personalised: from now on the pincontrol face sets no PIN of it."""
    from cms.persistence import admin

    card = command_line.card_of(arguments)
    with command_line.open_database() as database:
        admin.mark_personalised(database, card)
    return OK


def unblock(arguments: Namespace) -> int:
    """Let a card take PINs again, on this host, after too many of those from D1 failed."""
    from cms.operator.vault import open_vault
    from cms.persistence import admin
    from hsm.messages import ForgetFailures

    card = command_line.card_of(arguments)
    with open_vault() as vault, command_line.open_database() as database:
        admin.unblock_card(database, card)
        vault.call(ForgetFailures(card))
    return OK


def generate_pins(arguments: Namespace) -> int:
    """Have PINs made; what is refused is named, and the others are stored."""
    from cms.operator.mailers import make_pin
    from cms.operator.vault import open_vault
    from cms.persistence.admin import AdminError
    from hsm.errors import (
        CounterExhausted,
        KeyMissing,
        KeyNotInUse,
        KeyUsedUp,
        SealBroken,
        ValueNotPossible,
    )
    from hsm.port import CardRef

    refusals = (command_line.Refused, AdminError, ValueNotPossible, CounterExhausted)
    # A key that is missing, retired or used up may be that of some cards only.
    not_opened = (SealBroken, KeyMissing, KeyNotInUse, KeyUsedUp)
    made = 0
    cards = arguments.card
    with (
        open_vault() as vault,
        command_line.open_database() as database,
        progress.bar("cards", len(cards)) as bar,
    ):
        for card_id in cards:
            try:
                card = CardRef(arguments.issuer, card_id)
                make_pin(database, vault, card)
                made += 1
            except ValueError:
                progress.complain("no such card")
            except (*refusals, *not_opened) as error:
                database.rollback()
                progress.complain(f"card {card_id}: {str(error) or type(error).__doc__}")
            bar.update(1)
    if arguments.json:
        printing.print_json({"made": made, "refused": len(cards) - made})
    else:
        print(f"{made} PINs made")
    return OK if made == len(cards) else REFUSED


def write_mailers(arguments: Namespace) -> int:
    """Write PINs for the bureau; what cannot go is named, and the others are written."""
    from cms.operator.batch_file import BatchFile
    from cms.operator.mailers import MailerExport
    from cms.operator.vault import open_vault
    from cms.persistence import admin, tables

    card_ids, reason = arguments.card, arguments.again
    if (card_ids is None) != (reason is None):
        raise command_line.Refused("--card and --again belong together")
    code = OK
    with (
        open_vault() as vault,
        command_line.open_database() as database,
        BatchFile.open(arguments.out, arguments.issuer) as file,
        progress.bar("PINs") as bar,
    ):
        admin.row(database, tables.issuers, issuer_id=arguments.issuer)
        export = MailerExport(database, vault, arguments.issuer, file, card_ids, reason)
        for refused in export.run(bar.update):
            code = REFUSED
            progress.complain(f"card {refused.card_id}: {refused.reason}")
        for card_id in export.without_pin():
            code = REFUSED
            progress.complain(f"card {card_id}: it has no PIN, or is not there, closed or virtual")
        if not file.is_empty:
            file.finish()
    out = None if file.is_empty else str(arguments.out)
    if arguments.json:
        printing.print_json({"pins": len(file.mailed), "file": out})
    else:
        print("no PIN is due" if out is None else f"{len(file.mailed)} PINs: {out}")
    return code

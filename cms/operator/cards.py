"""``python -m cms cards``: cards come in, are shown, and change state. No PAN is an argument."""

import sys
from argparse import BooleanOptionalAction, Namespace
from pathlib import Path
from typing import Final

from cms.domain.cards import CardState, CardType
from cms.operator import command_line
from hsm.command_line import OK, REFUSED

PROGRESS_EVERY_ROWS: Final = 100


def add_to(commands: command_line.Commands) -> None:
    """Add the noun and its commands to the program."""
    cards = command_line.add_noun(commands, "cards", "cards of an issuer")
    _add_to_add(cards)
    bulk = command_line.add_command(
        cards, "import", import_cards, "add cards from JSON lines", "issuer"
    )
    bulk.add_argument("file", type=Path, help="a JSON object a line")
    command_line.add_list(cards, "cards", "issuer")
    command_line.add_show(cards, "cards", {"issuer_id": "issuer", "card_id": "card"})
    move = command_line.add_command(
        cards, "state", set_state, "move a card to another state", "issuer", "card"
    )
    states = [state.value for state in CardState]
    move.add_argument("state", choices=states, help="where it goes; closed is the end")
    _add_to_update(cards)
    command_line.add_command(
        cards, "personalised", mark_personalised, "note that it is personalised", "issuer", "card"
    )
    command_line.add_command(
        cards, "unblock", unblock, "forget failed PINs, on this host", "issuer", "card"
    )


def _add_to_add(cards: command_line.Commands) -> None:
    text = "add a card; the PAN is asked for"
    add = command_line.add_command(cards, "add", add_card, text, "issuer", "card")
    add.add_argument("--expiry", required=True, metavar="MMYY", help="its last month")
    add.add_argument("--psn", type=int, default=0, metavar="N", help="PAN sequence number, or 0")
    add.add_argument(
        "--state", default="inactive", choices=["inactive", "active"], help="inactive unless said"
    )
    add.add_argument("--cardholder", metavar="SUBJECT", help="as the identity provider names it")
    types = [card_type.value for card_type in CardType]
    add.add_argument(
        "--type", default=CardType.PHYSICAL.value, choices=types, help="PHYSICAL unless said"
    )
    add.add_argument("--plastic-id", metavar="NUMBER", help="its name at the pincontrol face")
    add.add_argument(
        "--personalised",
        action=BooleanOptionalAction,
        help="whether it is; unless said, a card that is not inactive is",
    )
    add.add_argument("--pan-jwe", type=Path, metavar="FILE", help="the PAN as a JWE")


def _add_to_update(cards: command_line.Commands) -> None:
    text = "set its holder, plastic id, expiry or PSN"
    update = command_line.add_command(cards, "update", update_card, text, "issuer", "card")
    update.add_argument(
        "--cardholder",
        metavar="SUBJECT",
        help="another holder needs another PIN: the one until now is forgotten; empty: nobody",
    )
    update.add_argument(
        "--plastic-id", metavar="NUMBER", help="its name at the pincontrol face; empty: none"
    )
    update.add_argument("--expiry", metavar="MMYY", help="its last month")
    update.add_argument("--psn", type=int, metavar="N", help="PAN sequence number")


def add_card(arguments: Namespace) -> int:
    """Add one card; its PAN is typed at a prompt or read from a file as a JWE."""
    from cms.operator.card_import import CardImport, new_card
    from hsm.intake import prompt_pan
    from hsm.local import open_vault
    from hsm.manifest.wire import WireProfile
    from hsm.port import PublicKeyRole

    vault = open_vault()
    if arguments.pan_jwe:
        pan_jwe = arguments.pan_jwe.read_text("utf-8-sig", errors="replace").strip()
    else:
        pan_jwe = prompt_pan(vault.public_jwks(PublicKeyRole.INTAKE)["keys"][0])
    with command_line.open_database() as database:
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
        CardImport(database, vault, WireProfile()).add(new)
    return OK


def import_cards(arguments: Namespace) -> int:
    """Take in cards from a file of JSON lines; bad lines are named and the others stored."""
    from cms.operator.card_import import CardImport, wire_profile
    from cms.persistence import admin, tables
    from hsm.local import open_vault

    stored, refused = 0, 0
    vault = open_vault()
    with command_line.open_database() as database, arguments.file.open("rb") as lines:
        admin.row(database, tables.issuers, issuer_id=arguments.issuer)
        importing = CardImport(database, vault, wire_profile(vault, arguments.issuer))
        for result in importing.run(arguments.issuer, lines):
            if result.refused is None:
                stored += 1
            else:
                refused += 1
                command_line.complain(f"line {result.line}: {result.refused}")
            if result.line % PROGRESS_EVERY_ROWS == 0:
                # The next line that is shown overwrites this one.
                print(f"{result.line} lines", end="\r", file=sys.stderr, flush=True)
        admin.analyze(database)
    print(f"{stored} cards stored, {refused} lines refused")
    return REFUSED if refused else OK


def set_state(arguments: Namespace) -> int:
    """Move a card to another state."""
    from cms.persistence import admin

    card = command_line.card_of(arguments)
    with command_line.open_database() as database:
        admin.set_card_state(database, card, CardState(arguments.state))
    return OK


def update_card(arguments: Namespace) -> int:
    """Set what changes in the life of a card."""
    from cms.operator.card_update import changes
    from cms.persistence import admin, tables

    card = command_line.card_of(arguments)
    with command_line.open_database() as database:
        key = {"issuer_id": card.issuer_id, "card_id": card.card_id}
        columns = changes(
            admin.row(database, tables.cards, **key)["last_four"],
            cardholder=arguments.cardholder,
            plastic_id=arguments.plastic_id,
            expiry=arguments.expiry,
            psn=arguments.psn,
        )
        admin.update_card(database, card, **columns)
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
    from cms.persistence import admin
    from hsm.local import open_vault

    card = command_line.card_of(arguments)
    vault = open_vault()
    with command_line.open_database() as database:
        admin.unblock_card(database, card)
        vault.forget_failures(card)
    return OK

"""``python -m cms.sandbox d1``: simulate Thales D1 by hand."""

import argparse
import getpass
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import httpx

from cms.sandbox.partners import d1, d1_seccos
from cms.sandbox.partners.d1 import D1Client, D1Error
from cms.sandbox.partners.d1_seccos import LayoutError, Seccos
from cms.sandbox.partners.pin_blocks import PIN


class UsageError(Exception):
    """The person at the terminal asked for something that cannot be done."""


def main(words: Sequence[str]) -> int:
    """Run one command as D1 and return the exit code."""
    options = program_parser().parse_args(words)
    try:
        _run(options)
    except (D1Error, LayoutError, UsageError, OSError, httpx.TransportError) as error:
        print(f"d1: {error}", file=sys.stderr)
        return 1
    return 0


def program_parser() -> argparse.ArgumentParser:
    """Build the parser of what follows ``d1``."""
    parser = argparse.ArgumentParser(
        prog="python -m cms.sandbox d1", description="Simulate Thales D1 against the demo."
    )
    calls = ["activate", "set-pin", "get-pin", "counter"]
    parser.add_argument("command", choices=calls, help="what D1 calls; set-pin asks for the PIN")
    parser.add_argument("card_id", metavar="CARD_ID", help="which card, as card-0001")
    parser.add_argument(
        "--sandbox",
        metavar="PATH",
        type=Path,
        default=Path("var/sandbox.json"),
        help="what the demo wrote; var/sandbox.json unless said",
    )
    parser.add_argument("--issuer", metavar="ISSUER_ID", help="whose card; the first unless said")
    parser.add_argument(
        "--seccos",
        action="store_true",
        help="with set-pin: as 3DES SECCOS, whose layout is not public: ours",
    )
    return parser


def _run(options: argparse.Namespace) -> None:
    issuer_index, pan = _find(options.sandbox, options.issuer, options.card_id)
    config = d1.load(options.sandbox, issuer_index)
    seccos = _seccos(options, config.issuer_id) if options.seccos else None
    with D1Client(config) as client:
        match options.command:
            case "activate":
                client.activate(options.card_id)
            case "set-pin" if seccos:
                payload = seccos.payload(_ask_pin(), client.counter(options.card_id))
                client.set_pin_seccos(options.card_id, payload, seccos.type_literal)
            case "set-pin":
                client.set_pin(options.card_id, _ask_pin(), pan)
            case "get-pin":
                print(client.get_pin(options.card_id, pan))
            case "counter":
                print(client.counter(options.card_id))


def _find(sandbox: Path, issuer_id: str | None, card_id: str) -> tuple[int, str]:
    """Return the issuer's index in *sandbox* and the card's PAN."""
    for index, issuer in enumerate(json.loads(sandbox.read_text())["issuers"]):
        if issuer_id in (None, issuer["issuerId"]):
            pans = {card["cardId"]: card["pan"] for card in issuer["cards"]}
            if card_id not in pans:
                raise UsageError("no such card in the sandbox")
            return index, pans[card_id]
    raise UsageError("no such issuer in the sandbox")


def _seccos(options: argparse.Namespace, issuer_id: str) -> Seccos:
    if options.command != "set-pin":
        raise UsageError("--seccos goes with set-pin")
    seccos = d1_seccos.load(options.sandbox)
    if (seccos.issuer_id, seccos.card_id) != (issuer_id, options.card_id):
        raise UsageError(f"the SECCOS card of the sandbox is {seccos.card_id}")
    return seccos


def _ask_pin() -> str:
    if sys.stdin.isatty():
        pin = getpass.getpass("New PIN: ")
        if getpass.getpass("Again: ") != pin:
            raise UsageError("the two entries differ")
    else:
        pin = sys.stdin.readline().strip()
    if not PIN.fullmatch(pin):
        raise UsageError("a PIN is 4 to 12 digits")
    return pin

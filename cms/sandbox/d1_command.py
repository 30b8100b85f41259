"""``python -m cms d1``: play Thales D1 by hand against the sandbox."""

import argparse
import getpass
import json
import sys
from pathlib import Path

import httpx

from cms.sandbox.d1_client import PIN, D1Client, D1Error, load


class UsageError(Exception):
    """The person at the terminal asked for something that cannot be done."""


def main(argv: list[str]) -> int:
    """Run one command as D1 and return the exit code."""
    options = _parser().parse_args(argv)
    try:
        _run(options)
    except (D1Error, UsageError, OSError, httpx.TransportError) as error:
        print(f"d1: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="d1", description="Play Thales D1 against the service.")
    parser.add_argument("command", choices=["activate", "set-pin", "get-pin", "counter"])
    parser.add_argument("card_id", metavar="CARD_ID")
    parser.add_argument("--sandbox", metavar="PATH", type=Path, default=Path("var/sandbox.json"))
    parser.add_argument("--issuer", metavar="ISSUER_ID", help="default: the first")
    return parser


def _run(options: argparse.Namespace) -> None:
    issuer_index, pan = _find(options.sandbox, options.issuer, options.card_id)
    with D1Client(load(options.sandbox, issuer_index)) as client:
        match options.command:
            case "activate":
                client.activate(options.card_id)
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

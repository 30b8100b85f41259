"""The demo's issuers and their cards, with test PANs that schemes and processors publish."""

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cms.sandbox import files, keys
from cms.sandbox.operator_commands import run
from cms.sandbox.partners.jwe import encrypt
from cms.sandbox.partners.pin_blocks import iso0_block

ISSUERS: Final = ("demobank01", "demobank02")
PANS: Final[Mapping[str, Sequence[str]]] = {
    "demobank01": (
        *("4111111111111111", "5555555555554444", "4012888888881881"),
        "6725901234567890125",  # made up, with 19 digits, as a girocard has
    ),
    "demobank02": ("5105105105105100", "6011111111111117"),
}
#: These are cards of the first issuer. The PIN of this one goes through all faces.
CARDHOLDER_CARD: Final = "card-0001"
PERSONALISED_CARD: Final = "card-0002"
TRANSCRIPT_CARD: Final = "card-0003"
SECCOS_CARD: Final = "card-0004"
#: The names of cards at the pincontrol face.
PLASTIC_IDS: Final[Mapping[str, str]] = {
    CARDHOLDER_CARD: "90000000000001",
    PERSONALISED_CARD: "90000000000002",
}
#: The identity provider's name for the holder of ``CARDHOLDER_CARD``.
CARDHOLDER: Final = "cardholder-0001"
CARDHOLDERS: Final[Mapping[str, str]] = {
    CARDHOLDER_CARD: CARDHOLDER,
    PERSONALISED_CARD: "cardholder-0002",
}
EXPIRY_MONTH, EXPIRY_YEAR = "12", "30"
PIN_DIGITS: Final = 4
#: The name of the feed by which the cards of each issuer come in.
FEED: Final = "cards"


@dataclass(frozen=True)
class SampleCard:
    """A card as the demo knows it."""

    issuer_id: str
    card_id: str
    pan: str

    @property
    def psn(self) -> int:
        """Its PAN sequence number."""
        return 1 if self.card_id == SECCOS_CARD else 0

    @property
    def plastic_id(self) -> str | None:
        """Its name at the pincontrol face, if it is known there."""
        return PLASTIC_IDS.get(self.card_id) if self.issuer_id == ISSUERS[0] else None


def cards_of(issuer: str) -> list[SampleCard]:
    """List the cards of an issuer."""
    return [
        SampleCard(issuer, f"card-{number:04}", pan)
        for number, pan in enumerate(PANS[issuer], start=1)
    ]


def pan_of(card_id: str) -> str:
    """Return the PAN of a card of the first issuer."""
    return next(card.pan for card in cards_of(ISSUERS[0]) if card.card_id == card_id)


def draw_pin() -> str:
    """Draw a PIN with three different digits: no policy calls it weak."""
    pin = ""
    while len(set(pin)) != PIN_DIGITS - 1:
        pin = f"{secrets.randbelow(10**PIN_DIGITS):0{PIN_DIGITS}}"
    return pin


def make_feed_key(issuer: str) -> dict[str, object]:
    """Make the key of the issuer's feed of cards; return its entry of the manifest."""
    key = _feed_key(issuer)
    key.parent.mkdir(mode=0o700, exist_ok=True)
    key.unlink(missing_ok=True)
    words = ("feed-key", files.relative(key), "--name", FEED, "--no-passphrase")
    entry: dict[str, object] = json.loads(run("cms", "cards", *words))
    return entry


def import_cards(issuer: str) -> None:
    """Import the cards of an issuer; no PAN is in clear in what the operator gets."""
    plain, feed = files.FEEDS / f"{issuer}.jsonl", files.CONFIG / f"{issuer}-cards.feed"
    files.write(plain, "".join(json.dumps(_row(card)) + "\n" for card in cards_of(issuer)))
    key = ("--key", files.relative(_feed_key(issuer)), "--name", FEED)
    to = ("--intake-jwk", files.relative(files.INTAKE_JWKS), "--out", files.relative(feed))
    run("cms", "cards", "make-feed", issuer, files.relative(plain), *key, *to)
    plain.unlink()
    run("cms", "cards", "import", issuer, files.relative(feed))


def _feed_key(issuer: str) -> Path:
    return files.FEEDS / f"{issuer}.pem"


def _row(card: SampleCard) -> dict[str, object]:
    row: dict[str, object] = {
        "cardId": card.card_id,
        "pan": card.pan,
        "expiry": EXPIRY_MONTH + EXPIRY_YEAR,
        "psn": card.psn,
        "state": "inactive" if card.card_id == TRANSCRIPT_CARD else "active",
    }
    if card.plastic_id is not None:
        # A card that is made with a PIN brings it along.
        block = iso0_block(draw_pin(), card.pan)
        row |= {
            "plasticId": card.plastic_id,
            "cardholder": CARDHOLDERS[card.card_id],
            "personalised": False,
            "encryptedPinBlock": encrypt({"pinBlock": block}, keys.public_jwk(files.ISSUER_JWKS)),
        }
    return row

"""Writing feeds on the issuer's own machine: of key files, without HSM token or database."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from crypto.errors import JoseError
from crypto.jose import json_object, jwe, jws
from crypto.jose.jwk import EcPublicKey, parse_public
from hsm import key_file
from hsm.command_line import BYTE_ORDER_MARK
from hsm.errors import CardRefused, FeedRefused
from hsm.feed_cards import FeedCard, read_card
from hsm.feeds import CARDS_MAX, JWT, TWICE

LINE_BYTES_MAX: Final = 64 * 1024
CARDS_BYTES_MAX: Final = 560_000
"""Of the cards of one feed as JSON: in base64url twice, they are shorter than a feed may be."""


@dataclass(frozen=True, slots=True)
class RefusedLine:
    """A line, counted from 1, that describes no card, and why; no value is shown."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class FeedWriter:
    """Writes feeds of cards of one issuer."""

    issuer_id: str
    name: str
    """The feed's, as the manifest has it."""
    private: ec.EllipticCurvePrivateKey
    """Signs."""
    intake: EcPublicKey
    """The vault's key, to which feeds are encrypted."""
    made_at: int
    """Seconds since 1970."""

    def feeds(
        self, lines: Iterable[bytes], check: Callable[[FeedCard], None]
    ) -> Iterator[str | RefusedLine]:
        """Write the cards of a file, a JSON object a line (:mod:`hsm.feed_cards`), as feeds.

        Args:
            lines: those of the file; one that is empty is no card.
            check: raises CardRefused of a card whose other members are wrong.

        Returns:
            The feeds, each of as many cards as it may have, and the lines that describe no card.
        """
        seen = set()
        cards: list[Mapping[str, object]] = []
        size_bytes = 0
        for number, given in enumerate(lines, start=1):
            line = given.removeprefix(BYTE_ORDER_MARK) if number == 1 else given
            if not line.strip():
                continue
            try:
                members = _read_line(line)
                card = read_card(self.issuer_id, members)
                check(card)
            except CardRefused as error:
                yield RefusedLine(number, str(error))
                continue
            if card.card in seen:
                yield RefusedLine(number, TWICE)
                continue
            seen.add(card.card)
            card_bytes = len(json_object.serialize(members)) + 1
            if len(cards) == CARDS_MAX or size_bytes + card_bytes > CARDS_BYTES_MAX:
                yield self.write(cards)
                cards, size_bytes = [], 0
            cards.append(members)
            size_bytes += card_bytes
        if cards:
            yield self.write(cards)

    def write(self, cards: Iterable[Mapping[str, object]]) -> str:
        """Write one feed; the cards are not checked."""
        claims = {
            "iss": self.name,
            "aud": self.intake.kid,
            "issuerId": self.issuer_id,
            "iat": self.made_at,
            "cards": [*cards],
        }
        signing_input = jws.signing_input(claims, key_file.public(self.private).kid, JWT)
        signed = jws.attach(signing_input, key_file.sign(self.private, signing_input))
        ephemeral = ec.generate_private_key(ec.SECP256R1())
        return jwe.encrypt(
            signed.encode(), self.intake, ephemeral=ephemeral, random=os.urandom, cty=JWT
        )


def read_intake_key(text: bytes) -> EcPublicKey:
    """Read the vault's key: a JWK, or the first of a JWK set, which is the newest.

    Raises:
        FeedRefused: it is neither.
    """
    try:
        members = json_object.parse(text)
        keys = members.get("keys", [members])
        if isinstance(keys, list) and keys and isinstance(keys[0], dict):
            return parse_public(keys[0])
    except JoseError:
        pass
    raise FeedRefused("not a public P-256 key of role intake: see python -m hsm jwks intake")


def _read_line(line: bytes) -> dict[str, object]:
    try:
        return json_object.parse(line if len(line) <= LINE_BYTES_MAX else b"")
    except JoseError:
        raise CardRefused("not a JSON object") from None

"""EMV session keys for SECCOS blocks and MACs, as data that a token enciphers.

NOT PUBLIC: OUR DESIGN, out of EMV 4.3, Book 2, A1::

    card key      from the issuer's master key, PAN and PSN, option A
    session key   from the card key, R = counter, 2 bytes big-endian ‖ 6 zero bytes
"""

from dataclasses import dataclass

from crypto import emv
from crypto.emv import DerivationData
from crypto.padding import BLOCK_BYTES
from crypto.seccos.card import CardData


@dataclass(frozen=True, slots=True)
class SessionKeySteps:
    """What the master key enciphers, and then what the card key does."""

    card_key: DerivationData
    session_key: DerivationData


def emv_csk(card: CardData, counter: int) -> SessionKeySteps:
    """Return the two derivations for *counter*, which the profile keeps within 2 bytes."""
    diversifier = counter.to_bytes(2).ljust(BLOCK_BYTES, b"\0")
    return SessionKeySteps(
        emv.card_key_a(card.pan, card.psn),
        emv.session_key(diversifier),
    )

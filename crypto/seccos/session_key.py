"""EMV session keys for SECCOS blocks and MACs, as data that a token enciphers to make them.

NOT PUBLIC: OUR DESIGN, out of EMV 4.3, Book 2, A1::

    card key      under the issuer's master key, from PAN and PSN, option A
    session key   under the card key, from R = counter, 2 bytes big-endian ‖ 6 zero bytes
"""

from dataclasses import dataclass

from crypto.emv import key_derivation
from crypto.emv.key_derivation import DerivationData
from crypto.padding import TDES_BLOCK_BYTES
from crypto.seccos.card import CardData


@dataclass(frozen=True, slots=True)
class SessionKeySteps:
    """The two derivations: the first under the master key, the second under the card key."""

    card_key: DerivationData
    session_key: DerivationData


def emv_csk(card: CardData, counter: int) -> SessionKeySteps:
    """Return the derivations of the session key for *counter*.

    >>> from crypto.types import Pan
    >>> card = CardData(Pan("6725901234567890125"), psn=1, expiry_yymm="2912")
    >>> emv_csk(card, 7).session_key.key.hex()
    '0007f0000000000000070f0000000000'

    Args:
        card: its PAN and PSN make the card key.
        counter: the change counter, 0 to 65535; a profile with ``emv_csk`` allows no other.
    """
    diversifier = counter.to_bytes(2).ljust(TDES_BLOCK_BYTES, b"\0")
    return SessionKeySteps(
        key_derivation.card_key_a(card.pan, card.psn),
        key_derivation.session_key(diversifier),
    )

"""Keys of an EMV chip card: the card key under the issuer's master key, and session keys under it.

Sources: EMV 4.3, Book 2, A1.4 (card key) and A1.3.1 (common session key); EMV 4.1, Book 2,
A1.3 (tree); Visa Integrated Circuit Card Specification, appendix B (Visa session key).

A TDES key of 16 bytes is K1‖K2. It is made of two enciphered blocks and gets odd parity, so a
token can derive it and never show it::

    card key, option A    E_IMK( Y ) ‖ E_IMK( NOT Y )       Y the rightmost 16 digits of PAN‖PSN
    card key, option B    the same; Y from SHA-1( PAN‖PSN ) where the PAN is longer than 16 digits
    session key           E_MK( R, byte 2 = F0 ) ‖ E_MK( R, byte 2 = 0F )     R of 8 bytes

IMK is the issuer's master key, MK the card key, E_K TDES encryption in ECB mode.
"""

import hashlib
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from crypto.decimalisation import decimals_first
from crypto.errors import EmvError
from crypto.padding import TDES_BLOCK_BYTES
from crypto.pinblock.fields import xor
from crypto.secret import Secret
from crypto.software import tdes_encrypt_ecb
from crypto.types import PSN_MAX, Pan, TdesEcb

CARD_KEY_BYTES: Final = 16
CARD_KEY_DIGITS: Final = 16
HALF_BYTES: Final = 8
ATC_BYTES: Final = 2


@dataclass(frozen=True, slots=True)
class DerivationData:
    """The data that is enciphered in ECB mode under a parent key to make a child key.

    Each member is 16 bytes. It holds digits of the PAN or a counter, and no part of a key.
    """

    key: bytes
    """Makes the child key K1‖K2."""
    left: bytes
    """Makes K1‖K1, the second key that a retail MAC needs (:mod:`crypto.retail_mac`)."""


class Tree(IntEnum):
    """The shape of an EMV2000 key tree, named by its branch factor."""

    BRANCH_2 = 2
    BRANCH_4 = 4

    @property
    def height(self) -> int:
        """The number of levels below the card key: enough leaves for the 65536 values of ATC."""
        return 16 if self is Tree.BRANCH_2 else 8


def card_key_a(pan: Pan, psn: int) -> DerivationData:
    """Return the data that makes a card key by option A (EMV 4.3, Book 2, A1.4.1).

    >>> card_key_a(Pan("4111111111111111"), 1).key.hex()
    '1111111111111101eeeeeeeeeeeeeefe'

    Args:
        pan: the PAN of the card.
        psn: the PAN sequence number, 0 to 99.

    Raises:
        EmvError: *psn* is not 0 to 99.
    """
    digits = (pan.reveal() + _two_digits(psn))[-CARD_KEY_DIGITS:]
    return _card_key(digits.rjust(CARD_KEY_DIGITS, "0"))


def card_key_b(pan: Pan, psn: int) -> DerivationData:
    """Return the data that makes a card key by option B (EMV 4.3, Book 2, A1.4.2).

    A PAN of at most 16 digits gives the same data as :func:`card_key_a`.

    >>> card_key_b(Pan("4111111111111111"), 1) == card_key_a(Pan("4111111111111111"), 1)
    True

    Args:
        pan: the PAN of the card.
        psn: the PAN sequence number, 0 to 99.

    Raises:
        EmvError: *psn* is not 0 to 99.
    """
    if len(pan.reveal()) <= CARD_KEY_DIGITS:
        return card_key_a(pan, psn)
    account = pan.reveal() + _two_digits(psn)
    packed = bytes.fromhex(account.rjust(len(account) + len(account) % 2, "0"))
    # EMV prescribes SHA-1; it spreads the digits and guards nothing.
    nibbles = hashlib.sha1(packed, usedforsecurity=False).hexdigest()
    return _card_key(decimals_first(nibbles, CARD_KEY_DIGITS))


def session_key(diversifier: bytes) -> DerivationData:
    """Return the data that makes a common session key (EMV 4.3, Book 2, A1.3.1).

    >>> session_key(bytes.fromhex("0007000000000000")).key.hex()
    '0007f0000000000000070f0000000000'

    Args:
        diversifier: R, 8 bytes: the application cryptogram (ARQC) for script keys; the ATC and 6
            zero bytes for cryptogram keys.

    Raises:
        EmvError: *diversifier* is not 8 bytes.
    """
    if len(diversifier) != TDES_BLOCK_BYTES:
        raise EmvError
    left, right = (diversifier[:2] + mark + diversifier[3:] for mark in (b"\xf0", b"\x0f"))
    return DerivationData(left + right, left + left)


def derive(data: bytes, encrypt: TdesEcb) -> Secret[bytes]:
    """Make a child key in this process, as a token makes it inside itself.

    The example is the key for script integrity of a published test card.

    >>> from functools import partial
    >>> master = Secret(bytes.fromhex("0123456789ABCDEFFEDCBA9876543210"))
    >>> data = card_key_a(Pan("1234567890123456"), 1)
    >>> derive(data.key, partial(tdes_encrypt_ecb, master)).reveal().hex()
    'a7cd8a644a2fa829d0675210c4b001f1'

    Args:
        data: a member of :class:`DerivationData`.
        encrypt: TDES encryption in ECB mode under the parent key.

    Returns:
        A key as long as *data*, with odd parity.
    """
    return odd_parity(Secret(encrypt(data)))


def odd_parity(key: Secret[bytes]) -> Secret[bytes]:
    """Return *key* with odd parity: the last bit of each byte makes its number of ones odd.

    DES does not use these bits, but some devices check them (FIPS 46-3).

    >>> odd_parity(Secret(bytes([0x00, 0x01, 0x02, 0x03]))).reveal().hex()
    '01010202'
    """
    return Secret(bytes(byte ^ (byte.bit_count() + 1) % 2 for byte in key.reveal()))


def visa_session_key(card_key: Secret[bytes], atc: bytes) -> Secret[bytes]:
    """Return Visa's session key for scripts: card key XOR counter, 16 bytes with odd parity.

    ::

        session key   K1 XOR 000000000000‖ATC  ‖  K2 XOR 000000000000‖NOT ATC

    Args:
        card_key: K1‖K2, 16 bytes.
        atc: the application transaction counter, 2 bytes, big-endian.

    Raises:
        EmvError: *card_key* is not 16 bytes, or *atc* is not 2.
    """
    _require_sizes(card_key, atc)
    left = atc.rjust(HALF_BYTES, b"\0")
    right = _complement(atc).rjust(HALF_BYTES, b"\0")
    return odd_parity(Secret(xor(card_key.reveal(), left + right)))


def emv2000_session_key(
    card_key: Secret[bytes], atc: bytes, tree: Tree = Tree.BRANCH_4
) -> Secret[bytes]:
    """Return the session key of the tree method, 16 bytes with odd parity (EMV 4.1, Book 2, A1.3).

    Each level enciphers the key two levels up under the key one level up; the initial value is
    zero. EMVCo withdrew the method (bulletin SU-46, 2005), but some cards still use it.

    Args:
        card_key: K1‖K2, 16 bytes.
        atc: the application transaction counter, 2 bytes, big-endian.
        tree: the shape that the issuer chose.

    Raises:
        EmvError: *card_key* is not 16 bytes, or *atc* is not 2.
    """
    _require_sizes(card_key, atc)
    counter = int.from_bytes(atc)
    grandparent, parent = Secret(bytes(CARD_KEY_BYTES)), card_key
    for level in range(tree.height - 1, 0, -1):
        branch = counter // tree**level
        grandparent, parent = parent, _child(parent, grandparent, branch % tree)
    child = _child(parent, grandparent, counter % tree)
    return odd_parity(Secret(xor(child.reveal(), grandparent.reveal())))


def _card_key(digits: str) -> DerivationData:
    y = bytes.fromhex(digits)
    return DerivationData(y + _complement(y), y + y)


def _child(parent: Secret[bytes], grandparent: Secret[bytes], branch: int) -> Secret[bytes]:
    mark = branch.to_bytes(HALF_BYTES)
    marks = mark + xor(mark, b"\xf0".rjust(HALF_BYTES, b"\0"))
    return Secret(tdes_encrypt_ecb(parent, xor(grandparent.reveal(), marks)))


def _complement(data: bytes) -> bytes:
    return bytes(byte ^ 0xFF for byte in data)


def _two_digits(psn: int) -> str:
    if not 0 <= psn <= PSN_MAX:
        raise EmvError
    return f"{psn:02d}"


def _require_sizes(card_key: Secret[bytes], atc: bytes) -> None:
    if len(card_key.reveal()) != CARD_KEY_BYTES or len(atc) != ATC_BYTES:
        raise EmvError

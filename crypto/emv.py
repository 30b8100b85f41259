"""Keys of a chip card, and the issuer scripts that change its PIN.

Sources: EMV 4.3, Book 2, A1 and 9; EMV 4.1, Book 2, A1.3 (tree); Visa Integrated Circuit Card
Specification, appendix B (VIS block and session keys); IBM CCA, PIN change/unblock.

A key is two enciphered blocks with odd parity, so that a token can make it without showing it::

    card key, option A    E_IMK( Y ) ‖ E_IMK( not Y )       Y the 16 digits right in PAN‖PSN
    card key, option B    the same, Y from SHA-1( PAN‖PSN ) when the PAN is longer than 16 digits
    session key           E_MK( R, byte 2 = F0 ) ‖ E_MK( R, byte 2 = 0F )     R of 8 bytes

What the card gets, with all MACs by :mod:`crypto.retail_mac`::

    Mastercard    CBC( format-2 block )
    EMV (CCD)     CBC( format-2 block ‖ 80 00… )
    Visa          ECB( 08 ‖ VIS block ‖ 80 00… )
    command       84 24 00 P2 Lc ‖ enciphered data ‖ MAC
"""

import hashlib
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from crypto.errors import EmvError
from crypto.padding import BLOCK_BYTES, pad
from crypto.pinblock.fields import xor
from crypto.secret import Secret
from crypto.software import tdes_encrypt_ecb
from crypto.types import PIN_BLOCK_BYTES, PSN_MAX, Mac, Pan, Pin, PinBlock, TdesCbc, TdesEcb

KEY_BYTES: Final = 16
HALF_BYTES: Final = 8
DIGITS: Final = 16
ATC_BYTES: Final = 2
MAC_BYTES_MIN: Final = 4
MAC_BYTES_MAX: Final = 8
LC_MAX: Final = 255
DECIMAL: Final = "0123456789"
LETTERS: Final = str.maketrans("abcdef", "012345")
ZERO_IV: Final = bytes(BLOCK_BYTES)


@dataclass(frozen=True, slots=True)
class DerivationData:
    """What is enciphered in ECB mode under the parent key to make a child key; 16 bytes each.

    It holds digits of the PAN or a counter, and nothing of a key.
    """

    key: bytes
    """Makes the key K1‖K2."""
    left: bytes
    """Makes K1‖K1, the second key of a retail MAC."""


class PinChange(IntEnum):
    """P2 of PIN CHANGE/UNBLOCK (EMV 4.3, Book 3, 6.5.10; Visa)."""

    UNBLOCK = 0
    CHANGE_WITH_CURRENT_PIN = 1
    CHANGE = 2


class Tree(IntEnum):
    """An EMV2000 tree, named by its branch factor; its height makes room for every ATC."""

    BRANCH_2 = 2
    BRANCH_4 = 4

    @property
    def height(self) -> int:
        """The number of levels below the card key."""
        return 16 if self is Tree.BRANCH_2 else 8


def card_key_a(pan: Pan, sequence: int) -> DerivationData:
    """Return what the issuer master key enciphers for a card key, option A.

    Raises:
        EmvError: the PSN is not 0 to 99.
    """
    return _card_key((pan.reveal() + _two_digits(sequence))[-DIGITS:].rjust(DIGITS, "0"))


def card_key_b(pan: Pan, sequence: int) -> DerivationData:
    """Return what the issuer master key enciphers for a card key, option B.

    Raises:
        EmvError: the PSN is not 0 to 99.
    """
    if len(pan.reveal()) <= DIGITS:
        return card_key_a(pan, sequence)
    account = pan.reveal() + _two_digits(sequence)
    packed = bytes.fromhex(account.rjust(len(account) + len(account) % 2, "0"))
    # EMV prescribes SHA-1; it spreads the digits and guards nothing.
    nibbles = hashlib.sha1(packed, usedforsecurity=False).hexdigest()
    decimal = [nibble for nibble in nibbles if nibble in DECIMAL]
    letters = [nibble.translate(LETTERS) for nibble in nibbles if nibble not in DECIMAL]
    return _card_key("".join((decimal + letters)[:DIGITS]))


def session_key(diversifier: bytes) -> DerivationData:
    """Return what a card key enciphers for a common session key (EMV 4.3, Book 2, A1.3.1).

    Args:
        diversifier: R, 8 bytes: the ARQC for scripts, ATC and zeros for cryptograms.

    Raises:
        EmvError: it has another length.
    """
    _require(len(diversifier) == BLOCK_BYTES)
    left, right = (diversifier[:2] + mark + diversifier[3:] for mark in (b"\xf0", b"\x0f"))
    return DerivationData(left + right, left + left)


def derive(data: bytes, encrypt: TdesEcb) -> Secret[bytes]:
    """Make a key in this process, as a token does in itself: encipher, then set odd parity."""
    return odd_parity(Secret(encrypt(data)))


def odd_parity(key: Secret[bytes]) -> Secret[bytes]:
    """Return *key* with the last bit of each byte set so that the byte has an odd number of ones.

    DES does not use that bit.
    """
    return Secret(bytes(byte ^ (byte.bit_count() + 1) % 2 for byte in key.reveal()))


def visa_session_key(card_key: Secret[bytes], atc: bytes) -> Secret[bytes]:
    """Make a Visa secure messaging session key: K1 XOR ATC, K2 XOR not ATC, right-aligned.

    Raises:
        EmvError: the key is not of 16 bytes or the ATC not of 2.
    """
    _require(len(card_key.reveal()) == KEY_BYTES and len(atc) == ATC_BYTES)
    left = atc.rjust(HALF_BYTES, b"\0")
    right = _complement(atc).rjust(HALF_BYTES, b"\0")
    return odd_parity(Secret(xor(card_key.reveal(), left + right)))


def emv2000_session_key(
    card_key: Secret[bytes], atc: bytes, tree: Tree = Tree.BRANCH_4
) -> Secret[bytes]:
    """Make a session key by the tree of EMV 4.1, Book 2, A1.3; its initial value is zero.

    Each level enciphers the key two levels up under the key one level up. EMVCo withdrew the
    method (bulletin SU-46, 2005); cards that use it are still about.

    Raises:
        EmvError: the key is not of 16 bytes or the ATC not of 2.
    """
    _require(len(card_key.reveal()) == KEY_BYTES and len(atc) == ATC_BYTES)
    counter = int.from_bytes(atc)
    grandparent, parent = Secret(bytes(KEY_BYTES)), card_key
    for level in range(tree.height - 1, 0, -1):
        branch = counter // tree**level
        grandparent, parent = parent, _child(parent, grandparent, branch % tree)
    child = _child(parent, grandparent, counter % tree)
    return odd_parity(Secret(xor(child.reveal(), grandparent.reveal())))


def vis_block(pin: Pin, card_key_ac: Secret[bytes], current: Pin | None = None) -> PinBlock:
    """Build Visa's clear block of *pin*, bound to the card by its cryptogram key.

    ::

        00 00 00 00 ‖ last 4 bytes of K1  XOR  0N PIN F…  [ XOR  current PIN 0… ]

    Args:
        pin: the new PIN.
        card_key_ac: the card's key for application cryptograms, 16 bytes.
        current: the PIN on the card, for ``PinChange.CHANGE_WITH_CURRENT_PIN``.

    Raises:
        EmvError: the key is not of 16 bytes.
    """
    _require(len(card_key_ac.reveal()) == KEY_BYTES)
    digits = pin.reveal()
    field = f"0{len(digits):X}{digits}".ljust(2 * PIN_BLOCK_BYTES, "F")
    card = card_key_ac.reveal()[:HALF_BYTES][-4:].rjust(PIN_BLOCK_BYTES, b"\0")
    block = xor(bytes.fromhex(field), card)
    if current is not None:
        mask = current.reveal().ljust(2 * PIN_BLOCK_BYTES, "0")
        block = xor(block, bytes.fromhex(mask))
    return PinBlock(block)


def encipher_mastercard(data: Secret[bytes], encrypt: TdesCbc) -> bytes:
    """Encipher command data as Mastercard does: CBC, IV 0, padded only when it must be."""
    clear = data.reveal()
    return encrypt(ZERO_IV, pad(clear) if len(clear) % BLOCK_BYTES else clear)


def encipher_ccd(data: Secret[bytes], encrypt: TdesCbc) -> bytes:
    """Encipher command data as EMV and CCD do: CBC, IV 0, always padded."""
    return encrypt(ZERO_IV, pad(data.reveal()))


def encipher_visa(data: Secret[bytes], encrypt: TdesEcb) -> bytes:
    """Encipher command data as Visa does: its length in a byte in front, padded, ECB."""
    clear = data.reveal()
    _require(len(clear) <= LC_MAX)
    return encrypt(pad(bytes([len(clear)]) + clear))


def command_mac(
    header: bytes,
    data: bytes,
    mac: Mac,
    *,
    transaction: bytes = b"",
    size_bytes: int = MAC_BYTES_MAX,
) -> bytes:
    """Return the MAC of a script command (EMV 4.3, Book 2, 9.2.3).

    Args:
        header: CLA INS P1 P2 Lc; Lc counts the MAC as well.
        data: the enciphered data.
        mac: retail MAC under the session key for integrity.
        transaction: what the scheme puts between header and data and does not send, such as
            ATC and ARQC.
        size_bytes: how much of the MAC the card takes, 4 to 8 bytes.

    Raises:
        EmvError: it takes less or more.
    """
    _require(MAC_BYTES_MIN <= size_bytes <= MAC_BYTES_MAX)
    return mac(header + transaction + data)[:size_bytes]


def pin_change_command(
    change: PinChange,
    data: bytes,
    mac: Mac,
    *,
    transaction: bytes = b"",
    mac_bytes: int = MAC_BYTES_MAX,
) -> bytes:
    """Return the whole command PIN CHANGE/UNBLOCK; *data* is empty to unblock.

    Raises:
        EmvError: as :func:`command_mac`, or data and MAC are more than 255 bytes.
    """
    _require(len(data) + mac_bytes <= LC_MAX)
    header = bytes([0x84, 0x24, 0x00, change, len(data) + mac_bytes])
    tag = command_mac(header, data, mac, transaction=transaction, size_bytes=mac_bytes)
    return header + data + tag


def _card_key(digits: str) -> DerivationData:
    y = bytes.fromhex(digits)
    return DerivationData(y + _complement(y), y + y)


def _child(parent: Secret[bytes], grandparent: Secret[bytes], branch: int) -> Secret[bytes]:
    mark = branch.to_bytes(HALF_BYTES)
    marks = mark + xor(mark, b"\xf0".rjust(HALF_BYTES, b"\0"))
    return Secret(tdes_encrypt_ecb(parent, xor(grandparent.reveal(), marks)))


def _complement(data: bytes) -> bytes:
    return bytes(byte ^ 0xFF for byte in data)


def _two_digits(sequence: int) -> str:
    _require(0 <= sequence <= PSN_MAX)
    return f"{sequence:02d}"


def _require(condition: bool) -> None:
    if not condition:
        raise EmvError

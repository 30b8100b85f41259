"""Issuer scripts: the command PIN CHANGE/UNBLOCK, its enciphered data and its MAC.

Sources: EMV 4.3, Book 2, 9, and Book 3, 6.5.10; Visa Integrated Circuit Card Specification,
appendix B (VIS block); IBM CCA, "PIN change/unblock".

The scheme decides how the clear PIN block is enciphered; the command is the same for all::

    Mastercard    CBC( format-2 block )
    EMV (CCD)     CBC( format-2 block ‖ 80 00… )
    Visa          ECB( 08 ‖ VIS block ‖ 80 00… )
    command       84 24 00 P2 Lc ‖ enciphered data ‖ MAC

The ciphers and the retail MAC (:mod:`crypto.retail_mac`) are arguments: they work under session
keys (:mod:`crypto.emv.key_derivation`), which may stay in a token.
"""

from enum import IntEnum
from typing import Final

from crypto.emv.key_derivation import CARD_KEY_BYTES, HALF_BYTES
from crypto.errors import EmvError
from crypto.padding import TDES_BLOCK_BYTES, pad
from crypto.pinblock.fields import xor
from crypto.secret import Secret
from crypto.types import PIN_BLOCK_BYTES, Mac, Pin, PinBlock, TdesCbc, TdesEcb

MAC_BYTES_MIN: Final = 4
MAC_BYTES_MAX: Final = 8
LC_MAX: Final = 255
ZERO_IV: Final = bytes(TDES_BLOCK_BYTES)
CLA_INS_P1: Final = bytes.fromhex("842400")


class PinChange(IntEnum):
    """What the command does, by its parameter P2 (EMV 4.3, Book 3, 6.5.10; Visa for 1)."""

    UNBLOCK = 0
    """Resets the PIN try counter and leaves the PIN."""
    CHANGE_WITH_CURRENT_PIN = 1
    """Sets a new PIN; the block is bound to the current one (Visa only)."""
    CHANGE = 2
    """Sets a new PIN."""


def vis_block(pin: Pin, card_key_ac: Secret[bytes], current: Pin | None = None) -> PinBlock:
    """Build Visa's clear block of *pin*, bound to the card by its key for cryptograms.

    ::

        block   00 00 00 00 ‖ bytes 5 to 8 of the key  XOR  0N PIN F…  [ XOR  current PIN 0… ]

    >>> key = Secret(bytes.fromhex("A7CD8A644A2FA829D0675210C4B001F1"))
    >>> vis_block(Pin("1234"), key).reveal().hex()
    '041234ffb5d057d6'

    Args:
        pin: the new PIN.
        card_key_ac: the card's key for application cryptograms, 16 bytes.
        current: the PIN that is on the card, for ``PinChange.CHANGE_WITH_CURRENT_PIN``.

    Returns:
        8 clear bytes, as secret as the PIN.

    Raises:
        EmvError: *card_key_ac* is not 16 bytes.
    """
    key = card_key_ac.reveal()
    if len(key) != CARD_KEY_BYTES:
        raise EmvError
    digits = pin.reveal()
    field = f"0{len(digits):X}{digits}".ljust(2 * PIN_BLOCK_BYTES, "F")
    block = xor(bytes.fromhex(field), key[4:HALF_BYTES].rjust(PIN_BLOCK_BYTES, b"\0"))
    if current is not None:
        mask = current.reveal().ljust(2 * PIN_BLOCK_BYTES, "0")
        block = xor(block, bytes.fromhex(mask))
    return PinBlock(block)


def encipher_mastercard(data: Secret[bytes], encrypt: TdesCbc) -> bytes:
    """Encipher command data as Mastercard does: CBC with IV 0.

    Data is padded (method 2) only if its length is not a multiple of 8 bytes.
    """
    clear = data.reveal()
    return encrypt(ZERO_IV, pad(clear) if len(clear) % TDES_BLOCK_BYTES else clear)


def encipher_ccd(data: Secret[bytes], encrypt: TdesCbc) -> bytes:
    """Encipher command data as EMV and CCD do: always padded (method 2), CBC with IV 0."""
    return encrypt(ZERO_IV, pad(data.reveal()))


def encipher_visa(data: Secret[bytes], encrypt: TdesEcb) -> bytes:
    """Encipher command data as Visa does: its length in 1 byte, the data, padding; ECB.

    Raises:
        EmvError: *data* is longer than 255 bytes.
    """
    clear = data.reveal()
    if len(clear) > LC_MAX:
        raise EmvError
    return encrypt(pad(bytes([len(clear)]) + clear))


def command_mac(
    header: bytes,
    data: bytes,
    mac: Mac,
    *,
    transaction: bytes = b"",
    size_bytes: int = MAC_BYTES_MAX,
) -> bytes:
    """Return the MAC of a script command: the leftmost bytes (EMV 4.3, Book 2, 9.2.3).

    Args:
        header: CLA INS P1 P2 Lc, 5 bytes; Lc counts the MAC too.
        data: the enciphered data.
        mac: the retail MAC under the session key for integrity.
        transaction: bytes that the scheme puts between header and data for the MAC only and does
            not send, such as ATC and ARQC.
        size_bytes: the length of the MAC that the card expects, 4 to 8 bytes.

    Raises:
        EmvError: *size_bytes* is not 4 to 8.
    """
    if not MAC_BYTES_MIN <= size_bytes <= MAC_BYTES_MAX:
        raise EmvError
    return mac(header + transaction + data)[:size_bytes]


def pin_change_command(
    change: PinChange,
    data: bytes,
    mac: Mac,
    *,
    transaction: bytes = b"",
    mac_bytes: int = MAC_BYTES_MAX,
) -> bytes:
    """Return a whole command PIN CHANGE/UNBLOCK: header, enciphered data, MAC.

    >>> pin_change_command(PinChange.CHANGE, bytes(8), lambda message: message[-8:]).hex()
    '842400021000000000000000000000000000000000'

    Args:
        change: what the command does.
        data: the enciphered data; empty for ``PinChange.UNBLOCK``.
        mac: as for :func:`command_mac`.
        transaction: as for :func:`command_mac`.
        mac_bytes: the length of the MAC, 4 to 8 bytes.

    Raises:
        EmvError: *mac_bytes* is not 4 to 8, or data and MAC together are longer than 255 bytes.
    """
    if len(data) + mac_bytes > LC_MAX:
        raise EmvError
    header = CLA_INS_P1 + bytes([change, len(data) + mac_bytes])
    tag = command_mac(header, data, mac, transaction=transaction, size_bytes=mac_bytes)
    return header + data + tag

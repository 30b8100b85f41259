"""Format 4: PIN and PAN bound between two passes of AES; a block of 16 bytes.

Source: ISO 9564-1:2017, format 4 (ANSI X9.24-3 gives examples)::

    PIN field   4 N P P P P f f f f f f f f A A   and 8 random bytes   f = digit or A
    PAN field   M A A A A A A A A A A A A 0 0 0 … 0                    M = PAN digits - 12
    block       AES( AES( PIN field ) XOR PAN field )

The PAN is the whole PAN with its check digit; a PAN under 12 digits gets zeros
in front and M = 0. Both fields are 16 bytes, a nibble a character.
"""

from typing import Final

from crypto.errors import PinBlockError
from crypto.pinblock import PinBlockFormat
from crypto.pinblock.fields import FILL_NIBBLES_MAX, pin_field, read_pin_field, xor
from crypto.types import PIN_BLOCK_BYTES, BlockCipher, Pan, Pin, Random

BLOCK_BYTES: Final = 16
PAN_DIGITS_SHORT: Final = 12
FILL: Final = "A"


def encipher(pin: Pin, pan: Pan, random: Random, encrypt_block: BlockCipher) -> bytes:
    """Build the enciphered block of *pin* for *pan* with two calls of *encrypt_block*."""
    field = pin_field(PinBlockFormat.ISO4, pin, FILL * FILL_NIBBLES_MAX) + random(8)
    return encrypt_block(xor(encrypt_block(field), pan_field(pan)))


def decipher(block: bytes, pan: Pan, decrypt_block: BlockCipher) -> Pin:
    """Recover the PIN of a block made for *pan* under the key of *decrypt_block*.

    Another PAN or key gives random nibbles: about 6 in 10^8 decode at all.

    Raises:
        PinBlockError: for every way of being wrong.
    """
    if len(block) != BLOCK_BYTES:
        raise PinBlockError
    field = decrypt_block(xor(decrypt_block(block), pan_field(pan)))
    return read_pin_field(field[:PIN_BLOCK_BYTES], PinBlockFormat.ISO4, frozenset(FILL))


def pan_field(pan: Pan) -> bytes:
    """Lay out the whole *pan* in 16 bytes."""
    digits = pan.reveal().rjust(PAN_DIGITS_SHORT, "0")
    nibbles = f"{len(digits) - PAN_DIGITS_SHORT:X}{digits}"
    return bytes.fromhex(nibbles.ljust(2 * BLOCK_BYTES, "0"))

"""Format 1: the PIN without a PAN, made unique by a random transaction field.

Source: ISO 9564-1:2017, format 1::

    block   1 N P P P P t t t t t t t t T T   t = digit or T, T = any nibble
"""

from typing import Final

from crypto.pinblock import PinBlockFormat
from crypto.pinblock.fields import FILL_NIBBLES_MAX, pin_field, read_pin_field
from crypto.types import Pin, PinBlock, Random

FILL: Final = frozenset("0123456789ABCDEF")


def encode(pin: Pin, random: Random) -> PinBlock:
    """Build the clear block of *pin*, filled from 5 random bytes."""
    fill = random(FILL_NIBBLES_MAX // 2).hex()
    return PinBlock(pin_field(PinBlockFormat.ISO1, pin, fill))


def decode(block: PinBlock) -> Pin:
    """Recover the PIN.

    Raises:
        PinBlockError: for every way of being wrong.
    """
    return read_pin_field(block.reveal(), PinBlockFormat.ISO1, FILL)

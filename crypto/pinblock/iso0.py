"""Format 0: the PIN bound to the PAN, fill F; the same PIN always gives the same block.

Source: ISO 9564-1:2017, format 0 (ANSI X9.8)::

    PIN field   0 N P P P P f f f f f f f f F F   f = digit or F
    PAN field   0 0 0 0 A A A A A A A A A A A A
    block       PIN field XOR PAN field
"""

from typing import Final

from crypto.pinblock import PinBlockFormat
from crypto.pinblock.fields import FILL_NIBBLES_MAX, pan_field, pin_field, read_pin_field, xor
from crypto.types import Pan, Pin, PinBlock

FILL: Final = "F"


def encode(pin: Pin, pan: Pan) -> PinBlock:
    """Build the clear block of *pin* for *pan*; two parsed values cannot fail."""
    field = pin_field(PinBlockFormat.ISO0, pin, FILL * FILL_NIBBLES_MAX)
    return PinBlock(xor(field, pan_field(pan)))


def decode(block: PinBlock, pan: Pan) -> Pin:
    """Recover the PIN of a block made for *pan*.

    A block of another PAN may still decode, to another PIN: format 0 has no
    check value.

    Raises:
        PinBlockError: for every way of being wrong.
    """
    field = xor(block.reveal(), pan_field(pan))
    return read_pin_field(field, PinBlockFormat.ISO0, frozenset(FILL))

"""Format 2: the PIN as an IC card takes it, fill F; neither bound to a PAN nor unique.

Source: ISO 9564-1:2017, format 2::

    block   2 N P P P P f f f f f f f f F F   f = digit or F
"""

from typing import Final

from crypto.pinblock import PinBlockFormat
from crypto.pinblock.fields import FILL_NIBBLES_MAX, pin_field, read_pin_field
from crypto.types import Pin, PinBlock

FILL: Final = "F"


def encode(pin: Pin) -> PinBlock:
    """Build the clear block of *pin*."""
    return PinBlock(pin_field(PinBlockFormat.ISO2, pin, FILL * FILL_NIBBLES_MAX))


def decode(block: PinBlock) -> Pin:
    """Recover the PIN.

    Raises:
        PinBlockError: for every way of being wrong.
    """
    return read_pin_field(block.reveal(), PinBlockFormat.ISO2, frozenset(FILL))

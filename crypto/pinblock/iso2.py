"""PIN block format 2: the PIN as a chip card takes it; not bound to a PAN, and it repeats.

Source: ISO 9564-1:2017, 9.3, format 2. One character is one nibble::

    block   2 N P P P P f f f f f f f f F F   f = digit or F
"""

from typing import Final

from crypto.pinblock import PinBlockFormat
from crypto.pinblock.fields import FILL_NIBBLES_MAX, pin_field, read_pin_field
from crypto.types import Pin, PinBlock

CONTROL: Final = PinBlockFormat.ISO2.value << 4
FILL: Final = "f" * FILL_NIBBLES_MAX


def encode(pin: Pin) -> PinBlock:
    """Return the clear block of *pin*, 8 bytes.

    >>> encode(Pin("1234")).reveal().hex()
    '241234ffffffffff'
    """
    return PinBlock(pin_field(CONTROL, pin, FILL))


def decode(block: PinBlock) -> Pin:
    """Return the PIN of a clear block.

    >>> decode(PinBlock.from_hex("241234FFFFFFFFFF")).reveal()
    '1234'

    Raises:
        PinBlockError: *block* is not a format-2 block.
    """
    return read_pin_field(block.reveal(), CONTROL, FILL)

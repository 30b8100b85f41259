"""PIN block format 0: the PIN bound to the PAN by XOR; equal inputs give equal blocks.

Source: ISO 9564-1:2017, 9.3, format 0 (also ANSI X9.8). One character is one nibble::

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
    """Return the clear block of *pin* for *pan*, 8 bytes. It cannot fail: both are parsed.

    >>> encode(Pin("1234"), Pan("4111111111111111")).reveal().hex()
    '041225eeeeeeeeee'
    """
    field = pin_field(PinBlockFormat.ISO0, pin, FILL * FILL_NIBBLES_MAX)
    return PinBlock(xor(field, pan_field(pan)))


def decode(block: PinBlock, pan: Pan) -> Pin:
    """Return the PIN of a clear block that was made for *pan*.

    Format 0 has no check digits: a block of another PAN can decode to another PIN.

    >>> decode(PinBlock.from_hex("041225EEEEEEEEEE"), Pan("4111111111111111")).reveal()
    '1234'

    Raises:
        PinBlockError: *block* is not a format-0 block for *pan*.
    """
    field = xor(block.reveal(), pan_field(pan))
    return read_pin_field(field, PinBlockFormat.ISO0, frozenset(FILL))

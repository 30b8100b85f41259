"""PIN block format 0: the PIN bound to the PAN by XOR; equal inputs give equal blocks.

Source: ISO 9564-1:2017, 9.3, format 0 (also ANSI X9.8). One character is one nibble::

    PIN field   0 N P P P P f f f f f f f f F F   f = digit or F
    PAN field   0 0 0 0 A A A A A A A A A A A A
    block       PIN field XOR PAN field
"""

from typing import Final

from crypto.errors import PinBlockError
from crypto.pinblock import PinBlockFormat
from crypto.pinblock.fields import FILL_NIBBLES_MAX, pin_field, read_pin_field, xor_pan_field
from crypto.types import PIN_DIGITS_MAX, PIN_DIGITS_MIN, Pan, Pin, PinBlock

CONTROL: Final = PinBlockFormat.ISO0.value << 4
FILL: Final = "f" * FILL_NIBBLES_MAX


def encode(pin: Pin, pan: Pan) -> PinBlock:
    """Return the clear block of *pin* for *pan*, 8 bytes. It cannot fail: both are parsed.

    >>> encode(Pin("1234"), Pan("4111111111111111")).reveal().hex()
    '041225eeeeeeeeee'
    """
    return PinBlock(xor_pan_field(pin_field(CONTROL, pin, FILL), pan))


def pin_length(block: PinBlock) -> int:
    """Return how many digits the PIN of a clear block has, without the PAN: none of it is there.

    >>> pin_length(PinBlock.from_hex("041225EEEEEEEEEE"))
    4

    Raises:
        PinBlockError: the control nibble is not 0, or the length is not 4 to 12.
    """
    control, length = divmod(block.reveal()[0], 16)
    if control != PinBlockFormat.ISO0.value or not PIN_DIGITS_MIN <= length <= PIN_DIGITS_MAX:
        raise PinBlockError
    return length


def decode(block: PinBlock, pan: Pan) -> Pin:
    """Return the PIN of a clear block that was made for *pan*.

    Format 0 has no check digits: a block of another PAN can decode to another PIN.

    >>> decode(PinBlock.from_hex("041225EEEEEEEEEE"), Pan("4111111111111111")).reveal()
    '1234'

    Raises:
        PinBlockError: *block* is not a format-0 block for *pan*.
    """
    return read_pin_field(xor_pan_field(block.reveal(), pan), CONTROL, FILL)

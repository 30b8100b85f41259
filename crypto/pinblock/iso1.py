"""PIN block format 1: the PIN without a PAN; random fill makes each block different.

Source: ISO 9564-1:2017, 9.3, format 1. One character is one nibble::

    block   1 N P P P P t t t t t t t t T T   t = digit or T, T = any nibble
"""

from binascii import a2b_hex
from typing import Final

from crypto.pinblock import PinBlockFormat
from crypto.pinblock.fields import FIELD_NIBBLES, FILL_NIBBLES_MAX, pin_field, read_pin_field
from crypto.types import Pin, PinBlock, Random

CONTROL: Final = PinBlockFormat.ISO1.value << 4


def encode(pin: Pin, random: Random) -> PinBlock:
    """Return the clear block of *pin*, 8 bytes; *random* is asked for 5 bytes.

    >>> encode(Pin("12345"), lambda size: bytes.fromhex("EDCBA98765")[:size]).reveal().hex()
    '1512345edcba9876'
    """
    fill = random(FILL_NIBBLES_MAX // 2).hex()
    return PinBlock(pin_field(CONTROL, pin, fill))


def decode(block: PinBlock) -> Pin:
    """Return the PIN of a clear block.

    >>> decode(PinBlock.from_hex("1512345EDCBA9876")).reveal()
    '12345'

    Raises:
        PinBlockError: *block* is not a format-1 block.
    """
    field = block.reveal()
    # The fill may be digits: what is behind as many as the length says is made to look like none.
    used = field.hex()[: 2 + field[0] % 16]
    return read_pin_field(a2b_hex(used.ljust(FIELD_NIBBLES, "f")), CONTROL, "f")

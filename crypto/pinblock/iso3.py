"""Format 3: format 0 with a random fill of A to F, so that a block does not repeat.

Source: ISO 9564-1:2017, format 3::

    PIN field   3 N P P P P r r r r r r r r R R   r = digit or R, R = A to F
    PAN field   0 0 0 0 A A A A A A A A A A A A
    block       PIN field XOR PAN field
"""

from typing import Final

from crypto.pinblock import PinBlockFormat
from crypto.pinblock.fields import FILL_NIBBLES_MAX, pan_field, pin_field, read_pin_field, xor
from crypto.types import Pan, Pin, PinBlock, Random

FILL: Final = frozenset("ABCDEF")
RANDOM_BYTES: Final = 32


def encode(pin: Pin, pan: Pan, random: Random) -> PinBlock:
    """Build the clear block of *pin* for *pan*, filled from *random*."""
    field = pin_field(PinBlockFormat.ISO3, pin, _fill(random))
    return PinBlock(xor(field, pan_field(pan)))


def decode(block: PinBlock, pan: Pan) -> Pin:
    """Recover the PIN of a block made for *pan*.

    Raises:
        PinBlockError: for every way of being wrong.
    """
    field = xor(block.reveal(), pan_field(pan))
    return read_pin_field(field, PinBlockFormat.ISO3, FILL)


def _fill(random: Random) -> str:
    # 6 does not divide 16: nibbles below A are thrown away, since folding them
    # into A to F would make some fills likelier. 64 nibbles hold 24 on average.
    fill = ""
    while len(fill) < FILL_NIBBLES_MAX:
        fill += "".join(nibble for nibble in random(RANDOM_BYTES).hex().upper() if nibble in FILL)
    return fill

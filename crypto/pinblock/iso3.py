"""PIN block format 3: like format 0, but with random fill, so that a block does not repeat.

Source: ISO 9564-1:2017, 9.3, format 3. One character is one nibble::

    PIN field   3 N P P P P r r r r r r r r R R   r = digit or R, R = A to F
    PAN field   0 0 0 0 A A A A A A A A A A A A
    block       PIN field XOR PAN field
"""

from typing import Final

from crypto.pinblock import PinBlockFormat
from crypto.pinblock.fields import FILL_NIBBLES_MAX, pin_field, read_pin_field, xor_pan_field
from crypto.types import Pan, Pin, PinBlock, Random

CONTROL: Final = PinBlockFormat.ISO3.value << 4
FILL: Final = "abcdef"
DRAW_BYTES: Final = 32


def encode(pin: Pin, pan: Pan, random: Random) -> PinBlock:
    """Return the clear block of *pin* for *pan*, 8 bytes.

    >>> fill = bytes.fromhex("ABCDEF" * 10 + "0000")
    >>> encode(Pin("1234"), Pan("4111111111111111"), lambda size: fill).reveal().hex()
    '341225badcfebadc'

    Args:
        pin: the clear PIN.
        pan: the PAN to which the block is bound.
        random: gives the fill; it is asked for 32 bytes, rarely more than once.
    """
    return PinBlock(xor_pan_field(pin_field(CONTROL, pin, _fill(random)), pan))


def decode(block: PinBlock, pan: Pan) -> Pin:
    """Return the PIN of a clear block that was made for *pan*.

    >>> decode(PinBlock.from_hex("341225BADCFEBADC"), Pan("4111111111111111")).reveal()
    '1234'

    Raises:
        PinBlockError: *block* is not a format-3 block for *pan*.
    """
    return read_pin_field(xor_pan_field(block.reveal(), pan), CONTROL, FILL)


def _fill(random: Random) -> str:
    # Random nibbles below A are dropped. Mapping them into A to F would make some fills more
    # likely than others, since 6 does not divide 16. 64 nibbles hold 24 of A to F on average.
    fill = ""
    while len(fill) < FILL_NIBBLES_MAX:
        fill += "".join(nibble for nibble in random(DRAW_BYTES).hex() if nibble in FILL)
    return fill

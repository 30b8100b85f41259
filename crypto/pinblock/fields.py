"""The two 8-byte fields from which the formats are made.

Source: ISO 9564-1:2017, clause 9. One character is one nibble, left to right::

    PIN field   C N P P P P f f f f f f f f F F   C control, N PIN length, f digit or fill
    PAN field   0 0 0 0 A A A A A A A A A A A A   the 12 digits left of the check digit
"""

from typing import Final

from crypto.errors import PinBlockError
from crypto.pinblock import PinBlockFormat
from crypto.types import PIN_DIGITS_MAX, PIN_DIGITS_MIN, Pan, Pin

FIELD_NIBBLES: Final = 16
FILL_NIBBLES_MAX: Final = FIELD_NIBBLES - 2 - PIN_DIGITS_MIN
DECIMAL: Final = frozenset("0123456789")


def pin_field(control: PinBlockFormat, pin: Pin, fill: str) -> bytes:
    """Lay out *pin*; *fill* is at least ``FILL_NIBBLES_MAX`` nibbles, the rest is cut off."""
    digits = pin.reveal()
    nibbles = f"{control.value:X}{len(digits):X}{digits}{fill}"
    return bytes.fromhex(nibbles[:FIELD_NIBBLES])


def read_pin_field(field: bytes, control: PinBlockFormat, fill: frozenset[str]) -> Pin:
    """Take the PIN out of an 8-byte *field* whose fill nibbles must be in *fill*.

    Raises:
        PinBlockError: a nibble is wrong. Which one is never said: to somebody
            who chooses the PAN, that answer gives the PIN away digit by digit.
    """
    nibbles = field.hex().upper()
    length = int(nibbles[1], 16)
    digits, rest = nibbles[2 : 2 + length], nibbles[2 + length :]
    checks = (
        nibbles[0] == f"{control.value:X}",
        PIN_DIGITS_MIN <= length <= PIN_DIGITS_MAX,
        DECIMAL.issuperset(digits),
        fill.issuperset(rest),
    )
    # The tuple is complete before it is judged: no early return to be timed.
    if not all(checks):
        raise PinBlockError
    return Pin(digits)


def pan_field(pan: Pan) -> bytes:
    """Lay out the 12 digits of *pan* left of its check digit, zeros in front if it is short."""
    return bytes.fromhex(pan.reveal()[-13:-1].rjust(FIELD_NIBBLES, "0"))


def xor(left: bytes, right: bytes) -> bytes:
    """Add two fields of one length, bit by bit."""
    return (int.from_bytes(left) ^ int.from_bytes(right)).to_bytes(len(left))

"""The two 8-byte fields that formats 0 to 3 are made of.

Source: ISO 9564-1:2017, 9.3. One character is one nibble (4 bits), left to right::

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
    """Return the PIN field of *pin*, 8 clear bytes.

    >>> pin_field(PinBlockFormat.ISO2, Pin("12345"), "F" * 10).hex()
    '2512345fffffffff'

    Args:
        control: the format, which gives the first nibble.
        pin: the clear PIN.
        fill: at least ``FILL_NIBBLES_MAX`` (10) hexadecimal digits; those that do not fit are
            not used.
    """
    digits = pin.reveal()
    nibbles = f"{control.value:X}{len(digits):X}{digits}{fill}"
    return bytes.fromhex(nibbles[:FIELD_NIBBLES])


def read_pin_field(field: bytes, control: PinBlockFormat, fill: frozenset[str]) -> Pin:
    """Return the PIN of an 8-byte PIN field.

    >>> field = bytes.fromhex("2512345FFFFFFFFF")
    >>> read_pin_field(field, PinBlockFormat.ISO2, frozenset("F")).reveal()
    '12345'

    Args:
        field: the clear field.
        control: the format that its first nibble must name.
        fill: the nibbles that may stand behind the PIN, upper case.

    Raises:
        PinBlockError: the first nibble is not *control*, the length is not 4 to 12, a PIN digit
            is not decimal, or a fill nibble is not in *fill*. The error never says which: a
            caller who may choose the PAN would learn the PIN from it, digit by digit.
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
    """Return the PAN field of *pan*, 8 clear bytes; a short PAN gets zeros on the left.

    >>> pan_field(Pan("4111111111111111")).hex()
    '0000111111111111'
    """
    return bytes.fromhex(pan.reveal()[-13:-1].rjust(FIELD_NIBBLES, "0"))


def xor(left: bytes, right: bytes) -> bytes:
    """XOR two byte strings of equal length.

    >>> xor(bytes.fromhex("0F0F"), bytes.fromhex("00FF")).hex()
    '0ff0'
    """
    return (int.from_bytes(left) ^ int.from_bytes(right)).to_bytes(len(left))

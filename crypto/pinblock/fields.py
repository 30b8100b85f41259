"""The two 8-byte fields that formats 0 to 3 are made of.

Source: ISO 9564-1:2017, 9.3. One character is one nibble (4 bits), left to right::

    PIN field   C N P P P P f f f f f f f f F F   C control, N PIN length, f digit or fill
    PAN field   0 0 0 0 A A A A A A A A A A A A   the 12 digits left of the check digit
"""

from binascii import a2b_hex
from typing import Final

from crypto.errors import PinBlockError, PinError
from crypto.types import PIN_BLOCK_BYTES, PIN_DIGITS_MIN, Pan, Pin

FIELD_NIBBLES: Final = 16
FILL_NIBBLES_MAX: Final = FIELD_NIBBLES - 2 - PIN_DIGITS_MIN
# Formatting a number takes longer than all else that makes a field.
_HEX: Final = tuple(f"{byte:02x}" for byte in range(256))


def pin_field(control: int, pin: Pin, fill: str) -> bytes:
    """Return the PIN field of *pin*, 8 clear bytes.

    >>> pin_field(0x20, Pin("12345"), "f" * 10).hex()
    '2512345fffffffff'

    Args:
        control: the control nibble, as the upper half of a byte.
        pin: the clear PIN.
        fill: at least ``FILL_NIBBLES_MAX`` (10) hexadecimal digits; those that do not fit are
            not used.
    """
    digits = pin.reveal()
    return a2b_hex(f"{_HEX[control | len(digits)]}{digits}{fill}"[:FIELD_NIBBLES])


def read_pin_field(field: bytes, control: int, fill: str) -> Pin:
    """Return the PIN of an 8-byte PIN field.

    >>> field = bytes.fromhex("2512345FFFFFFFFF")
    >>> read_pin_field(field, 0x20, "f").reveal()
    '12345'

    Args:
        field: the clear field.
        control: the control nibble that it must have, as the upper half of a byte.
        fill: the nibbles that may stand behind the PIN, lower case, none of them a digit.

    Raises:
        PinBlockError: the first nibble is not *control*, the length is not 4 to 12, a PIN digit
            is not decimal, or a fill nibble is not in *fill*. The error never says which: a
            caller who may choose the PAN would learn the PIN from it, digit by digit.
    """
    # A wrong nibble of the fill is not stripped, nor what is before it: more than the length says.
    digits = field.hex()[2:].rstrip(fill)
    if field[0] != control | len(digits):
        # No PIN: refused where a wrong digit is, so that time does not tell one from the other.
        digits = ""
    try:
        return Pin(digits)
    except PinError:
        pass
    # Not while the other error is handled: it would be in the traceback.
    raise PinBlockError


def xor_pan_field(field: bytes, pan: Pan) -> bytes:
    """XOR 8 bytes with the PAN field of *pan*; a short PAN gets zeros on the left.

    >>> xor_pan_field(bytes(8), Pan("4111111111111111")).hex()
    '0000111111111111'
    """
    return (int.from_bytes(field) ^ int(pan.reveal()[-13:-1], 16)).to_bytes(PIN_BLOCK_BYTES)


def xor(left: bytes, right: bytes) -> bytes:
    """XOR two byte strings of equal length.

    >>> xor(bytes.fromhex("0F0F"), bytes.fromhex("00FF")).hex()
    '0ff0'
    """
    return (int.from_bytes(left) ^ int.from_bytes(right)).to_bytes(len(left))

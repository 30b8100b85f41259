"""Clear PIN blocks of ISO 9564-1, as D1 (format 0) and the script of a page (format 1) make them.

A block is 16 hexadecimal digits, upper case. It starts with the control nibble and the length of
the PIN, then the PIN; the rest is the fill ``F``, in format 1 random.
"""

import re
import secrets
from typing import Final

PIN: Final = re.compile(r"[0-9]{4,12}")
BLOCK_NIBBLES: Final = 16
#: The PIN field of a format-0 block: control 0, length L, PIN, fill F.
ISO0_FIELD: Final = re.compile(r"0([4-9A-C])([0-9]{4,12})(F{2,10})")


def pin_field(control: int, pin: str) -> str:
    """Build the PIN field of formats 0 and 2: control, length, PIN, fill F.

    Raises:
        ValueError: *pin* is not 4 to 12 digits.
    """
    return _length_and_pin(control, pin).ljust(BLOCK_NIBBLES, "F")


def iso0_block(pin: str, pan: str) -> str:
    """Build the format-0 block of *pin*: its field XOR the digits of *pan*.

    Raises:
        ValueError: *pin* is not 4 to 12 digits.
    """
    return f"{int(pin_field(0, pin), 16) ^ _pan_field(pan):016X}"


def iso0_pin(block_hex: str, pan: str) -> str:
    """Recover the PIN from a format-0 block for *pan*.

    Raises:
        ValueError: it is not such a block.
    """
    if not re.fullmatch(r"[0-9A-F]{16}", block_hex):
        raise ValueError("not a format-0 block")
    match = ISO0_FIELD.fullmatch(f"{int(block_hex, 16) ^ _pan_field(pan):016X}")
    if match is None or int(match[1], 16) != len(match[2]):
        raise ValueError("not a format-0 block")
    return match[2]


def iso1_block(pin: str) -> str:
    """Build a format-1 block of *pin*: it knows no PAN and its fill is random.

    Raises:
        ValueError: *pin* is not 4 to 12 digits.
    """
    start = _length_and_pin(1, pin)
    fill = (f"{secrets.randbelow(16):X}" for _ in range(BLOCK_NIBBLES - len(start)))
    return start + "".join(fill)


def _length_and_pin(control: int, pin: str) -> str:
    if not PIN.fullmatch(pin):
        raise ValueError("a PIN is 4 to 12 digits")
    return f"{control}{len(pin):X}{pin}"


def _pan_field(pan: str) -> int:
    # The 12 digits left of the check digit, read as hexadecimal: one digit, one nibble.
    return int(pan[-13:-1], 16)

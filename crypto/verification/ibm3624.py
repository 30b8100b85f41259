"""The IBM 3624 PIN offset: as many digits as the PIN.

Source: IBM CCA, "3624 PIN generation algorithm" and "3624 PIN offset generation"::

    validation data   16 hexadecimal digits out of the PAN, padded on the right
    natural PIN       E_PVK( validation data ), each nibble through the decimalisation
                      table, the leftmost digits
    offset            PIN - natural PIN, digit by digit modulo 10
"""

import re
from dataclasses import dataclass
from typing import Final

from crypto.errors import PanError, VerificationError
from crypto.secret import Secret
from crypto.types import PIN_DIGITS_MAX, PIN_DIGITS_MIN, Pan, Pin, TdesEcb

VALIDATION_NIBBLES: Final = 16
TABLE_DIGITS: Final = 16
TABLE_DIFFERENT_MIN: Final = 8
NIBBLES: Final = "0123456789abcdef"
_TABLE: Final = re.compile(f"[0-9]{{{TABLE_DIGITS}}}")
_PAD: Final = re.compile("[0-9A-F]")
_OFFSET: Final = re.compile(f"[0-9]{{{PIN_DIGITS_MIN},{PIN_DIGITS_MAX}}}")


@dataclass(frozen=True, slots=True)
class DecimalisationTable:
    """The digit for each nibble 0 to F: 16 digits, at least 8 of them different.

    A table with few digits makes most PINs alike, and whoever may choose the table reads a PIN
    out of the answers (Bond and Zielinski, 2003): it is vault configuration, never an argument
    from outside.

    Raises:
        VerificationError: the text is anything else.
    """

    digits: str

    def __post_init__(self) -> None:
        different = len({*self.digits})
        if not _TABLE.fullmatch(self.digits) or different < TABLE_DIFFERENT_MIN:
            raise VerificationError

    def apply(self, nibbles: str) -> str:
        """Replace each nibble of lower-case hexadecimal text."""
        return nibbles.translate(str.maketrans(NIBBLES, self.digits))


@dataclass(frozen=True, slots=True)
class ValidationRule:
    """Which digits of the PAN are validation data, and what fills them up to 16.

    Raises:
        VerificationError: *start* is negative, *length* is not 1 to 16, or *pad* is not one
            upper-case hexadecimal digit.
    """

    start: int = 0
    length: int = VALIDATION_NIBBLES
    pad: str = "F"

    def __post_init__(self) -> None:
        in_range = self.start >= 0 and 1 <= self.length <= VALIDATION_NIBBLES
        if not in_range or not _PAD.fullmatch(self.pad):
            raise VerificationError

    def apply(self, pan: Pan) -> bytes:
        """Return the 8 bytes of validation data.

        Raises:
            PanError: the PAN has too few digits for this rule.
        """
        digits = pan.reveal()[self.start : self.start + self.length]
        if len(digits) < self.length:
            raise PanError
        return bytes.fromhex(digits.ljust(VALIDATION_NIBBLES, self.pad))


def offset(
    pin: Pin, pan: Pan, rule: ValidationRule, table: DecimalisationTable, encrypt: TdesEcb
) -> Secret[str]:
    """Return the offset of *pin* for *pan*, as many digits as the PIN.

    Raises:
        PanError: the PAN has too few digits for *rule*.
    """
    digits = pin.reveal()
    natural = _natural(rule.apply(pan), table, encrypt)
    pairs = zip(digits, natural, strict=False)
    return Secret("".join(str((int(a) - int(b)) % 10) for a, b in pairs))


def pin_from_offset(
    offset: Secret[str],
    pan: Pan,
    rule: ValidationRule,
    table: DecimalisationTable,
    encrypt: TdesEcb,
) -> Pin:
    """Return the PIN that *offset* belongs to; an offset of zeros gives the natural PIN.

    Raises:
        VerificationError: the offset is not 4 to 12 ASCII digits.
        PanError: the PAN has too few digits for *rule*.
    """
    digits = offset.reveal()
    if not _OFFSET.fullmatch(digits):
        raise VerificationError
    natural = _natural(rule.apply(pan), table, encrypt)
    pairs = zip(digits, natural, strict=False)
    return Pin("".join(str((int(a) + int(b)) % 10) for a, b in pairs))


def _natural(validation: bytes, table: DecimalisationTable, encrypt: TdesEcb) -> str:
    return table.apply(encrypt(validation).hex())

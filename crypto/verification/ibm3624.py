"""The IBM 3624 PIN offset: as many digits as the PIN.

Source: IBM CCA, "3624 PIN generation algorithm" and "3624 PIN offset generation"::

    validation data   16 hexadecimal digits: digits of the PAN, then padding
    natural PIN       the leftmost digits of E_PVK( validation data ), after the decimalisation
                      table has replaced each nibble by a digit
    offset            PIN minus natural PIN, digit by digit, modulo 10

E_PVK is TDES encryption under the PIN verification key (PVK).
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
    """The digit that replaces each nibble 0 to F: 16 digits, at least 8 of them different.

    With few different digits most natural PINs are alike. A caller who may choose the table can
    find out a PIN (Bond and Zielinski, 2003), so it is part of the vault's configuration.

    Raises:
        VerificationError: the text is not 16 digits, or fewer than 8 of them are different.
    """

    digits: str

    def __post_init__(self) -> None:
        different = len({*self.digits})
        if not _TABLE.fullmatch(self.digits) or different < TABLE_DIFFERENT_MIN:
            raise VerificationError

    def apply(self, nibbles: str) -> str:
        """Replace each nibble of *nibbles*, hexadecimal text in lower case.

        >>> DecimalisationTable("0123456789012345").apply("09af")
        '0905'
        """
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

    >>> from functools import partial
    >>> from crypto.software import tdes_encrypt_ecb
    >>> pvk = Secret(bytes.fromhex("0123456789ABCDEFFEDCBA9876543210"))
    >>> encrypt = partial(tdes_encrypt_ecb, pvk)
    >>> table = DecimalisationTable("1234567890123456")
    >>> offset(Pin("5635"), Pan("1122334455667788"), ValidationRule(), table, encrypt).reveal()
    '1111'

    Args:
        pin: the clear PIN.
        pan: the PAN of the card.
        rule: which digits are validation data.
        table: the decimalisation table.
        encrypt: TDES encryption in ECB mode under the PVK.

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
    """Return the PIN that has *offset*; an offset of zeros gives the natural PIN.

    Args:
        offset: as many digits as the PIN.
        pan: as for :func:`offset`.
        rule: as for :func:`offset`.
        table: as for :func:`offset`.
        encrypt: as for :func:`offset`.

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

"""The IBM 3624 PIN offset: as many digits as the PIN.

Source: IBM CCA, "3624 PIN generation algorithm" and "3624 PIN offset generation"::

    validation data   16 hexadecimal digits: digits of the PAN and constants, by a template
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
_PART: Final = r"\{(left|right):([0-9]{1,2}):([1-9][0-9]?)\}|[0-9A-F]"
_PARTS: Final = re.compile(_PART)
_TEMPLATE: Final = re.compile(f"(?:{_PART})+")
_OFFSET: Final = re.compile(f"[0-9]{{{PIN_DIGITS_MIN},{PIN_DIGITS_MAX}}}")


@dataclass(frozen=True, slots=True)
class DecimalisationTable:
    """The digit that replaces each nibble 0 to F: 16 digits, at least 8 of them different.

    With few different digits most natural PINs are alike. A caller who may choose the table can
    find out a PIN (Bond and Zielinski, 2003), so it stands in the issuer's manifest.

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
class ValidationTemplate:
    """How the 16 digits of validation data are made of a PAN.

    *text* is hexadecimal digits in upper case, which stand for themselves, and places for digits
    of the PAN, which keep their order::

        {left:SKIP:COUNT}     COUNT digits from the left, after SKIP digits
        {right:SKIP:COUNT}    COUNT digits that end SKIP digits before the right end

    ``{right:1:12}`` is the 12 digits left of the check digit, whatever the length of the PAN:

    >>> template = ValidationTemplate("{right:1:12}FFFF")
    >>> template.apply(Pan("4111111111111111")).hex().upper()
    '111111111111FFFF'

    Raises:
        VerificationError: *text* has another form, does not make 16 digits, or has no place for
            the PAN.
    """

    text: str

    def __post_init__(self) -> None:
        digits = sum(int(part[3] or 1) for part in _PARTS.finditer(self.text))
        form_ok = _TEMPLATE.fullmatch(self.text) is not None and "{" in self.text
        if not form_ok or digits != VALIDATION_NIBBLES:
            raise VerificationError

    def apply(self, pan: Pan) -> bytes:
        """Return the 8 bytes of validation data of *pan*.

        Raises:
            PanError: the PAN has too few digits for a place of the template.
        """
        digits = pan.reveal()
        return bytes.fromhex(_PARTS.sub(lambda part: _fill(part, digits), self.text))


def offset(
    pin: Pin, pan: Pan, template: ValidationTemplate, table: DecimalisationTable, encrypt: TdesEcb
) -> Secret[str]:
    """Return the offset of *pin* for *pan*, as many digits as the PIN.

    >>> from functools import partial
    >>> from crypto.software import tdes_encrypt_ecb
    >>> pvk = Secret(bytes.fromhex("0123456789ABCDEFFEDCBA9876543210"))
    >>> encrypt = partial(tdes_encrypt_ecb, pvk)
    >>> table = DecimalisationTable("1234567890123456")
    >>> template = ValidationTemplate("{left:0:16}")
    >>> offset(Pin("5635"), Pan("1122334455667788"), template, table, encrypt).reveal()
    '1111'

    Args:
        pin: the clear PIN.
        pan: the PAN of the card.
        template: how the validation data is made of *pan*.
        table: the decimalisation table.
        encrypt: TDES encryption in ECB mode under the PVK.

    Raises:
        PanError: the PAN has too few digits for *template*.
    """
    digits = pin.reveal()
    natural = _natural(template.apply(pan), table, encrypt)
    pairs = zip(digits, natural, strict=False)
    return Secret("".join(str((int(a) - int(b)) % 10) for a, b in pairs))


def pin_from_offset(
    offset: Secret[str],
    pan: Pan,
    template: ValidationTemplate,
    table: DecimalisationTable,
    encrypt: TdesEcb,
) -> Pin:
    """Return the PIN that has *offset*; an offset of zeros gives the natural PIN.

    Args:
        offset: as many digits as the PIN.
        pan: as for :func:`offset`.
        template: as for :func:`offset`.
        table: as for :func:`offset`.
        encrypt: as for :func:`offset`.

    Raises:
        VerificationError: the offset is not 4 to 12 ASCII digits.
        PanError: the PAN has too few digits for *template*.
    """
    digits = offset.reveal()
    if not _OFFSET.fullmatch(digits):
        raise VerificationError
    natural = _natural(template.apply(pan), table, encrypt)
    pairs = zip(digits, natural, strict=False)
    return Pin("".join(str((int(a) + int(b)) % 10) for a, b in pairs))


def _natural(validation: bytes, table: DecimalisationTable, encrypt: TdesEcb) -> str:
    return table.apply(encrypt(validation).hex())


def _fill(part: re.Match[str], digits: str) -> str:
    """Return the digits of the PAN that stand in one place of a template."""
    if part[1] is None:
        return part[0]
    skip, count = int(part[2]), int(part[3])
    if skip + count > len(digits):
        raise PanError
    start = skip if part[1] == "left" else len(digits) - skip - count
    return digits[start : start + count]

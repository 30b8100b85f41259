"""Decimal digits out of hexadecimal text, as Visa PVV and EMV card keys of option B take them.

Source: IBM CCA, "PVV generation algorithm"; EMV 4.3, Book 2, A1.4.2::

    first scan    the digits 0 to 9, left to right
    second scan   the letters, left to right, A as 0 to F as 5
"""

from typing import Final

DECIMAL_DIGITS: Final = "0123456789"
_LETTERS: Final = str.maketrans("ABCDEF", "012345")


def decimals_first(nibbles: str, count: int) -> str:
    """Return the first *count* digits of both scans; fewer if *nibbles* is shorter.

    >>> decimals_first("ceecfdfef3acfdbd", 4)
    '3244'

    Args:
        nibbles: hexadecimal text, in either case.
        count: how many digits are wanted.
    """
    text = nibbles.upper()
    digits = [nibble for nibble in text if nibble in DECIMAL_DIGITS]
    letters = [nibble.translate(_LETTERS) for nibble in text if nibble not in DECIMAL_DIGITS]
    return "".join((digits + letters)[:count])

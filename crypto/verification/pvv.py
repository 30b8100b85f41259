"""The Visa PIN verification value: 4 digits.

Source: IBM CCA, "Visa PIN algorithms", after the Visa payment technology standards manual::

    TSP   A A A A A A A A A A A I P P P P   A the 11 digits left of the check digit,
                                            I the key index, P the first 4 PIN digits
    PVV   the first 4 decimal digits of E_PVK( TSP ); if there are fewer, the letters
          of the same text are gone through again, A as 0 to F as 5
"""

from dataclasses import dataclass
from typing import Final

from crypto.errors import PanError, VerificationError
from crypto.secret import Secret
from crypto.types import Pan, Pin, TdesEcb

PVV_DIGITS: Final = 4
PAN_DIGITS: Final = 11
KEY_INDEX_MIN: Final = 1
KEY_INDEX_MAX: Final = 6
DECIMAL: Final = "0123456789"
LETTERS: Final = str.maketrans("ABCDEF", "012345")


@dataclass(frozen=True, slots=True)
class KeyIndex:
    """The index of a PIN verification key, 1 to 6; it stands on the card's stripe too.

    Raises:
        VerificationError: another number.
    """

    value: int

    def __post_init__(self) -> None:
        if not KEY_INDEX_MIN <= self.value <= KEY_INDEX_MAX:
            raise VerificationError


def compute(pin: Pin, pan: Pan, index: KeyIndex, encrypt: TdesEcb) -> Secret[str]:
    """Return the PVV of *pin* for *pan*; digits of the PIN after the fourth do not count.

    Raises:
        PanError: the PAN has fewer than 12 digits.
    """
    account = pan.reveal()[-PAN_DIGITS - 1 : -1]
    if len(account) < PAN_DIGITS:
        raise PanError
    tsp = f"{account}{index.value}{pin.reveal()[:PVV_DIGITS]}"
    return Secret(scan(encrypt(bytes.fromhex(tsp)).hex()))


def scan(nibbles: str) -> str:
    """Take the 4 digits out of hexadecimal text: decimal ones first, then letters."""
    text = nibbles.upper()
    digits = [nibble for nibble in text if nibble in DECIMAL]
    letters = [nibble.translate(LETTERS) for nibble in text if nibble not in DECIMAL]
    return "".join((digits + letters)[:PVV_DIGITS])

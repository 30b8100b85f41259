"""The Visa PIN verification value (PVV): 4 digits.

Source: IBM CCA, "Visa PIN algorithms", after the Visa payment technology standards manual::

    TSP   A A A A A A A A A A A I P P P P   A the 11 digits left of the check digit,
                                            I the key index, P the first 4 PIN digits
    PVV   4 digits of E_PVK( TSP ), as :mod:`crypto.decimalisation` takes them

E_PVK is TDES encryption under the PIN verification key (PVK); TSP is 8 bytes, a nibble a digit.
"""

from dataclasses import dataclass
from typing import Final

from crypto.decimalisation import decimals_first
from crypto.errors import PanError, VerificationError
from crypto.secret import Secret
from crypto.types import Pan, Pin, TdesEcb

PVV_DIGITS: Final = 4
PAN_DIGITS: Final = 11
KEY_INDEX_MIN: Final = 1
KEY_INDEX_MAX: Final = 6


@dataclass(frozen=True, slots=True)
class KeyIndex:
    """The index of a PIN verification key (PVKI), 1 to 6; the magnetic stripe has it too.

    Raises:
        VerificationError: the number is not 1 to 6.
    """

    value: int

    def __post_init__(self) -> None:
        if not KEY_INDEX_MIN <= self.value <= KEY_INDEX_MAX:
            raise VerificationError


def compute(pin: Pin, pan: Pan, index: KeyIndex, encrypt: TdesEcb) -> Secret[str]:
    """Return the PVV of *pin* for *pan*, 4 digits; only the first 4 digits of the PIN count.

    >>> from functools import partial
    >>> from crypto.software import tdes_encrypt_ecb
    >>> pvk = Secret(bytes.fromhex("0123456789ABCDEFFEDCBA9876543210"))
    >>> encrypt = partial(tdes_encrypt_ecb, pvk)
    >>> compute(Pin("4524"), Pan("1122334455667788"), KeyIndex(1), encrypt).reveal()
    '8523'

    Args:
        pin: the clear PIN.
        pan: the PAN of the card.
        index: the index of the PVK.
        encrypt: TDES encryption in ECB mode under the PVK.

    Raises:
        PanError: the PAN has fewer than 12 digits.
    """
    account = pan.reveal()[-PAN_DIGITS - 1 : -1]
    if len(account) < PAN_DIGITS:
        raise PanError
    tsp = f"{account}{index.value}{pin.reveal()[:PVV_DIGITS]}"
    return Secret(decimals_first(encrypt(bytes.fromhex(tsp)).hex(), PVV_DIGITS))

"""What a PIN must not be: too short, too long, one digit repeated, a run.

A run steps by one through the whole PIN, up or down, and does not pass between
9 and 0: 1234 and 9876 are runs, 7890 and 1235 are not.
"""

from dataclasses import dataclass
from typing import Final

from crypto.errors import PinLengthError, WeakPinError
from crypto.types import PIN_DIGITS_MAX, PIN_DIGITS_MIN, Pin

ASCENDING: Final = "0123456789"
DESCENDING: Final = ASCENDING[::-1]


@dataclass(frozen=True)
class PinPolicy:
    """An issuer's rules for a PIN; lengths in digits, both ends included.

    Raises:
        ValueError: the lengths are not 4 <= min <= max <= 12.
    """

    length_min: int
    length_max: int
    refuse_repeated: bool = True
    refuse_runs: bool = True

    def __post_init__(self) -> None:
        if not PIN_DIGITS_MIN <= self.length_min <= self.length_max <= PIN_DIGITS_MAX:
            raise ValueError("PIN lengths must satisfy 4 <= min <= max <= 12")


def check(pin: Pin, policy: PinPolicy) -> None:
    """Pass if *pin* obeys *policy*.

    Raises:
        PinLengthError: it is shorter or longer than the policy allows.
        WeakPinError: it is one digit repeated or a run, and the policy minds.
    """
    digits = pin.reveal()
    if not policy.length_min <= len(digits) <= policy.length_max:
        raise PinLengthError
    repeated = len(set(digits)) == 1
    run = digits in ASCENDING or digits in DESCENDING
    if (policy.refuse_repeated and repeated) or (policy.refuse_runs and run):
        raise WeakPinError

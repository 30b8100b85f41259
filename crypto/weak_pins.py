"""The issuer's rules for a PIN: its length, and no PIN that is easy to guess.

Two kinds are easy to guess. A repeated PIN has one digit only, such as 7777. A run goes up or
down by one from its first digit to its last, and does not pass between 9 and 0: 1234 and 9876 are
runs, 7890 and 1235 are not. The rules are our own design: no
standard lists weak PINs.
"""

from dataclasses import dataclass
from typing import Final

from crypto.errors import PinLengthError, WeakPinError
from crypto.types import PIN_DIGITS_MAX, PIN_DIGITS_MIN, Pin

ASCENDING: Final = "0123456789"
DESCENDING: Final = ASCENDING[::-1]


@dataclass(frozen=True)
class PinPolicy:
    """An issuer's rules for a PIN. Lengths are in digits, and both limits are allowed lengths.

    Raises:
        ValueError: the lengths do not satisfy 4 <= min <= max <= 12.
    """

    length_min: int
    length_max: int
    refuse_repeated: bool = True
    refuse_runs: bool = True

    def __post_init__(self) -> None:
        if not PIN_DIGITS_MIN <= self.length_min <= self.length_max <= PIN_DIGITS_MAX:
            raise ValueError("PIN lengths must satisfy 4 <= min <= max <= 12")


def check_length(digits_count: int, policy: PinPolicy) -> None:
    """Return if a PIN of *digits_count* digits may obey *policy*, else raise.

    Raises:
        PinLengthError: it is shorter or longer than *policy* allows.
    """
    if not policy.length_min <= digits_count <= policy.length_max:
        raise PinLengthError


def check(pin: Pin, policy: PinPolicy) -> None:
    """Return if *pin* obeys *policy*, else raise.

    >>> check(Pin("1357"), PinPolicy(4, 6))
    >>> check(Pin("1234"), PinPolicy(4, 6))
    Traceback (most recent call last):
    crypto.errors.WeakPinError

    Raises:
        PinLengthError: *pin* is shorter or longer than *policy* allows.
        WeakPinError: *pin* is repeated or a run, and *policy* refuses that.
    """
    digits = pin.reveal()
    check_length(len(digits), policy)
    repeated = len(set(digits)) == 1
    run = digits in ASCENDING or digits in DESCENDING
    if (policy.refuse_repeated and repeated) or (policy.refuse_runs and run):
        raise WeakPinError

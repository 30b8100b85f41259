"""PANs inside text that people or programs chose: names, references, correlation ids.

A PAN may be written with separators: ``4111-1111 1111.1111``. So digits are joined over whatever
stands between them before they are looked at. Digits of every script count, by their value
(Unicode's Numeric_Type), full-width ones too.
"""

import re
import unicodedata
from collections.abc import Iterator
from itertools import accumulate
from typing import Final

from crypto.types import PAN_DIGITS_MAX, PAN_DIGITS_MIN, Pan

LIKELY_DIGITS_MIN: Final = 13
"""The shortest PAN that card schemes issue: a tenth of all numbers has a valid check digit."""
_DOUBLED: Final = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)
"""The sum of the digits of twice a digit."""
#: RFC 9562, with the version and the variant that it defines.
_UUID: Final = re.compile(
    r"(?<![0-9A-Za-z])[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[1-8][0-9A-Fa-f]{3}"
    r"-[89ABab][0-9A-Fa-f]{3}-[0-9A-Fa-f]{12}(?![0-9A-Za-z])"
)
_SEPARATORS: Final = re.compile(r"[\W_]+")
_NO_DIGITS: Final = bytes(set(range(128)) - set(b"0123456789"))
_LONG_NUMBER: Final = re.compile(rf"\d{{{LIKELY_DIGITS_MIN}}}")


def holds_pan(text: str, *, across_letters: bool = True) -> bool:
    """Tell whether *text* holds 13 to 19 digits in a row, separators apart, that could be a PAN.

    >>> holds_pan("card 4111-1111 1111.1111")
    True
    >>> holds_pan("card 4111-1111 1111.1113")
    False

    Args:
        text: the text.
        across_letters: whether letters separate digits of one number, as in ``4111x1111``. For
            text in which digits and letters mix by chance, as in an id, they should not; a UUID
            in it is then no number at all.
    """
    if not across_letters:
        text = _UUID.sub("uuid", text)
    # Every request has such a text, and few of them have so many digits.
    if sum(map(str.isdigit, text)) < LIKELY_DIGITS_MIN:
        return False
    return any(map(_holds_valid, _runs(text, across_letters=across_letters)))


def holds_long_number(text: str) -> bool:
    """Tell whether *text* holds as many digits in a row, separators apart, as a PAN has.

    For long text of anybody: :func:`holds_pan` would look at each of its digits seven times.
    Digits are folded one by one: to normalise a whole text takes the square of the number of
    combining marks in it.

    >>> holds_long_number("card 4111-1111 1111.1113")
    True
    """
    folded = text if text.isascii() else "".join(map(_folded, text))
    return _LONG_NUMBER.search(_SEPARATORS.sub("", folded)) is not None


def _folded(character: str) -> str:
    return unicodedata.normalize("NFKC", character) if character.isnumeric() else character


def holds_this_pan(text: str, pan: Pan) -> bool:
    """Tell whether *text* holds the digits of *pan*, whatever stands between them.

    >>> holds_this_pan("41111111x11111111", Pan("4111111111111111"))
    True
    """
    return any(pan.reveal() in run for run in _runs(text, across_letters=True))


def holds_pan_ending(text: str, last_four: str) -> bool:
    """Tell whether *text* holds digits that could be the PAN which ends in *last_four*.

    For whoever knows no more of a PAN. Rarely it says yes to a text that does not hold it.

    >>> holds_pan_ending("card 4111-1111 1111.1111", "1111")
    True
    """
    return any(
        run[:end].endswith(last_four) and Pan(run[end - count : end]).luhn_valid
        for run in _runs(text, across_letters=True)
        for end in range(PAN_DIGITS_MIN, len(run) + 1)
        for count in range(PAN_DIGITS_MIN, min(PAN_DIGITS_MAX, end) + 1)
    )


def _holds_valid(run: str) -> bool:
    """Tell whether 13 to 19 of the digits of *run* have a valid check digit (ISO/IEC 7812-1).

    Whoever sends a text chooses how often this looks, so each look is one difference of two sums:
    of the digits before a place, with those doubled that are at even places, or those at odd ones.
    """
    digits = [int(digit) for digit in run]
    sums = [
        list(
            accumulate(
                (
                    _DOUBLED[digit] if place % 2 == parity else digit
                    for place, digit in enumerate(digits)
                ),
                initial=0,
            )
        )
        for parity in (0, 1)
    ]
    for end in range(LIKELY_DIGITS_MIN, len(run) + 1):
        # The last digit of a PAN is not doubled, the one before it is, and so on.
        before = sums[end % 2]
        for start in range(max(0, end - PAN_DIGITS_MAX), end - LIKELY_DIGITS_MIN + 1):
            # No card scheme's starts with 0 (ISO/IEC 7812-1, major industry identifiers).
            if digits[start] != 0 and (before[end] - before[start]) % 10 == 0:
                return True
    return False


def _runs(text: str, *, across_letters: bool) -> Iterator[str]:
    """Join digits over what separates them; what else has a letter's role ends a run."""
    if across_letters and text.isascii():
        yield text.encode("ascii").translate(None, _NO_DIGITS).decode("ascii")
        return
    run: list[str] = []
    for character in text:
        value = unicodedata.digit(character, None)
        if value is not None:
            run.append(str(value))
        elif not across_letters and unicodedata.category(character).startswith(("L", "N")):
            yield "".join(run)
            run = []
    yield "".join(run)

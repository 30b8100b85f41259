"""PANs inside text that people or programs chose: names, references, correlation ids.

A PAN may be written with separators: ``4111-1111 1111.1111``. So digits are joined over whatever
stands between them before they are looked at. Digits of every script count, by their value
(Unicode's Numeric_Type), full-width ones too.
"""

import unicodedata
from collections.abc import Iterator

from crypto.types import PAN_DIGITS_MAX, PAN_DIGITS_MIN, Pan

LIKELY_DIGITS_MIN = 13
"""The shortest PAN that card schemes issue: a tenth of all numbers has a valid check digit."""


def holds_pan(text: str, *, across_letters: bool = True) -> bool:
    """Tell whether *text* holds 13 to 19 digits in a row, separators apart, that could be a PAN.

    >>> holds_pan("card 4111-1111 1111.1111")
    True
    >>> holds_pan("card 4111-1111 1111.1113")
    False

    Args:
        text: the text.
        across_letters: whether letters separate digits of one number, as in ``4111x1111``. For
            text in which digits and letters mix by chance, as in a UUID, they should not.
    """
    return any(
        Pan(run[start : start + count]).luhn_valid
        for run in _runs(text, across_letters=across_letters)
        for start in range(len(run) - LIKELY_DIGITS_MIN + 1)
        if run[start] != "0"  # no card scheme's (ISO/IEC 7812-1, major industry identifiers)
        for count in range(LIKELY_DIGITS_MIN, min(PAN_DIGITS_MAX, len(run) - start) + 1)
    )


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


def _runs(text: str, *, across_letters: bool) -> Iterator[str]:
    """Join digits over what separates them; what else has a letter's role ends a run."""
    run: list[str] = []
    for character in text:
        value = unicodedata.digit(character, None)
        if value is not None:
            run.append(str(value))
        elif not across_letters and unicodedata.category(character).startswith(("L", "N")):
            yield "".join(run)
            run = []
    yield "".join(run)

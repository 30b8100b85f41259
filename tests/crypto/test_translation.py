import itertools

import pytest

from crypto.errors import TranslationError
from crypto.pinblock import PinBlockFormat
from crypto.translation import permit

# Requirement 3-3 of PCI PIN Security 3.1, cell by cell: Y always, P with the same
# PAN, C for a card script, N never. Rows: from 0 to 4; columns: to 0 to 4.
TABLE = """
P N C P P
Y Y C Y Y
N N N N N
P N C P P
P N C P P
"""
CELLS = {
    (source, target): cell
    for source, line in enumerate(TABLE.split("\n")[1:-1])
    for target, cell in enumerate(line.split())
}


@pytest.mark.parametrize("same_pan", [False, True])
@pytest.mark.parametrize("for_card_script", [False, True])
@pytest.mark.parametrize(("source", "target"), list(itertools.product(range(5), repeat=2)))
def test_a_translation_is_permitted_where_the_table_says_so(
    source: int, target: int, *, same_pan: bool, for_card_script: bool
) -> None:
    expected = {"Y": True, "P": same_pan, "C": for_card_script, "N": False}[CELLS[source, target]]
    try:
        permit(
            PinBlockFormat(source),
            PinBlockFormat(target),
            same_pan=same_pan,
            for_card_script=for_card_script,
        )
    except TranslationError:
        assert not expected
    else:
        assert expected


def test_no_purpose_is_assumed() -> None:
    with pytest.raises(TranslationError):
        permit(PinBlockFormat.ISO0, PinBlockFormat.ISO2, same_pan=True)


@pytest.mark.parametrize("same_pan", [False, True])
@pytest.mark.parametrize(("source", "target"), list(itertools.product(range(5), repeat=2)))
def test_for_its_cardholder_a_pin_may_leave_its_pan_and_nothing_else_is_permitted(
    source: int, target: int, *, same_pan: bool
) -> None:
    formats = PinBlockFormat(source), PinBlockFormat(target)
    cell = CELLS[source, target]
    leaves_its_pan = same_pan and source in (0, 3, 4) and target == 1
    expected = leaves_its_pan or {"Y": True, "P": same_pan}.get(cell, False)
    try:
        permit(*formats, same_pan=same_pan, for_cardholder=True)
    except TranslationError:
        assert not expected
    else:
        assert expected

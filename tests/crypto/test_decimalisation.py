import pytest

from crypto.decimalisation import decimals_first
from tests.crypto.vectors import Row, rows


@pytest.mark.parametrize("row", rows("verification.json", "pvv_decimalization_scan"))
def test_decimal_digits_come_first_then_letters(row: Row) -> None:
    assert decimals_first(row["inputs"]["hex"], 4) == row["expected"]
    assert decimals_first(row["inputs"]["hex"].lower(), 4) == row["expected"]


def test_there_are_no_more_digits_than_nibbles() -> None:
    assert decimals_first("af", 4) == "05"

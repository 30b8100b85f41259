"""The field that is sealed for a card: its layout may not move, and it is always of one size."""

import pytest
from hypothesis import given, strategies

from crypto.types import Pan
from hsm.records import FIELD_BYTES, CardRecord, read_record, write_record
from tests.pans import PAN

DIGITS = "0123456789"
PRINTABLE = "".join(map(chr, range(32, 127)))


def test_a_record_is_pan_psn_expiry_plastic_id_and_cardholder() -> None:
    field = write_record(CardRecord(Pan(PAN), 7, "1230", "4711", "ann"))
    assert field == (
        b"\x10" + PAN.encode() + b"\0\0\0\x071230\x044711" + b"\0" * 34 + b"\x03ann" + b"\0" * 252
    )


@given(
    pan=strategies.text(DIGITS, min_size=8, max_size=19),
    psn=strategies.integers(0, 99),
    plastic_id=strategies.none() | strategies.integers(0, 10**38 - 1).map(str),
    cardholder_id=strategies.none() | strategies.text(PRINTABLE, min_size=1, max_size=255),
)
def test_every_record_is_read_as_it_was_written_and_of_one_size(
    pan: str, psn: int, plastic_id: str | None, cardholder_id: str | None
) -> None:
    record = CardRecord(Pan(pan), psn, "1229", plastic_id, cardholder_id)
    field = write_record(record)
    assert len(field) == FIELD_BYTES == 320
    read = read_record(field)
    assert read.pan.reveal() == pan
    assert (read.psn, read.expiry) == (psn, "1229")
    assert (read.plastic_id, read.cardholder_id) == (plastic_id, cardholder_id)


@pytest.mark.parametrize(
    ("member", "values"),
    [
        ("psn", (-1, "1230", None, None)),
        ("psn", (100, "1230", None, None)),
        ("expiry", (0, "1330", None, None)),
        ("expiry", (0, "123", None, None)),
        ("expiry", (0, "12/30", None, None)),
        ("plasticId", (0, "1230", "", None)),
        ("plasticId", (0, "1230", "01", None)),
        ("plasticId", (0, "1230", "9" * 39, None)),
        ("plasticId", (0, "1230", "４", None)),  # noqa: RUF001 - a digit of another script
        ("cardholder", (0, "1230", None, "")),
        ("cardholder", (0, "1230", None, "x" * 256)),
        ("cardholder", (0, "1230", None, "änn")),
        ("cardholder", (0, "1230", None, "ann\n")),
    ],
)
def test_a_value_that_is_none_is_named_by_its_member(
    member: str, values: tuple[int, str, str | None, str | None]
) -> None:
    with pytest.raises(ValueError, match=f"^{member}$"):
        CardRecord(Pan(PAN), *values)

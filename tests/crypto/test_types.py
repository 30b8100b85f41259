import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto.errors import PanError, PinBlockError, PinError
from crypto.types import Pan, Pin, PinBlock

# Arabic-Indic digits and the superscript two satisfy str.isdigit.
NOT_DIGITS = [
    "",
    "12a4",
    "-1234",
    "+1234",
    " 1234",
    "1234 ",
    "1234\n",
    "12_34",
    "\u0661" * 4,
    "1\u00b234",
]


@pytest.mark.parametrize("text", ["1234", "0000", "123456789012"])
def test_a_pin_is_4_to_12_digits(text: str) -> None:
    assert Pin(text).reveal() == text


@pytest.mark.parametrize("text", ["123", "1234567890123", *NOT_DIGITS])
def test_anything_else_is_no_pin(text: str) -> None:
    with pytest.raises(PinError):
        Pin(text)


@pytest.mark.parametrize("parse", [Pin, Pan])
def test_bytes_are_no_digits(parse: type[Pin] | type[Pan]) -> None:
    with pytest.raises(TypeError):
        parse(b"12345678")  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["12345678", "1234567890123456789"])
def test_a_pan_is_8_to_19_digits(text: str) -> None:
    assert Pan(text).reveal() == text


@pytest.mark.parametrize(
    "text", ["1234567", "12345678901234567890", *(f"4761{text}1234" for text in NOT_DIGITS[1:])]
)
def test_anything_else_is_no_pan(text: str) -> None:
    with pytest.raises(PanError):
        Pan(text)


@given(st.text())
def test_a_text_that_parses_is_made_of_ascii_digits(text: str) -> None:
    try:
        pin = Pin(text)
    except PinError:
        return
    assert set(pin.reveal()) <= set("0123456789")


def test_the_last_four_digits_of_a_pan_may_be_shown() -> None:
    assert Pan("4761739001010119").last_four == "0119"


@pytest.mark.parametrize(
    ("pan", "valid"),
    [
        ("4761739001010119", True),
        ("4111111111111111", True),
        ("378282246310005", True),
        ("79927398713", True),
        ("4761739001010118", False),
        ("4761739001010191", False),
        ("79927398710", False),
    ],
)
def test_luhn_is_known_but_not_required(pan: str, *, valid: bool) -> None:
    assert Pan(pan).luhn_valid is valid


@given(st.text("0123456789", min_size=7, max_size=18), st.data())
def test_luhn_sees_each_digit_that_is_not_right(payload: str, data: st.DataObject) -> None:
    valid = [payload + digit for digit in "0123456789" if Pan(payload + digit).luhn_valid]
    assert len(valid) == 1

    place = data.draw(st.integers(0, len(payload)))
    others = (valid[0][:place] + digit + valid[0][place + 1 :] for digit in "0123456789")
    assert [other for other in others if Pan(other).luhn_valid] == valid


@pytest.mark.parametrize("text", ["041223C6FFEFEFEE", "041223c6ffefefee", "041223c6FFEFefee"])
def test_a_block_is_read_from_hex_of_either_case(text: str) -> None:
    assert PinBlock.from_hex(text).reveal() == b"\x04\x12\x23\xc6\xff\xef\xef\xee"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "041223C6FFEFEF",
        "041223C6FFEFEFE",
        "041223C6FFEFEFEE0",
        "041223C6FFEFEFEE00",
        " 041223C6FFEFEFEE",
        "041223C6FFEFEFEE\n",
        "0412 23C6 FFEF EFEE",
        "041223C6 FEFEFEE",
        "0x1223C6FFEFEFEE",
        "0412_3C6FFEFEFEE",
        "041223C6FFEFEFEG",
        "\u066041223C6FFEFEFEE"[:16],
    ],
)
def test_other_text_is_no_block(text: str) -> None:
    with pytest.raises(PinBlockError):
        PinBlock.from_hex(text)


@pytest.mark.parametrize("size", [0, 7, 9, 16])
def test_a_block_is_8_bytes(size: int) -> None:
    with pytest.raises(PinBlockError):
        PinBlock(bytes(size))

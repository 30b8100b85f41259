import psec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto.errors import PanError, VerificationError
from crypto.secret import Secret
from crypto.types import Pan, Pin
from crypto.verification import ibm3624
from crypto.verification.ibm3624 import DecimalisationTable, ValidationTemplate
from tests.crypto.ciphers import tdes_ecb, triple
from tests.crypto.oracles import takes_tdes_the_old_way
from tests.crypto.strategies import pins
from tests.crypto.vectors import Row, rows

FILE = "verification.json"
KEY = bytes.fromhex("0123456789ABCDEFFEDCBA9876543210")
TABLE = DecimalisationTable("1234567890123456")
PAN = Pan("1122334455667788")
VALIDATION_DIGITS = 16

keys = st.binary(min_size=16, max_size=16)
tables = st.text("0123456789", min_size=16, max_size=16).filter(lambda text: len({*text}) >= 8)


def from_left(start: int, length: int, pad: str = "F") -> ValidationTemplate:
    """Write as a template what hosts also call start, length and pad character."""
    return ValidationTemplate(f"{{left:{start}:{length}}}" + pad * (16 - length))


@st.composite
def pans_and_slices(draw: st.DrawFn) -> tuple[str, int, int, str]:
    pan = draw(st.text("0123456789", min_size=8, max_size=19))
    start = draw(st.integers(0, len(pan) - 1))
    length = draw(st.integers(1, min(16, len(pan) - start)))
    return pan, start, length, draw(st.sampled_from("0123456789ABCDEF"))


def template_for(validation: str) -> ValidationTemplate:
    """Find the template that makes this validation data of PAN."""
    templates = [
        from_left(start, length, pad)
        for start in range(3)
        for length in (16 - 2 * (start > 0), 14)
        for pad in "F1"
        if start + length <= 16
    ]
    return next(found for found in templates if found.apply(PAN).hex().upper() == validation)


@pytest.mark.parametrize("row", rows(FILE, "ibm3624_offset"))
def test_published_offsets(row: Row) -> None:
    given = row["inputs"]
    template = template_for(given["validation_data"])
    encrypt = tdes_ecb(bytes.fromhex(given["pvk"]))
    table = DecimalisationTable(given["decimalization_table"])

    found = ibm3624.offset(Pin(given["pin"]), PAN, template, table, encrypt)

    assert found.reveal() == row["expected"]


@pytest.mark.parametrize("row", rows(FILE, "ibm3624_pin_from_offset"))
def test_published_pins(row: Row) -> None:
    given = row["inputs"]
    template = from_left(given["pan_verify_offset"], given["pan_verify_length"], given["pad"])
    encrypt = tdes_ecb(bytes.fromhex(given["pvk"]))
    table = DecimalisationTable(given["decimalization_table"])
    pan = Pan(given["pan"])

    assert template.apply(pan).hex().upper() == given["validation_data"]
    pin = ibm3624.pin_from_offset(Secret(given["offset"]), pan, template, table, encrypt)
    assert pin.reveal() == row["expected"]


@takes_tdes_the_old_way
@given(key=keys, pin=pins, digits=tables, pan_and_slice=pans_and_slices())
def test_psec_agrees(
    key: bytes, pin: str, digits: str, pan_and_slice: tuple[str, int, int, str]
) -> None:
    pan, start, length, pad = pan_and_slice
    template = from_left(start, length, pad)
    table, encrypt = DecimalisationTable(digits), tdes_ecb(key)

    offset = ibm3624.offset(Pin(pin), Pan(pan), template, table, encrypt)

    assert offset.reveal() == psec.pin.generate_ibm3624_offset(
        triple(key), digits, pin, pan, start, length, pad
    )
    back = ibm3624.pin_from_offset(offset, Pan(pan), template, table, encrypt)
    assert back.reveal() == pin


@st.composite
def templates_and_data(draw: st.DrawFn) -> tuple[str, str, str]:
    """Draw a PAN, a template with decimal constants, and the validation data, by slices."""
    pan, left = draw(st.text("0123456789", min_size=8, max_size=19)), VALIDATION_DIGITS
    text = data = ""
    while left:
        count = draw(st.integers(1, min(left, len(pan))))
        skip = draw(st.integers(0, len(pan) - count))
        end = draw(st.sampled_from(["left", "right", "constant"])) if text else "right"
        if end == "constant":
            constant = draw(st.text("0123456789", min_size=count, max_size=count))
            text, data = text + constant, data + constant
        else:
            text += f"{{{end}:{skip}:{count}}}"
            data += pan[skip:][:count] if end == "left" else pan[: len(pan) - skip][-count:]
        left -= count
    return pan, text, data


@takes_tdes_the_old_way
@given(key=keys, pin=pins, digits=tables, drawn=templates_and_data())
def test_psec_agrees_on_a_template(
    key: bytes, pin: str, digits: str, drawn: tuple[str, str, str]
) -> None:
    pan, text, data = drawn
    template, table = ValidationTemplate(text), DecimalisationTable(digits)

    offset = ibm3624.offset(Pin(pin), Pan(pan), template, table, tdes_ecb(key))

    assert template.apply(Pan(pan)).hex() == data
    assert offset.reveal() == psec.pin.generate_ibm3624_offset(
        triple(key), digits, pin, data, 0, 16, "F"
    )


def test_pans_of_16_and_19_digits_agree_when_counted_from_the_right() -> None:
    template = ValidationTemplate("{right:1:12}FFFF")

    assert template.apply(Pan("5022654123456782")).hex().upper() == "265412345678FFFF"
    assert template.apply(Pan("6725901234567890125")).hex().upper() == "123456789012FFFF"


def test_a_payshield_host_puts_the_last_five_digits_of_the_account_between_constants() -> None:
    # Its validation data "5022654000N2": N stands for these five digits.
    template = ValidationTemplate("5022654000{right:1:5}2")

    assert template.apply(Pan("5022654123456782")).hex() == "5022654000456782"


@pytest.mark.parametrize(
    "digits",
    [
        "",
        "123456789012345",
        "12345678901234567",
        "123456789012345A",
        "1234567890123456\n",
        "0000000000000000",
        "0123456012345601",
        "\u0661234567890123456"[:16],
    ],
)
def test_a_table_has_16_digits_of_which_8_differ(digits: str) -> None:
    with pytest.raises(VerificationError):
        DecimalisationTable(digits)


def test_a_table_of_8_different_digits_will_do() -> None:
    assert DecimalisationTable("0123456701234567").apply("0f") == "07"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0123456789ABCDEF",
        "{left:0:15}",
        "{left:0:17}",
        "{left:0:16}F",
        "{left:0:0}FFFFFFFFFFFFFFFF",
        "{left:0:-1}FFFFFFFFFFFFFFFFF",
        "{left:-1:16}",
        "{left:0:12}ffff",
        "{left:0:12}GGGG",
        "{left:0:12} FFFF",
        "{left:0:12}FFFF\n",
        "{middle:0:12}FFFF",
        "{left:0}FFFFFFFFFFFFFFF",
        "{left:0:12FFFF",
        "{left:\u0660:12}FFFF",
    ],
)
def test_a_template_that_is_none(text: str) -> None:
    with pytest.raises(VerificationError):
        ValidationTemplate(text)


@pytest.mark.parametrize(
    "text", ["{left:0:16}", "{left:8:8}FFFFFFFF", "{right:4:12}FFFF", "{left:99:1}" + "F" * 15]
)
def test_a_pan_too_short_for_the_template_has_no_offset(text: str) -> None:
    with pytest.raises(PanError):
        ValidationTemplate(text).apply(Pan("123456789012345"))


@pytest.mark.parametrize("offset", ["", "123", "1234567890123", "12a4", "1234\n"])
def test_an_offset_is_4_to_12_digits(offset: str) -> None:
    with pytest.raises(VerificationError):
        ibm3624.pin_from_offset(Secret(offset), PAN, from_left(0, 16), TABLE, tdes_ecb(KEY))

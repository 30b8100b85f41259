import psec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto.errors import PanError, VerificationError
from crypto.secret import Secret
from crypto.types import Pan, Pin
from crypto.verification import ibm3624
from crypto.verification.ibm3624 import DecimalisationTable, ValidationRule
from tests.crypto.ciphers import tdes_ecb, triple
from tests.crypto.oracles import takes_tdes_the_old_way
from tests.crypto.strategies import pins
from tests.crypto.vectors import Row, rows

FILE = "verification.json"
KEY = bytes.fromhex("0123456789ABCDEFFEDCBA9876543210")
TABLE = DecimalisationTable("1234567890123456")
PAN = Pan("1122334455667788")

keys = st.binary(min_size=16, max_size=16)
tables = st.text("0123456789", min_size=16, max_size=16).filter(lambda text: len({*text}) >= 8)


@st.composite
def pans_and_rules(draw: st.DrawFn) -> tuple[str, ValidationRule]:
    pan = draw(st.text("0123456789", min_size=8, max_size=19))
    start = draw(st.integers(0, len(pan) - 1))
    length = draw(st.integers(1, min(16, len(pan) - start)))
    return pan, ValidationRule(start, length, draw(st.sampled_from("0123456789ABCDEF")))


def rule_for(validation: str) -> ValidationRule:
    """Find the rule that makes this validation data of PAN."""
    rules = [
        ValidationRule(start, length, pad)
        for start in range(3)
        for length in (16 - 2 * (start > 0), 14)
        for pad in "F1"
        if start + length <= 16
    ]
    return next(rule for rule in rules if rule.apply(PAN).hex().upper() == validation)


@pytest.mark.parametrize("row", rows(FILE, "ibm3624_offset"))
def test_published_offsets(row: Row) -> None:
    given = row["inputs"]
    rule = rule_for(given["validation_data"])
    encrypt = tdes_ecb(bytes.fromhex(given["pvk"]))
    table = DecimalisationTable(given["decimalization_table"])

    found = ibm3624.offset(Pin(given["pin"]), PAN, rule, table, encrypt)

    assert found.reveal() == row["expected"]


@pytest.mark.parametrize("row", rows(FILE, "ibm3624_pin_from_offset"))
def test_published_pins(row: Row) -> None:
    given = row["inputs"]
    rule = ValidationRule(given["pan_verify_offset"], given["pan_verify_length"], given["pad"])
    encrypt = tdes_ecb(bytes.fromhex(given["pvk"]))
    table = DecimalisationTable(given["decimalization_table"])
    pan = Pan(given["pan"])

    assert rule.apply(pan).hex().upper() == given["validation_data"]
    pin = ibm3624.pin_from_offset(Secret(given["offset"]), pan, rule, table, encrypt)
    assert pin.reveal() == row["expected"]


@takes_tdes_the_old_way
@given(key=keys, pin=pins, digits=tables, pan_and_rule=pans_and_rules())
def test_psec_agrees(
    key: bytes, pin: str, digits: str, pan_and_rule: tuple[str, ValidationRule]
) -> None:
    pan, rule = pan_and_rule
    table, encrypt = DecimalisationTable(digits), tdes_ecb(key)
    theirs = (triple(key), digits, pin, pan, rule.start, rule.length, rule.pad)

    offset = ibm3624.offset(Pin(pin), Pan(pan), rule, table, encrypt)

    assert offset.reveal() == psec.pin.generate_ibm3624_offset(*theirs)
    back = ibm3624.pin_from_offset(offset, Pan(pan), rule, table, encrypt)
    assert back.reveal() == pin


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
    ("start", "length", "pad"),
    [
        (-1, 16, "F"),
        (0, 0, "F"),
        (0, 17, "F"),
        (0, 16, "f"),
        (0, 16, "G"),
        (0, 16, ""),
        (0, 9, "FF"),
    ],
)
def test_a_rule_that_is_none(start: int, length: int, pad: str) -> None:
    with pytest.raises(VerificationError):
        ValidationRule(start, length, pad)


@pytest.mark.parametrize(("start", "length"), [(0, 16), (8, 8), (15, 1), (30, 1)])
def test_a_pan_too_short_for_the_rule_has_no_offset(start: int, length: int) -> None:
    with pytest.raises(PanError):
        ValidationRule(start, length).apply(Pan("123456789012345"))


@pytest.mark.parametrize("offset", ["", "123", "1234567890123", "12a4", "1234\n"])
def test_an_offset_is_4_to_12_digits(offset: str) -> None:
    with pytest.raises(VerificationError):
        ibm3624.pin_from_offset(Secret(offset), PAN, ValidationRule(), TABLE, tdes_ecb(KEY))

import psec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto.errors import PanError, VerificationError
from crypto.types import Pan, Pin
from crypto.verification import pvv
from crypto.verification.pvv import KeyIndex
from tests.crypto.ciphers import tdes_ecb, triple
from tests.crypto.oracles import takes_tdes_the_old_way
from tests.crypto.strategies import pins
from tests.crypto.vectors import Row, rows

FILE = "verification.json"
KEY = bytes.fromhex("0123456789ABCDEFFEDCBA9876543210")
pans = st.text("0123456789", min_size=12, max_size=19)
keys = st.binary(min_size=16, max_size=16)


def computed(row: Row) -> str:
    given = row["inputs"]
    encrypt = tdes_ecb(bytes.fromhex(given["pvk"]))
    index = KeyIndex(int(given["pvki"]))
    return pvv.compute(Pin(given["pin"]), Pan(given["pan"]), index, encrypt).reveal()


@pytest.mark.parametrize("row", rows(FILE, "visa_pvv"))
def test_published_values(row: Row) -> None:
    assert computed(row) == row["expected"]


@pytest.mark.parametrize("row", rows(FILE, "visa_pvv_KNOWN_BAD_SOURCE"))
def test_a_published_value_that_is_wrong(row: Row) -> None:
    assert computed(row) == row["correct_value"] != row["expected"]


@takes_tdes_the_old_way
@given(key=keys, pin=pins, pan=pans, index=st.integers(1, 6))
def test_psec_agrees(key: bytes, pin: str, pan: str, index: int) -> None:
    ours = pvv.compute(Pin(pin), Pan(pan), KeyIndex(index), tdes_ecb(key)).reveal()

    assert ours == psec.pin.generate_visa_pvv(triple(key), str(index), pin[:4], pan)


@given(pin=pins, pan=pans)
def test_only_the_first_four_digits_of_the_pin_count(pin: str, pan: str) -> None:
    encrypt, index = tdes_ecb(KEY), KeyIndex(1)

    whole = pvv.compute(Pin(pin), Pan(pan), index, encrypt).reveal()

    assert whole == pvv.compute(Pin(pin[:4]), Pan(pan), index, encrypt).reveal()


def test_a_pan_under_12_digits_has_no_pvv() -> None:
    with pytest.raises(PanError):
        pvv.compute(Pin("1234"), Pan("12345678901"), KeyIndex(1), tdes_ecb(KEY))


@pytest.mark.parametrize("number", [-1, 0, 7, 10])
def test_a_key_index_is_1_to_6(number: int) -> None:
    with pytest.raises(VerificationError):
        KeyIndex(number)


def test_a_value_does_not_show_itself() -> None:
    value = pvv.compute(Pin("4524"), Pan("1122334455667788"), KeyIndex(1), tdes_ecb(KEY))

    assert "8523" not in f"{value!r} {value}"

import psec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto import retail_mac
from crypto.padding import pad
from crypto.types import TdesCbc
from tests.crypto.ciphers import (
    aes_cmac,
    tdes_cbc,
    tdes_cmac,
    tdes_ecb,
    tdes_ecb_decrypt,
    two_key_mac,
)
from tests.crypto.oracles import takes_tdes_the_old_way
from tests.crypto.vectors import Row, rows

FILE = "mac.json"
keys = st.binary(min_size=16, max_size=16)


def each(kind: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("row", rows(FILE, kind))


def padded(message: bytes, method: int) -> bytes:
    zeros = bytes(-len(message) % 8)
    return {
        1: message + zeros,
        2: pad(message),
        3: (8 * len(message)).to_bytes(8) + message + zeros,
    }[method]


def keys_of(row: Row) -> tuple[TdesCbc, TdesCbc]:
    given = {name: bytes.fromhex(text) for name, text in row["inputs"].items() if "key" in name}
    if "key" in given:
        return tdes_cbc(given["key"][:8] * 2), tdes_cbc(given["key"])
    # Here each of K1 and K2 is a TDES key itself: E1 D2 E1 is no key that a token could hold.
    first, second = tdes_cbc(given["key1"]), tdes_ecb_decrypt(given["key2"])
    return first, lambda iv, block: tdes_ecb(given["key1"])(second(first(iv, block)))


@each("retail_mac_iso9797_1_alg3")
def test_published_macs(row: Row) -> None:
    message = bytes.fromhex(row["inputs"]["data"])
    left, full = keys_of(row)
    blocks = padded(message, row["inputs"]["padding"])

    assert retail_mac.over_blocks(blocks, left, full).hex().upper() == row["expected"]
    if row["inputs"]["padding"] == 2:
        assert retail_mac.compute(message, left, full).hex().upper() == row["expected"]


@takes_tdes_the_old_way
@given(key=keys, message=st.binary(max_size=70))
def test_psec_agrees(key: bytes, message: bytes) -> None:
    expected = psec.mac.generate_retail_mac(key[:8] * 3, key[8:] * 3, message, 2, 8)

    assert two_key_mac(key)(message) == expected


def test_one_block_does_not_need_the_left_key() -> None:
    def never(iv: bytes, data: bytes) -> bytes:
        pytest.fail("the key was used")

    key = bytes(range(16))
    assert retail_mac.compute(b"1234567", never, tdes_cbc(key)) == two_key_mac(key)(b"1234567")


@each("cbc_mac_iso9797_1_alg1_tdes")
def test_the_cbc_of_these_tests_is_right(row: Row) -> None:
    blocks = padded(bytes.fromhex(row["inputs"]["data"]), row["inputs"]["padding"])
    encrypt = tdes_cbc(bytes.fromhex(row["inputs"]["key"]))

    assert encrypt(bytes(8), blocks)[-8:].hex().upper() == row["expected"]


@pytest.mark.parametrize("row", rows(FILE, "cmac_tdes", "cmac_aes128"))
def test_the_cmac_of_these_tests_is_right(row: Row) -> None:
    make = tdes_cmac if row["kind"] == "cmac_tdes" else aes_cmac
    mac = make(bytes.fromhex(row["inputs"]["key"]))

    assert mac(bytes.fromhex(row["inputs"]["data"])).hex().upper() == row["expected"]

"""The partners' clear PIN blocks, against published vectors and the service's own reader."""

import pytest
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes

from cms.sandbox.partners.pin_blocks import iso0_block, iso0_pin, iso1_block
from crypto.pinblock import iso1
from crypto.types import PinBlock
from tests.cms.sandbox.issuer import PAN


@pytest.mark.parametrize(
    ("pin", "pan", "block"),
    [
        ("1234", "5555555551234567", "041261AAAAEDCBA9"),
        ("123456789012", "5555555551234567", "0C1261032D8226A9"),
        ("1234", "4012345678909", "041274EDCBA9876F"),
        ("1234", "43219876543210987", "0412AC89ABCDEF67"),
        ("1234", "4987654321098765", "041242ABCDEF6789"),
        ("1234", "4761739001010010", "041223C6FFEFEFFE"),
        ("123456", "123456789012345678", "061253DFFEDCBA98"),
        ("123456", "1234567890123456", "0612713176FEDCBA"),
    ],
)
def test_iso0_published(pin: str, pan: str, block: str) -> None:
    assert iso0_block(pin, pan) == block
    assert iso0_pin(block, pan) == pin


def test_iso0_published_under_triple_des() -> None:
    key = TripleDES(bytes.fromhex("E8DD93B8AF13999C7644C0FE11F5D2A7E8DD93B8AF13999C"))
    encryptor = Cipher(key, modes.ECB()).encryptor()  # one block
    block = bytes.fromhex(iso0_block("123456", "4451234567890129"))

    assert encryptor.update(block).hex().upper() == "ABC5E23474210DAC"


@pytest.mark.parametrize(
    "pin", ["", "123", "1234567890123", "12a4", "\u0661\u0662\u0663\u0664", "1234\n"]
)
def test_no_block_for_what_is_no_pin(pin: str) -> None:
    with pytest.raises(ValueError, match="4 to 12 digits"):
        iso0_block(pin, PAN)


@pytest.mark.parametrize(
    "field_hex",
    [
        "141234FFFFFFFFFF",  # format 1
        "031234FFFFFFFFFF",  # 3 digits
        "0D1234567890123F",  # 13 digits
        "051234FFFFFFFFFF",  # a fill digit inside the PIN
        "0412345FFFFFFFFF",  # a digit inside the fill
        "041234FFFFFFFFFE",
        "0412A4FFFFFFFFFF",
    ],
)
def test_no_pin_from_what_is_no_block(field_hex: str) -> None:
    block = f"{int(field_hex, 16) ^ int(PAN[-13:-1], 16):016X}"

    with pytest.raises(ValueError, match="not a format-0 block"):
        iso0_pin(block, PAN)


@pytest.mark.parametrize("block", ["", "041223C6FFEFEFF", "041223c6ffefeffe", " 41223C6FFEFEFFE"])
def test_block_is_16_upper_case_hexadecimal_digits(block: str) -> None:
    with pytest.raises(ValueError, match="not a format-0 block"):
        iso0_pin(block, PAN)


@pytest.mark.parametrize("digits", range(4, 13))
def test_the_vault_reads_the_pin_from_the_block(digits: int) -> None:
    pin = "902837465192"[:digits]
    assert iso1.decode(PinBlock.from_hex(iso1_block(pin))).reveal() == pin


def test_the_same_pin_makes_another_block_each_time() -> None:
    assert len({iso1_block("4071") for _ in range(10)}) == 10

import pytest

from crypto.errors import PanError, PinBlockError
from crypto.pinblock import iso0, iso1, iso2, iso3, iso4
from crypto.types import Pan, Pin, PinBlock
from tests.crypto.ciphers import aes_cbc, aes_decrypt, tdes_encrypt
from tests.crypto.vectors import Row, rows

FILE = "pinblock.json"


def each(kind: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("row", rows(FILE, kind))


def text(block: bytes) -> str:
    return block.hex().upper()


@each("pinblock_iso0")
def test_format_0(row: Row) -> None:
    pin, pan = row["inputs"]["pin"], Pan(row["inputs"]["pan"])

    assert text(iso0.encode(Pin(pin), pan).reveal()) == row["expected"]
    assert iso0.decode(PinBlock.from_hex(row["expected"]), pan).reveal() == pin


@each("pinblock_iso0_tdes_ecb")
def test_format_0_under_tdes(row: Row) -> None:
    block = iso0.encode(Pin(row["inputs"]["pin"]), Pan(row["inputs"]["pan"]))
    key = bytes.fromhex(row["inputs"]["key"])

    assert text(tdes_encrypt(key, block.reveal())) == row["expected"]


@each("pinblock_iso0_decode_reject")
def test_format_0_refuses(row: Row) -> None:
    pan = Pan(row["inputs"]["pan"])

    with pytest.raises(PinBlockError):
        iso0.decode(PinBlock.from_hex(row["inputs"]["pin_block"]), pan)


@each("pinblock_iso1")
def test_format_1(row: Row) -> None:
    # 9 nibbles of fill are given, 5 bytes are asked for: the last nibble is cut off.
    fill = bytes.fromhex(row["inputs"]["fill_nibbles"] + "0")
    block = iso1.encode(Pin(row["inputs"]["pin"]), lambda size: fill[:size])

    assert text(block.reveal()) == row["expected"]


@each("pinblock_iso1_decode")
def test_format_1_decodes(row: Row) -> None:
    block = PinBlock.from_hex(row["inputs"]["pin_block"])

    assert iso1.decode(block).reveal() == row["expected"]


@each("pinblock_iso2")
def test_format_2(row: Row) -> None:
    pin = row["inputs"]["pin"]

    assert text(iso2.encode(Pin(pin)).reveal()) == row["expected"]
    assert iso2.decode(PinBlock.from_hex(row["expected"])).reveal() == pin


@each("pinblock_iso3_decode")
def test_format_3_decodes(row: Row) -> None:
    block = PinBlock.from_hex(row["inputs"]["pin_block"])

    assert iso3.decode(block, Pan(row["inputs"]["pan"])).reveal() == row["expected"]


@each("pinblock_iso4")
def test_format_4(row: Row) -> None:
    given = row["inputs"]
    key, pan = bytes.fromhex(given["key"]), Pan(given["pan"])
    random = bytes.fromhex(given["random"])

    block = iso4.encipher(Pin(given["pin"]), pan, lambda size: random[:size], aes_cbc(key))

    assert text(block) == row["expected"]
    assert iso4.decipher(block, pan, aes_decrypt(key)).reveal() == given["pin"]


@each("pinblock_iso4_decode")
def test_format_4_decodes(row: Row) -> None:
    given = row["inputs"]
    cipher = aes_decrypt(bytes.fromhex(given["key"]))
    pin = iso4.decipher(bytes.fromhex(given["pin_block"]), Pan(given["pan"]), cipher)

    assert pin.reveal() == row["expected"]


@each("pinblock_iso4_decode_reject")
def test_format_4_refuses(row: Row) -> None:
    given = row["inputs"]
    cipher = aes_decrypt(bytes.fromhex(given["key"]))
    pan = Pan(given["pan"])

    with pytest.raises(PinBlockError):
        iso4.decipher(bytes.fromhex(given["pin_block"]), pan, cipher)


@each("pinblock_iso4_pan_field")
def test_format_4_pan_field(row: Row) -> None:
    assert text(iso4.pan_field(Pan(row["inputs"]["pan"]))) == row["expected"]


@each("pinblock_iso4_short_pan")
def test_a_pan_of_one_digit_is_no_pan_here(row: Row) -> None:
    with pytest.raises(PanError):
        Pan(row["inputs"]["pan"])

"""psec, another implementation of ISO 9564-1, must agree on every block."""

from collections.abc import Callable

import psec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto.errors import PinBlockError
from crypto.pinblock import iso0, iso2, iso3, iso4
from crypto.types import Pan, Pin, PinBlock, Random
from tests.crypto.ciphers import aes_cbc, aes_decrypt, aes_encrypt
from tests.crypto.strategies import pins, randoms, seeded

# psec wants 13 digits for formats 0 and 3.
pans = st.text("0123456789", min_size=13, max_size=19)
pans4 = st.text("0123456789", min_size=8, max_size=19)
KEY = bytes(range(16))

theirs = psec.pinblock


@given(pin=pins, pan=pans)
def test_format_0(pin: str, pan: str) -> None:
    block = iso0.encode(Pin(pin), Pan(pan)).reveal()

    assert block == theirs.encode_pinblock_iso_0(pin, pan)
    assert theirs.decode_pinblock_iso_0(block, pan) == pin


@given(pin=pins)
def test_format_2(pin: str) -> None:
    block = iso2.encode(Pin(pin)).reveal()

    assert block == theirs.encode_pinblock_iso_2(pin)
    assert theirs.decode_pinblock_iso_2(block) == pin


@given(pin=pins, pan=pans, random=randoms)
def test_format_3(pin: str, pan: str, random: Random) -> None:
    ours = iso3.encode(Pin(pin), Pan(pan), random).reveal()
    other = PinBlock(theirs.encode_pinblock_iso_3(pin, pan))

    assert theirs.decode_pinblock_iso_3(ours, pan) == pin
    assert iso3.decode(other, Pan(pan)).reveal() == pin


@given(pin=pins, pan=pans4, random=randoms)
def test_format_4(pin: str, pan: str, random: Random) -> None:
    ours = iso4.encipher(Pin(pin), Pan(pan), random, aes_cbc(KEY))
    other = theirs.encipher_pinblock_iso_4(KEY, pin, pan)

    assert theirs.decipher_pinblock_iso_4(KEY, ours, pan) == pin
    assert iso4.decipher(other, Pan(pan), aes_decrypt(KEY)).reveal() == pin


@given(several=st.lists(st.tuples(pins, pans4), max_size=5), random=randoms)
def test_format_4_of_several_at_once(several: list[tuple[str, str]], random: Random) -> None:
    typed = [Pin(pin) for pin, _ in several], [Pan(pan) for _, pan in several]
    ours = iso4.encipher_all(*typed, random, aes_encrypt(KEY))
    others = [theirs.encipher_pinblock_iso_4(KEY, pin, pan) for pin, pan in several]

    opened = [
        theirs.decipher_pinblock_iso_4(KEY, block, pan)
        for block, (_, pan) in zip(ours, several, strict=True)
    ]
    read = iso4.decipher_all(others, typed[1], aes_decrypt(KEY))
    assert opened == [pin.reveal() for pin in read if pin] == [pin for pin, _ in several]


def test_format_4_of_several_tells_which_is_not_for_its_pan() -> None:
    first, second = Pan("4761739001010119"), Pan("4111111111111111")
    blocks = [theirs.encipher_pinblock_iso_4(KEY, "4071", first.reveal()) for _ in range(2)]

    opened = iso4.decipher_all(blocks, [second, first], aes_decrypt(KEY))
    assert [pin and pin.reveal() for pin in opened] == [None, "4071"]


PAN = "4761739001010119"
READERS: dict[int, tuple[Callable[[bytes], Pin], Callable[[bytes], str]]] = {
    0: (
        lambda block: iso0.decode(PinBlock(block), Pan(PAN)),
        lambda block: theirs.decode_pinblock_iso_0(block, PAN),
    ),
    2: (lambda block: iso2.decode(PinBlock(block)), theirs.decode_pinblock_iso_2),
    3: (
        lambda block: iso3.decode(PinBlock(block), Pan(PAN)),
        lambda block: theirs.decode_pinblock_iso_3(block, PAN),
    ),
    4: (
        lambda block: iso4.decipher(block, Pan(PAN), aes_decrypt(KEY)),
        lambda block: theirs.decipher_pinblock_iso_4(KEY, block, PAN),
    ),
}


def nearly_a_block(control: int, random: Random) -> bytes:
    """Lay out a field that is right but for a nibble or two, or not even wrong."""
    draw = random(16)
    length = 4 + draw[0] % 9
    digits = "".join(str(byte % 10) for byte in random(length))
    filler = {0: "F", 2: "F", 3: "ABCDEF"[draw[1] % 6], 4: "A"}[control]
    field = bytearray.fromhex(f"{control:X}{length:X}{digits}".ljust(16, filler))
    for place, mask in zip(draw[2:4], draw[4:6], strict=True):
        if mask % 3 == 0:
            field[place % 8] ^= mask
    return bytes(field)


@pytest.mark.parametrize("control", READERS)
def test_both_refuse_the_same_blocks(control: int) -> None:
    random = seeded(control)
    ours, other = READERS[control]
    verdicts = set()
    for _ in range(5_000):
        block = nearly_a_block(control, random)
        if control in {0, 3}:
            pan_field = bytes.fromhex("0000" + PAN[-13:-1])
            block = bytes(a ^ b for a, b in zip(block, pan_field, strict=True))
        if control == 4:
            inner = aes_encrypt(KEY)(block + random(8))
            field = iso4.pan_field(Pan(PAN))
            block = aes_encrypt(KEY)(bytes(a ^ b for a, b in zip(inner, field, strict=True)))
        try:
            expected = other(block)
        except ValueError:
            expected = None
        try:
            got = ours(block).reveal()
        except PinBlockError:
            got = None
        assert got == expected
        verdicts.add(got is None)
    assert verdicts == {False, True}

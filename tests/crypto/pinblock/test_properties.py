from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from crypto.errors import PinBlockError
from crypto.pinblock import iso0, iso1, iso2, iso3, iso4
from crypto.types import Pan, Pin, PinBlock, Random
from tests.crypto.ciphers import aes_decrypt, aes_encrypt, cbc_of
from tests.crypto.strategies import pans, pins, randoms, seeded

KEY = bytes(range(32))
ENCRYPT, DECRYPT = aes_encrypt(KEY), aes_decrypt(KEY)

Encode = Callable[[Pin, Pan, Random], bytes]
Decode = Callable[[bytes, Pan], Pin]


def plain(block: bytes) -> bytes:
    return block


FORMATS: dict[str, tuple[Encode, Decode]] = {
    "iso0": (
        lambda pin, pan, _: iso0.encode(pin, pan).reveal(),
        lambda block, pan: iso0.decode(PinBlock(block), pan),
    ),
    "iso1": (
        lambda pin, _, random: iso1.encode(pin, random).reveal(),
        lambda block, _: iso1.decode(PinBlock(block)),
    ),
    "iso2": (
        lambda pin, _pan, _: iso2.encode(pin).reveal(),
        lambda block, _: iso2.decode(PinBlock(block)),
    ),
    "iso3": (
        lambda pin, pan, random: iso3.encode(pin, pan, random).reveal(),
        lambda block, pan: iso3.decode(PinBlock(block), pan),
    ),
    "iso4": (
        lambda pin, pan, random: iso4.encipher(pin, pan, random, cbc_of(ENCRYPT)),
        lambda block, pan: iso4.decipher(block, pan, DECRYPT),
    ),
    # Without a cipher a changed nibble stays one nibble, so each check is reached.
    "iso4_plain": (
        lambda pin, pan, random: iso4.encipher(pin, pan, random, cbc_of(plain)),
        lambda block, pan: iso4.decipher(block, pan, plain),
    ),
}

each_format = pytest.mark.parametrize("name", FORMATS)


def flipped(block: bytes, nibble: int, mask: int) -> bytes:
    shift = 0 if nibble % 2 else 4
    changed = bytearray(block)
    changed[nibble // 2] ^= mask << shift
    return bytes(changed)


def outcome(decode: Decode, block: bytes, pan: str) -> str | None:
    """Return the PIN, or None if the block was refused; any other exception fails the test."""
    try:
        return decode(block, Pan(pan)).reveal()
    except PinBlockError:
        return None


@each_format
@given(pin=pins, pan=pans, random=randoms)
def test_a_pin_comes_back(name: str, pin: str, pan: str, random: Random) -> None:
    encode, decode = FORMATS[name]

    assert decode(encode(Pin(pin), Pan(pan), random), Pan(pan)).reveal() == pin


@each_format
@given(pin=pins, pan=pans, random=randoms, data=st.data())
def test_a_flipped_nibble_is_refused_or_another_pin(
    name: str, pin: str, pan: str, random: Random, data: st.DataObject
) -> None:
    encode, decode = FORMATS[name]
    block = encode(Pin(pin), Pan(pan), random)
    nibble = data.draw(st.integers(0, 2 * len(block) - 1))
    changed = flipped(block, nibble, data.draw(st.integers(1, 15)))

    got = outcome(decode, changed, pan)

    # The fill of format 1 may be digits, so that another length may be a PIN too.
    in_pin = 2 <= nibble < 2 + len(pin) or (nibble == 1 and name == "iso1")
    in_random_fill = nibble >= 2 + len(pin) and name in {"iso1", "iso3"}
    in_random_tail = nibble >= 16 and name == "iso4_plain"
    if in_random_tail:
        assert got == pin
    elif in_random_fill:
        assert got in {None, pin}
    elif in_pin:
        assert got != pin
    else:
        assert got is None


@pytest.mark.parametrize("name", ["iso0", "iso3", "iso4", "iso4_plain"])
@given(pin=pins, pan=pans, random=randoms, data=st.data())
def test_a_pan_with_another_digit_is_refused_or_another_pin(
    name: str, pin: str, pan: str, random: Random, data: st.DataObject
) -> None:
    encode, decode = FORMATS[name]
    used = (
        range(len(pan)) if name.startswith("iso4") else range(max(0, len(pan) - 13), len(pan) - 1)
    )
    place = data.draw(st.sampled_from(used))
    digit = data.draw(st.sampled_from("0123456789"))
    assume(digit != pan[place])
    other = pan[:place] + digit + pan[place + 1 :]

    got = outcome(decode, encode(Pin(pin), Pan(pan), random), other)

    if name == "iso0":
        assert got != pin
    elif name == "iso4":
        # By chance 6 in 10^8; a PIN that came back would mean the PAN does not count.
        assert got is None


@given(pin=pins, pan=pans, data=st.data())
def test_format_0_refuses_any_change_outside_the_pin(
    pin: str, pan: str, data: st.DataObject
) -> None:
    block = iso0.encode(Pin(pin), Pan(pan)).reveal()
    nibble = data.draw(st.sampled_from([0, 1, *range(2 + len(pin), 16)]))
    changed = flipped(block, nibble, data.draw(st.integers(1, 15)))

    with pytest.raises(PinBlockError):
        iso0.decode(PinBlock(changed), Pan(pan))


@pytest.mark.parametrize("name", ["iso0", "iso1", "iso2", "iso3", "iso4_plain"])
def test_of_all_first_bytes_only_that_of_the_format_and_the_length_is_read(name: str) -> None:
    _, decode = FORMATS[name]
    control, fill = int(name[3]), "A" if name == "iso4_plain" else "F"

    def is_read(first: int, digits: str) -> bool:
        block = bytes.fromhex(f"{first:02X}{digits}".ljust(16, fill))
        # The PAN field of this PAN is zero.
        return outcome(decode, block.ljust(16 if control == 4 else 8), "00000000") == digits

    read = {(first, n) for first in range(256) for n in range(15) if is_read(first, "7" * n)}

    assert read == {(control * 16 + n, n) for n in range(4, 13)}


@pytest.mark.parametrize("size", [0, 8, 15, 17, 32])
def test_format_4_refuses_other_sizes_before_it_uses_the_key(size: int) -> None:
    def never(_: bytes) -> bytes:
        pytest.fail("the key was used")

    with pytest.raises(PinBlockError):
        iso4.decipher(bytes(size), Pan("4761739001010119"), never)
    with pytest.raises(PinBlockError):
        iso4.decipher_all([bytes(16), bytes(size)], [Pan("4761739001010119")] * 2, never)


@each_format
def test_random_blocks_are_refused_or_decode(name: str) -> None:
    seed = 9564
    print(f"seed {seed}")  # noqa: T201 - pytest shows it with a failure
    random = seeded(seed)
    _, decode = FORMATS[name]
    pan = Pan("4761739001010119")
    control = int(name[3])
    # PAN digits in front of a plain format-4 block are laid over control and length.
    mask = iso4.pan_field(pan)[0] if name == "iso4_plain" else 0
    size = 16 if name.startswith("iso4") else 8
    decoded = 0
    for count in range(100_000):
        block = random(size)
        if count % 2:
            # Control and length right: the digits and the fill get their turn.
            length = 4 + block[0] % 9
            block = bytes([(control << 4 | length) ^ mask]) + block[1:]
        try:
            pin = decode(block, pan)
        except PinBlockError:
            continue
        decoded += 1
        assert 4 <= len(pin.reveal()) <= 12
    # The other fills hardly ever come up by chance.
    if name in {"iso1", "iso3"}:
        assert 0 < decoded < 50_000


def test_the_fill_of_format_3_favours_no_nibble() -> None:
    random, pan = seeded(3), Pan("00000000")
    fill = "".join(
        iso3.encode(Pin("0000"), pan, random).reveal().hex().upper()[6:] for _ in range(6_000)
    )
    counts = Counter(fill)

    assert set(counts) == set("ABCDEF")
    # 10,000 expected each; 500 is more than five standard deviations.
    assert all(abs(count - 10_000) < 500 for count in counts.values())


def test_the_fill_of_format_1_favours_no_nibble() -> None:
    random = seeded(1)
    fill = "".join(iso1.encode(Pin("0000"), random).reveal().hex()[6:] for _ in range(16_000))

    assert all(abs(count - 10_000) < 500 for count in Counter(fill).values())
    assert len(set(fill)) == 16


def test_format_3_asks_again_when_a_draw_holds_too_few_letters() -> None:
    draws = iter([b"\x00" * 32, b"\xa0" + b"\x00" * 31, b"\xbc" * 32])
    block = iso3.encode(Pin("1234"), Pan("00000000"), lambda _: next(draws))

    assert block.reveal().hex().upper() == "341234ABCBCBCBCB"


def test_format_4_takes_8_random_bytes() -> None:
    sizes: list[int] = []

    def random(size: int) -> bytes:
        sizes.append(size)
        return b"\xee" * size

    block = iso4.encipher(Pin("1234"), Pan("00000000"), random, cbc_of(plain))

    assert sizes == [8]
    assert block.hex().upper() == "441234AAAAAAAAAA" + "EE" * 8

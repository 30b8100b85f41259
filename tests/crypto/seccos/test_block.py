import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from crypto.errors import PinBlockError
from crypto.seccos import block
from crypto.seccos.card import CardData
from crypto.seccos.profile import PinBlockProfile, SeccosProfile
from crypto.types import Pan, Pin, Random
from tests.crypto.ciphers import tdes_ecb, tdes_ecb_decrypt
from tests.crypto.seccos.profiles import profile, profiles
from tests.crypto.strategies import pans, pins, randoms

KEY = bytes.fromhex("1F2F3D4C5B6B79890123456789ABCDEF")
ENCRYPT, DECRYPT = tdes_ecb(KEY), tdes_ecb_decrypt(KEY)
CARD = CardData(Pan("6725901234567890125"), 1, "2912")


def settings(**changes: object) -> PinBlockProfile:
    return profile({"pin_block": changes}).pin_block


@given(every=profiles, pin=pins, pan=pans, random=randoms, data=st.data())
def test_a_pin_comes_back(
    every: SeccosProfile, pin: str, pan: str, random: Random, data: st.DataObject
) -> None:
    assume(every.pin_block.selfenc != "replace")
    card = CardData(Pan(pan), 0, "2601")
    counter = data.draw(st.integers(0, every.counter.max))

    built = block.build(Pin(pin), card, counter, every.pin_block, ENCRYPT, random)

    assert len(built) == every.pin_block.block_bytes
    read = block.parse(built, card, counter, every.pin_block, DECRYPT)
    assert read.reveal() == pin


@pytest.mark.parametrize("changes", [{}, {"padding": "iso9797-2"}, {"selfenc": "append"}])
@pytest.mark.parametrize("size", [0, 7, 8, 9, 16, 24, 32])
def test_another_size_is_refused_before_the_key_is_used(
    changes: dict[str, object], size: int
) -> None:
    def never(data: bytes) -> bytes:
        pytest.fail("the key was used")

    asked = settings(**changes)
    if size == asked.block_bytes:
        return
    with pytest.raises(PinBlockError):
        block.parse(bytes(size), CARD, 0, asked, never)


@pytest.mark.parametrize(
    ("changes", "clear"),
    [
        ({}, "241234FFFFFFFFF0"),
        ({}, "041234FFFFFFFFFF"),
        ({}, "2412A4FFFFFFFFFF"),
        ({}, "231234FFFFFFFFFF"),
        ({"padding": "iso9797-2"}, "241234FFFFFFFFFF8000000000000001"),
        ({"padding": "iso9797-2"}, "241234FFFFFFFFFF0000000000000000"),
        ({"padding": "iso9797-2"}, "241234FFFFFFFF80" + "8000000000000000"),
        ({"selfenc": "append"}, "241234FFFFFFFFFF7EB3985F23229E90"),
        ({"selfenc": "append"}, "241235FFFFFFFFFF7EB3985F23229E91"),
        (
            {"selfenc": "append", "padding": "iso9797-2"},
            "241234FFFFFFFFFF7EB3985F23229E91" + "00" * 8,
        ),
    ],
)
def test_a_block_that_is_wrong_inside_is_refused(changes: dict[str, object], clear: str) -> None:
    with pytest.raises(PinBlockError) as refusal:
        block.parse(ENCRYPT(bytes.fromhex(clear)), CARD, 0, settings(**changes), DECRYPT)
    assert (refusal.value.args, refusal.value.__context__) == ((), None)


def test_a_block_that_was_replaced_does_not_come_back() -> None:
    asked = profile({"pin_block": {"selfenc": "replace"}, "verify": "mac_only"}).pin_block
    built = block.build(Pin("1234"), CARD, 0, asked, ENCRYPT, bytes)

    with pytest.raises(PinBlockError):
        block.parse(built, CARD, 0, asked, DECRYPT)


def test_the_key_is_asked_once_to_read() -> None:
    calls: list[int] = []

    def decrypt(data: bytes) -> bytes:
        calls.append(len(data))
        return DECRYPT(data)

    asked = settings(cipher="tdes-cbc", iv="counter", padding="iso9797-2", selfenc="append")
    built = block.build(Pin("1234"), CARD, 7, asked, ENCRYPT, bytes)

    assert block.parse(built, CARD, 7, asked, decrypt).reveal() == "1234"
    assert calls == [24]
    with pytest.raises(PinBlockError):
        block.parse(built, CARD, 8, asked, DECRYPT)


def test_the_iv_is_the_counter_in_8_bytes() -> None:
    asked = settings(cipher="tdes-cbc", iv="counter")

    assert asked.iv_bytes(7) == bytes.fromhex("0000000000000007")
    assert settings().iv_bytes(7) is None


@pytest.mark.parametrize("changes", [{"clear_format": "iso0"}, {"clear_format": "iso3"}])
def test_some_formats_belong_to_a_pan(changes: dict[str, object]) -> None:
    asked = settings(**changes)
    other = CardData(Pan("6725909876543210123"), 1, "2912")
    built = block.build(Pin("1234"), CARD, 0, asked, ENCRYPT, lambda size: b"\xab" * size)

    with pytest.raises(PinBlockError):
        block.parse(built, other, 0, asked, DECRYPT)

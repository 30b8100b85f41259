import pytest

from crypto.errors import CardDataError, SeccosError
from crypto.seccos import prw
from crypto.seccos.card import CardData, cdp, cdt, common_part, pan_text
from crypto.types import Pan, Pin
from tests.crypto.seccos.profiles import profile

CARD = CardData(Pan("6725901234567890125"), 12, "2912")


@pytest.mark.parametrize("psn", [-1, 100, 256])
def test_a_psn_is_0_to_99(psn: int) -> None:
    with pytest.raises(CardDataError):
        CardData(CARD.pan, psn, "2912")


@pytest.mark.parametrize("expiry", ["", "291", "29123", "2900", "2913", "29-1", "2912\n", "٢٩١٢"])
def test_an_expiry_is_a_year_and_a_month(expiry: str) -> None:
    with pytest.raises(CardDataError):
        CardData(CARD.pan, 1, expiry)


@pytest.mark.parametrize(
    ("template", "rendered"),
    [
        ("{psn:u8}{psn:u16}", "0C000C"),
        ("{psn:bcd}{psn:ascii}", "123132"),
        ("{expiry:yymm}{expiry:ascii}", "291232393132"),
        ("A0{psn:u8}00ff", "A00C00FF"),
    ],
)
def test_card_data_is_made_of_parts(template: str, rendered: str) -> None:
    settings = profile({"prw": {"cdp": template, "cdt": template}})

    assert cdp(CARD, settings.prw).hex().upper() == rendered
    assert cdt(CARD, 7, settings).hex().upper() == rendered + "0007"


@pytest.mark.parametrize(("width", "suffix"), [(1, "07"), (2, "0007"), (4, "00000007")])
def test_the_counter_behind_the_card_data_has_a_width(width: int, suffix: str) -> None:
    settings = profile({"counter": {"width": width, "max": 255}})

    assert cdt(CARD, 7, settings).hex() == "2912" + suffix


def test_the_pan_is_whole_or_the_12_digits_that_blocks_use() -> None:
    whole, cut = profile({}).prw, profile({"prw": {"pan": "iso12"}}).prw
    short = CardData(Pan("12345678"), 1, "2912")

    assert pan_text(CARD, whole) == b"6725901234567890125"
    assert pan_text(CARD, cut) == b"123456789012"
    assert pan_text(short, whole) == b"12345678"
    assert pan_text(short, cut) == b"000001234567"


@pytest.mark.parametrize(
    ("part", "rendered"),
    [
        ("counter:u8", "07"),
        ("counter:u16be", "0007"),
        ("counter:u32be", "00000007"),
        ("hex:aB", "AB"),
    ],
)
def test_a_part_is_a_counter_or_a_literal(part: str, rendered: str) -> None:
    assert common_part(part, CARD, 7, profile({})).hex().upper() == rendered


@pytest.mark.parametrize("random", [b"", b"\xde\xad\xbe", bytes(5)])
def test_a_random_of_another_length_makes_no_prw(random: bytes) -> None:
    with pytest.raises(SeccosError):
        prw.message(Pin("1234"), CARD, 7, random, profile({}))


def test_a_card_does_not_show_its_pan() -> None:
    assert "672590" not in repr(CARD)


def test_the_message_of_a_prw_does_not_show_the_pin() -> None:
    message = prw.message(Pin("739182"), CARD, 7, bytes(4), profile({}))

    assert "739182" not in repr(message)

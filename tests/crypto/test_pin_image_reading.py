"""Programs that read images: one that knows every hand reads all, one with fixed templates few."""

import random

import pytest

from benchmarks.pin_image_readers import Image, TemplateReader, ink, on_density_1
from crypto.pin_image import HANDS, ImageStyle, render
from crypto.pin_image_strokes import Hand
from crypto.types import Pin
from tests.crypto.strategies import seeded

KNOWS_ALL = TemplateReader(*HANDS)
ONE_FORM = [TemplateReader(Hand(width=0.9, height=0.9)), *map(TemplateReader, HANDS)]


def drawn(length: int, count: int, chance: random.Random) -> list[tuple[str, Image]]:
    """Return PINs, each with an image of it."""
    pins = ["".join(chance.choices("0123456789", k=length)) for _ in range(count)]
    return [(pin, ink(render(Pin(pin), ImageStyle(), chance.randbytes))) for pin in pins]


@pytest.mark.parametrize("length", range(4, 13))
def test_a_pin_is_read_as_written(length: int) -> None:
    for digits, image in drawn(length, 2, random.Random(length)):
        assert KNOWS_ALL.read(image) == digits


@pytest.mark.parametrize("pin", ["0123", "4567", "8901", "012345"])
def test_a_pin_is_read_on_a_screen_of_density_1(pin: str) -> None:
    image = on_density_1(ink(render(Pin(pin), ImageStyle(), seeded(1))))
    assert KNOWS_ALL.read(image) == pin


@pytest.mark.slow
def test_who_knows_each_digit_in_one_form_reads_at_most_half() -> None:
    images = drawn(4, 30, random.Random(1))
    for reader in ONE_FORM:
        assert sum(reader.read(image) == digits for digits, image in images) <= len(images) / 2


def test_drawn_in_one_form_all_are_read_by_who_knows_it() -> None:
    reader = TemplateReader(HANDS[0])
    for pin in ["0123", "4567", "8901"]:
        assert reader.read(ink(render(Pin(pin), ImageStyle(), bytes))) == pin

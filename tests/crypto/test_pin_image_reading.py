"""A reader that knows only the upright digits reads what :func:`render` wrote in every hand."""

import random
import zlib
from itertools import groupby

import pytest

from crypto.pin_image import ImageStyle, render
from crypto.pin_image_strokes import SYMBOLS, Hand, draw
from crypto.types import Pin
from tests.crypto.strategies import seeded

BACKGROUND = 3
"""Where the palette's way from the background to the text begins."""
GRID = 16

Ink = list[list[int]]


def ink(png: bytes) -> Ink:
    start = png.index(b"IDAT") + 4
    length = int.from_bytes(png[start - 8 : start - 4], "big")
    rows = zlib.decompress(png[start : start + length])
    return [
        [max(0, int(digit, 16) - BACKGROUND) for digit in rows[at + 1 : at + 511].hex()]
        for at in range(0, len(rows), 511)
    ]


def third(image: Ink) -> Ink:
    """The image as a screen of density 1 shows it."""
    return [
        [sum(sum(row[x : x + 3]) for row in image[y : y + 3]) // 9 for x in range(0, 1020, 3)]
        for y in range(0, 339, 3)
    ]


def cut(image: Ink) -> list[Ink]:
    """Cut at the columns without ink, and each part to its own height."""
    inked = [any(column) for column in zip(*image, strict=True)]
    parts = []
    for has_ink, columns in groupby(range(len(inked)), inked.__getitem__):
        if has_ink:
            xs = list(columns)
            parts.append([row[xs[0] : xs[-1] + 1] for row in image if any(row[xs[0] : xs[-1] + 1])])
    return parts


def thumbnail(part: Ink) -> list[int]:
    """Sample a square as high as the part and centred on it, as a narrow 1 is no wide 0."""
    high, wide = len(part), len(part[0])
    left = (wide - high) // 2
    steps = [(2 * step + 1) * high // (2 * GRID) for step in range(GRID)]
    return [part[y][left + x] if 0 <= left + x < wide else 0 for y in steps for x in steps]


def difference(one: list[int], other: list[int]) -> int:
    return sum(abs(a - b) for a, b in zip(one, other, strict=True))


KNOWN = {
    digit: thumbnail(cut([list(row) for row in draw(SYMBOLS[digit], Hand(0, 1, 1), 120)])[0])
    for digit in "0123456789"
}


def read(image: Ink) -> str:
    seen = [thumbnail(part) for part in cut(image)]
    return "".join(min(KNOWN, key=lambda digit: difference(KNOWN[digit], one)) for one in seen)


@pytest.mark.parametrize("length", range(4, 13))
def test_a_pin_is_read_as_written(length: int) -> None:
    chance = random.Random(length)
    for _ in range(6):
        digits = "".join(chance.choices("0123456789", k=length))
        assert read(ink(render(Pin(digits), ImageStyle(), chance.randbytes))) == digits


@pytest.mark.parametrize("pin", ["0123", "4567", "8901", "0123456789"])
def test_a_pin_is_read_on_a_screen_of_density_1(pin: str) -> None:
    assert read(third(ink(render(Pin(pin), ImageStyle(), seeded(1))))) == pin

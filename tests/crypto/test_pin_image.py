"""The pictures are read back by a small decoder of our own: a palette, 4 bits, no filters."""

import random
import struct
import zlib
from dataclasses import dataclass
from functools import cache, partial
from itertools import product

import pytest

from crypto.pin_image import (
    _DIGITS,
    _GAPS,
    DATA_BYTES,
    HANDS,
    Colour,
    ImageStyle,
    MessageKind,
    _frame,
    _glyphs,
    _height_px,
    _pitch_px,
    render,
    render_message,
    warm,
)
from crypto.pin_image_deflate import write_stream
from crypto.pin_image_strokes import SYMBOLS, draw
from crypto.types import Pin
from tests.crypto.strategies import seeded

LIGHT = ImageStyle()
DARK = ImageStyle(Colour.parse("#121212"), Colour.parse("#FFFFFF"))
ROUND = ImageStyle(corner_radius_css_px=64)
STYLES = [LIGHT, DARK, ROUND]
#: What a phone with a poor connection still gets at once.
IMAGE_BYTES_MAX = 40_000

Rgba = tuple[int, int, int, int]


def only(lots: bytes, _: int) -> bytes:
    """Draw these lots, whatever their number."""
    return lots


@dataclass(frozen=True)
class Picture:
    width: int
    height: int
    palette: list[Rgba]
    rows: list[bytes]

    def pixel(self, x: int, y: int) -> Rgba:
        return self.palette[self.rows[y][x]]

    @property
    def colours(self) -> set[Rgba]:
        return {self.palette[index] for index in set(b"".join(self.rows))}


def chunks(png: bytes) -> list[tuple[bytes, bytes]]:
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    found, at = [], 8
    while at < len(png):
        (length,) = struct.unpack_from(">I", png, at)
        name, content = png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", png, at + 8 + length) == (zlib.crc32(name + content),)
        found.append((name, content))
        at += 12 + length
    return found


def decode(png: bytes) -> Picture:
    parts = dict(chunks(png))
    width, height, *kind = struct.unpack(">IIBBBBB", parts[b"IHDR"])
    assert kind == [4, 3, 0, 0, 0], "4 bits, a palette, not interlaced"
    colours = list(struct.iter_unpack("BBB", parts[b"PLTE"]))
    alphas = parts[b"tRNS"].ljust(len(colours), b"\xff")
    data, stride = zlib.decompress(parts[b"IDAT"]), 1 + width // 2
    lines = [data[start : start + stride] for start in range(0, len(data), stride)]
    assert len(lines) == height
    assert {line[0] for line in lines} == {0}, "no filter"
    return Picture(
        width,
        height,
        [(*colour, alpha) for colour, alpha in zip(colours, alphas, strict=True)],
        [bytes(half for byte in line[1:] for half in divmod(byte, 16)) for line in lines],
    )


def ink(png: bytes) -> list[bytes]:
    return decode(png).rows


@cache
def drawn_pixels(digit: str, hand: int, height: int) -> int:
    return sum(len(row) - row.count(0) for row in draw(SYMBOLS[digit], HANDS[hand], height))


def still(count: int) -> bytes:
    """Choose the first hand, and one place, for each digit."""
    return bytes(count)


def messages(style: ImageStyle) -> list[bytes]:
    return [render_message(kind, style) for kind in MessageKind]


def test_a_message_in_other_colours_is_not_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    first = decode(messages(LIGHT)[0])
    monkeypatch.setattr("crypto.pin_image._write", None)
    again = decode(messages(DARK)[0])
    assert again.rows == first.rows
    assert again.palette != first.palette


@pytest.mark.slow
def test_10_000_pins_have_one_length() -> None:
    chance = random.Random(20)
    pins = ("".join(chance.choices("0123456789", k=4 + n % 9)) for n in range(10_000))
    lengths = {len(render(Pin(pin), LIGHT, chance.randbytes)) for pin in pins}
    assert len(lengths) == 1


@pytest.mark.parametrize("style", STYLES)
def test_pins_of_every_length_have_one_length_in_any_style(
    style: ImageStyle,
) -> None:
    chance = random.Random(21)
    pins = ("".join(chance.choices("0123456789", k=4 + n % 9)) for n in range(90))
    drawn = [render(Pin(pin), style, chance.randbytes) for pin in pins]
    (length,) = {len(png) for png in drawn}
    assert length <= IMAGE_BYTES_MAX


@pytest.mark.parametrize("radius", [0, 16, 56, 64])
@pytest.mark.parametrize("digits", range(4, 13))
def test_the_longest_glyphs_fit_wherever_they_stand(radius: int, digits: int) -> None:
    height = _height_px(_pitch_px(digits))
    hands = [glyph for hands in _glyphs(height, _DIGITS).values() for glyph in hands]
    frame = _frame(radius, height, _DIGITS)
    rows = len(frame.lefts)

    longest = max(
        len(b"".join(glyph.rows)) + (rows - len(glyph.rows)) * len(glyph.empty) for glyph in hands
    )
    # Digits move by a few bytes: no gap is 20 bytes wider than that between two in their places.
    gap = _pitch_px(digits) // 2 - min(glyph.width_bytes for glyph in hands) + 20
    gaps = (digits + 1) * max(len(encoded) for encoded in _GAPS[: gap + 1])
    margins = len(b"".join([frame.above, *frame.lefts, *frame.rights, frame.below]))
    encoded = bytes(digits * longest + rows * gaps + margins)

    assert len(write_stream(encoded, 0, DATA_BYTES)) == DATA_BYTES


@pytest.mark.parametrize("digits", range(4, 13))
@pytest.mark.parametrize("widest", ["48", "84"])
def test_digits_that_come_close_lose_no_ink(widest: str, digits: int) -> None:
    height = _height_px(_pitch_px(digits))
    pin = (6 * widest)[:digits]
    for hand in range(len(HANDS)):
        # To the right, to the left, to the right ...
        choices = [(hand, (1 - place % 2) * 2 * (height // 24), 0) for place in range(digits)]
        drawn_lots = b"".join(map(bytes, choices))
        picture = ink(render(Pin(pin), LIGHT, partial(only, drawn_lots)))
        drawn = sum(drawn_pixels(digit, hand, height) for digit in pin)
        assert sum(len(row) - row.count(3) for row in picture) == drawn


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("digits", range(4, 13))
def test_a_picture_is_three_times_as_wide_as_high(style: ImageStyle, digits: int) -> None:
    picture = decode(render(Pin("123456789012"[:digits]), style, seeded(digits)))
    assert (picture.width, picture.height) == (1020, 340)


@pytest.mark.parametrize(
    "png", [png for s in STYLES for png in (render(Pin("1234"), s, seeded(1)), *messages(s))]
)
def test_a_picture_holds_nothing_but_pixels(png: bytes) -> None:
    assert [name for name, _ in chunks(png)] == [b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("pin", ["1234", "567890", "123456789012"])
def test_a_pin_is_in_the_text_colour_on_the_background(style: ImageStyle, pin: str) -> None:
    picture = decode(render(Pin(pin), style, seeded(2)))
    assert picture.palette[0] == (*style.background.rgb, 0)
    assert picture.palette[-1] == (*style.text.rgb, 255)
    assert {(*style.background.rgb, 255), (*style.text.rgb, 255)} <= picture.colours


@pytest.mark.parametrize("radius", [0, 1, 16, 64])
def test_the_corners_are_cut_by_the_radius(radius: int) -> None:
    style = ImageStyle(corner_radius_css_px=radius)
    picture = decode(render(Pin("1234"), style, seeded(3)))
    for corner_x, corner_y in product((0, 1), (0, 1)):
        along_the_top = [
            picture.pixel(1019 - x if corner_x else x, 339 * corner_y)[3] for x in range(1020)
        ]
        # In the outermost row the circle is still a few pixels from the edge where it touches it.
        clear = along_the_top.index(255)
        # No corner is higher than half of the image.
        assert min(3 * radius, 170) - 20 <= clear <= min(3 * radius, 170)
        assert bool(clear) == bool(radius)
    assert picture.pixel(510, 0)[3] == picture.pixel(0, 170)[3] == 255


def test_once_warm_no_picture_has_to_draw_a_digit() -> None:
    _glyphs.cache_clear()
    _frame.cache_clear()
    warm()
    drawn, framed = _glyphs.cache_info().misses, _frame.cache_info().misses
    assert drawn
    for digits in range(4, 13):
        render(Pin("123456789012"[:digits]), LIGHT, still)
    assert (_glyphs.cache_info().misses, _frame.cache_info().misses) == (drawn, framed)


@pytest.mark.parametrize("name", SYMBOLS)
def test_a_symbol_has_room_for_its_pen(name: str) -> None:
    for hand in HANDS:
        assert not any(row[0] or row[-1] for row in draw(SYMBOLS[name], hand, 184))


def test_two_pictures_of_one_pin_differ() -> None:
    chance = seeded(4)
    assert len({render(Pin("1234"), LIGHT, chance) for _ in range(20)}) == 20


def test_the_ten_digits_are_told_apart() -> None:
    drawn = [ink(render(Pin(4 * digit), LIGHT, still)) for digit in "0123456789"]
    for one, first in enumerate(drawn):
        for second in drawn[:one]:
            differing = sum(
                abs(a - b) >= 6
                for above, below in zip(first, second, strict=True)
                for a, b in zip(above, below, strict=True)
            )
            # Four digits; of the ink of one, some 5,000 pixels, a tenth at least is elsewhere.
            assert differing > 4 * 500


def test_a_digit_is_written_where_it_stands() -> None:
    first, second = (decode(render(Pin(pin), LIGHT, still)) for pin in ("1234", "1834"))
    differing = {
        x
        for above, below in zip(first.rows, second.rows, strict=True)
        for x in range(1020)
        if above[x] != below[x]
    }
    assert 255 < min(differing) < max(differing) < 510


def test_each_message_has_a_picture_of_its_own() -> None:
    assert len({*messages(LIGHT)}) == len(MessageKind)


@pytest.mark.parametrize("style", STYLES)
def test_a_message_is_small_and_always_the_same(style: ImageStyle) -> None:
    assert messages(style) == messages(style)
    assert max(len(png) for png in messages(style)) < 10_000


def assert_nothing_at_the_edge(png: bytes) -> None:
    picture = decode(png)
    empty = {picture.rows[0][0]}
    assert set(picture.rows[0]) == set(picture.rows[-1]) == empty
    assert {row[0] for row in picture.rows} == {row[-1] for row in picture.rows} == empty


@pytest.mark.parametrize("byte", [0, 255])
def test_no_digit_is_drawn_beyond_the_edge(byte: int) -> None:
    png = render(Pin("123456789012"), LIGHT, lambda count: bytes([byte]) * count)
    assert_nothing_at_the_edge(png)


def test_no_message_is_drawn_beyond_the_edge() -> None:
    for png in messages(LIGHT):
        assert_nothing_at_the_edge(png)


@pytest.mark.parametrize(
    ("text", "rgb"),
    [("#000", (0, 0, 0)), ("#aBc", (0xAA, 0xBB, 0xCC)), ("#12EF0a", (0x12, 0xEF, 0x0A))],
)
def test_a_colour_is_read_in_both_lengths(text: str, rgb: tuple[int, int, int]) -> None:
    assert Colour.parse(text).rgb == rgb


@pytest.mark.parametrize(
    "text",
    ["", "#", "000", "#00", "#0000", "#00000", "#0000000", "#00000g", "red", "#000\n", " #000",
     "#\N{ARABIC-INDIC DIGIT ZERO}00", "url(x)"],
)  # fmt: skip
def test_what_is_no_colour_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a colour"):
        Colour.parse(text)


@pytest.mark.parametrize("red", [-1, 256])
def test_a_number_beyond_a_byte_is_refused(red: int) -> None:
    with pytest.raises(ValueError, match="bytes must be in range"):
        Colour(red, 0, 0)


def test_text_in_the_colour_of_its_background_is_refused() -> None:
    with pytest.raises(ValueError, match="the same colour"):
        ImageStyle(Colour.parse("#FFF"), Colour.parse("#ffffff"))


@pytest.mark.parametrize("radius", [-1, 65])
def test_a_radius_out_of_range_is_refused(radius: int) -> None:
    with pytest.raises(ValueError, match="corner radius out of range"):
        ImageStyle(corner_radius_css_px=radius)

"""A PIN as a PNG image: an app can show the PIN and never hold its digits.

The PNG (ISO/IEC 15948) is 1020 x 340 pixels, that is 340 x 113 CSS pixels on a screen of density
3. A pixel has 4 bits: a palette of the two colours and of steps between them. The chunks are IHDR,
PLTE, tRNS, one IDAT and IEND; no text in it names a card.

All images of a PIN have the same length, 26 kB. A compressed image would be longer for some digits
than for others; so each digit is compressed in advance and alone (:mod:`crypto.pin_image_deflate`),
the lengths of the longest give a limit for every image, and each image is padded to it. Nothing on
the way to the cardholder may compress it again (``Cache-Control: no-transform``): that would bring
the digits back into the length.

Each digit is drawn in one of several :data:`HANDS` and moved a little, as random bytes say, so that
two images of one PIN are different and a program needs more than one template a digit to read it.
Whoever can look at the image reads it. The drawing is our own (:mod:`crypto.pin_image_strokes`):
Pillow would save about a hundred lines, and bring a font and a dozen native libraries into the
process that holds clear PINs.
"""

import re
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, lru_cache
from itertools import chain, pairwise, repeat
from math import sqrt
from operator import mul
from typing import Final, Self

from crypto.pin_image_deflate import STEPS_OF_EDGE, encode, write_stream
from crypto.pin_image_strokes import INK, SYMBOLS, Glyph, Hand, draw
from crypto.types import PIN_DIGITS_MAX, PIN_DIGITS_MIN, Pin, Random

WIDTH_PX: Final = 1020
HEIGHT_PX: Final = 340
PX_PER_CSS_PX: Final = 3
CORNER_RADIUS_MAX_CSS_PX: Final = 64

HANDS: Final = (
    Hand(turn_degrees=16, slant=0.10, width=0.85, height=0.86, pen=1.20),
    Hand(turn_degrees=13, slant=0.12, width=0.90, height=0.90, pen=0.83),
    Hand(turn_degrees=13, slant=0.13, width=0.82, height=1.00, pen=0.95),
    Hand(turn_degrees=18, slant=0.05, width=1.00, height=0.90, pen=0.78),
    Hand(turn_degrees=20, slant=0.04, width=0.90, height=0.86, pen=1.08),
    Hand(turn_degrees=-19, slant=-0.06, width=0.83, height=0.86, pen=1.10),
    Hand(turn_degrees=-12, slant=-0.12, width=0.92, height=0.90, pen=0.78),
    Hand(turn_degrees=-10, slant=-0.15, width=0.80, height=1.00, pen=1.05),
    Hand(turn_degrees=-14, slant=-0.10, width=0.92, height=0.86, pen=1.22),
    Hand(turn_degrees=-17, slant=-0.05, width=0.86, height=0.96, pen=0.90),
)
"""The ways in which a digit is drawn, none of them near another.

They were found by trying (``python -m benchmarks pin_image``): people read all of them, and a
program that knows each digit in one form only reads few PINs. One that knows them all reads all.
"""

DATA_BYTES: Final = 26_000
"""The length of IDAT: longer than what the widest digits of any number of them take."""

_COLOUR: Final = re.compile("#(?:[0-9A-Fa-f]{3}|[0-9A-Fa-f]{6})")

# The palette: steps of the background's edge, from nothing, then background to text.
_INK_TO_PALETTE: Final = bytes(STEPS_OF_EDGE + min(ink, INK) for ink in range(256))
_MARGIN_PX: Final = 48
_PITCH_MAX_PX: Final = 320
_SYMBOL_HEIGHT_MAX_PX: Final = 184
_PX_PER_BYTE: Final = 2
# A row starts with its filter type, 0 for none.
_FILTER: Final = b"\0"
_STRIDE_BYTES: Final = len(_FILTER) + WIDTH_PX // _PX_PER_BYTE
_SIZE_BYTES: Final = HEIGHT_PX * _STRIDE_BYTES
_BACKGROUND: Final = 16 * STEPS_OF_EDGE + STEPS_OF_EDGE
_GAPS: Final = [encode(bytes([_BACKGROUND]) * size) for size in range(_STRIDE_BYTES)]
"""So many bytes of background."""
_ADLER_MODULUS: Final = 65521


@dataclass(frozen=True, slots=True)
class Colour:
    """An sRGB colour: red, green and blue, each 0 to 255.

    Raises:
        ValueError: a number is not 0 to 255.
    """

    red: int
    green: int
    blue: int

    def __post_init__(self) -> None:
        bytes(self.rgb)  # refuses what is no byte

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``#RGB`` or ``#RRGGBB``, in upper or lower case.

        >>> Colour.parse("#FA0")
        Colour(red=255, green=170, blue=0)

        Raises:
            ValueError: *text* has another form.
        """
        if not _COLOUR.fullmatch(text):
            raise ValueError("not a colour")
        digits = text[1:] if len(text) > len("#RGB") else "".join(2 * digit for digit in text[1:])
        return cls(*bytes.fromhex(digits))

    @property
    def rgb(self) -> tuple[int, int, int]:
        """Red, green and blue."""
        return self.red, self.green, self.blue

    @property
    def css(self) -> str:
        """The colour as ``#rrggbb``."""
        return f"#{bytes(self.rgb).hex()}"


@dataclass(frozen=True, slots=True)
class ImageStyle:
    """What a client may choose; the defaults are those of the published contract.

    The contract has the two colours only. The radius is used by a page of our own.

    Raises:
        ValueError: text and background have the same colour, or the radius is not 0 to 64 CSS
            pixels.
    """

    background: Colour = Colour(0xEF, 0xEF, 0xEF)
    text: Colour = Colour(0, 0, 0)
    corner_radius_css_px: int = 0

    def __post_init__(self) -> None:
        if self.background == self.text:
            raise ValueError("text and background have the same colour")
        if not 0 <= self.corner_radius_css_px <= CORNER_RADIUS_MAX_CSS_PX:
            raise ValueError("corner radius out of range")


class MessageKind(StrEnum):
    """Why there is no PIN to show. The image has a sign for the reason, and one for "try again"."""

    ENDED = "ended"
    """The control token is consumed, expired or unknown: a crossed-out eye."""
    FAILED = "failed"
    """The service has a problem: a warning sign."""
    LIMITED = "limited"
    """Too many requests: a clock."""


_SIGNS: Final = {
    MessageKind.ENDED: ("hidden", "again"),
    MessageKind.FAILED: ("warning", "again"),
    MessageKind.LIMITED: ("wait", "again"),
}
# What is drawn at once: digits, so that time does not tell which is used first; or signs.
_DIGITS: Final = tuple(name for name in SYMBOLS if name.isdecimal())
_SIGN_NAMES: Final = tuple(name for name in SYMBOLS if not name.isdecimal())


@dataclass(frozen=True, slots=True)
class _Glyph:
    """A symbol that is drawn.

    The last two are what it adds to the sums of Adler-32 (RFC 1950, 9): *total* is the sum of its
    bytes above the background's, *weighted* of the same, each times its distance from the first.
    """

    rows: Sequence[bytes]
    empty: bytes
    width_bytes: int
    total: int
    weighted: int


@dataclass(frozen=True, slots=True)
class _Frame:
    """What is around the symbols of one height: whole rows above and below, and the margins."""

    top: int
    above: bytes
    lefts: Sequence[bytes]
    rights: Sequence[bytes]
    below: bytes
    adler: int


def warm() -> None:
    """Draw the digits in every size in advance; it takes a second or two and 6 MB.

    Without it, the first image of each size takes longer.
    """
    for count in range(PIN_DIGITS_MIN, PIN_DIGITS_MAX + 1):
        _frame(0, _height_px(_pitch_px(count)), _DIGITS)


def render(pin: Pin, style: ImageStyle, random: Random) -> bytes:
    """Return *pin* as a PNG.

    >>> image = render(Pin("1234"), ImageStyle(), lambda size: bytes(size))
    >>> image[1:4], len(image)
    (b'PNG', 26132)

    Args:
        pin: the clear PIN.
        style: colours and corner radius.
        random: chooses and moves the digits; it is asked for 3 bytes for each digit.
    """
    image, adler = _write(pin.reveal(), _DIGITS, style.corner_radius_css_px, random)
    return _png(write_stream(image, adler, DATA_BYTES), style)


def render_message(kind: MessageKind, style: ImageStyle) -> bytes:
    """Return the reason why there is no PIN, as a PNG of about 4 kB, always drawn in the same way.

    It is compressed well: there are no digits on which its length could depend. It is drawn and
    compressed once: another style has other colours only, which stand apart in the palette.

    Args:
        kind: the reason.
        style: as for :func:`render`.
    """
    return _png(_message_data(kind, style.corner_radius_css_px), style)


@cache
def _message_data(kind: MessageKind, radius_css_px: int) -> bytes:
    rows = zlib.decompress(write_stream(*_write(_SIGNS[kind], _SIGN_NAMES, radius_css_px, bytes)))
    return zlib.compress(rows, level=9)


def _write(
    symbols: Sequence[str], names: tuple[str, ...], radius_css_px: int, random: Random
) -> tuple[bytes, int]:
    """Return the encoded image with *symbols* side by side, and the Adler-32 of its rows.

    Each symbol is one of *names*, and starts at a byte.
    """
    pitch_px = _pitch_px(len(symbols))
    height_px = _height_px(pitch_px)
    shift_px = height_px // 24
    glyphs, frame = _glyphs(height_px, names), _frame(radius_css_px, height_px, names)
    left_px = (WIDTH_PX - len(symbols) * pitch_px) // 2
    choices = iter(random(3 * len(symbols)))
    columns: list[Iterable[bytes]] = [frame.lefts]
    end, total, weighted = _MARGIN_PX // _PX_PER_BYTE, 0, 0
    for place, symbol in enumerate(symbols):
        hands = glyphs[symbol]
        glyph = hands[next(choices) % len(hands)]
        x = left_px + place * pitch_px + pitch_px // 2 - glyph.width_bytes
        x += next(choices) % (2 * shift_px + 1) - shift_px
        y = (HEIGHT_PX - len(glyph.rows)) // 2
        y += next(choices) % (2 * shift_px + 1) - shift_px
        start = x // _PX_PER_BYTE
        above = y - frame.top
        below = len(frame.lefts) - above - len(glyph.rows)
        columns += (
            repeat(_GAPS[start - end]),
            [*[glyph.empty] * above, *glyph.rows, *[glyph.empty] * below],
        )
        end = start + glyph.width_bytes
        total += glyph.total
        weighted += glyph.total * (_SIZE_BYTES - y * _STRIDE_BYTES - len(_FILTER) - start)
        weighted -= glyph.weighted
    last = (WIDTH_PX - _MARGIN_PX) // _PX_PER_BYTE
    rows = zip(*columns, repeat(_GAPS[last - end]), frame.rights, strict=False)
    joined = b"".join([frame.above, *chain.from_iterable(rows), frame.below])
    low = ((frame.adler & 0xFFFF) + total) % _ADLER_MODULUS
    high = ((frame.adler >> 16) + weighted) % _ADLER_MODULUS
    return joined, high << 16 | low


def _pitch_px(symbols: int) -> int:
    """Return the distance between the left edges of two symbols, if there are so many."""
    return min((WIDTH_PX - 2 * _MARGIN_PX) // symbols, _PITCH_MAX_PX)


def _height_px(pitch_px: int) -> int:
    return min(pitch_px, _SYMBOL_HEIGHT_MAX_PX)


@cache
def _glyphs(height_px: int, names: tuple[str, ...]) -> dict[str, list[_Glyph]]:
    return {
        name: [
            _glyph(draw(SYMBOLS[name], hand, height_px))
            for hand in (HANDS if name.isdecimal() else (Hand(),))
        ]
        for name in names
    }


def _glyph(coverage: Glyph) -> _Glyph:
    rows = [_pack(row.translate(_INK_TO_PALETTE)) for row in coverage]
    width_bytes = len(rows[0])
    added = [sum(row) - width_bytes * _BACKGROUND for row in rows]
    return _Glyph(
        rows=[encode(row) for row in rows],
        empty=_GAPS[width_bytes],
        width_bytes=width_bytes,
        total=sum(added),
        weighted=sum(
            y * _STRIDE_BYTES * row_added
            + sum(map(mul, row, range(len(row))))
            - _BACKGROUND * sum(range(len(row)))
            for y, (row, row_added) in enumerate(zip(rows, added, strict=True))
        ),
    )


@lru_cache(maxsize=64)
def _frame(radius_css_px: int, height_px: int, names: tuple[str, ...]) -> _Frame:
    """Prepare the image around the symbols of a height."""
    image = _background(radius_css_px)
    rows = [image[start : start + _STRIDE_BYTES] for start in range(0, len(image), _STRIDE_BYTES)]
    highest = max(
        len(glyph.rows) for hands in _glyphs(height_px, names).values() for glyph in hands
    )
    top = (HEIGHT_PX - highest) // 2 - height_px // 24
    bottom = HEIGHT_PX - top
    margin_bytes = _MARGIN_PX // _PX_PER_BYTE
    return _Frame(
        top=top,
        above=b"".join(map(encode, rows[:top])),
        lefts=[encode(row[: len(_FILTER) + margin_bytes]) for row in rows[top:bottom]],
        rights=[encode(row[-margin_bytes:]) for row in rows[top:bottom]],
        below=b"".join(map(encode, rows[bottom:])),
        adler=zlib.adler32(image),
    )


def _pack(pixels: bytes) -> bytes:
    """Put two pixels into each byte; after an odd number of pixels comes one of background."""
    pixels += bytes([STEPS_OF_EDGE]) * (len(pixels) % _PX_PER_BYTE)
    # A pixel is a byte 00 to 0F, so every second hexadecimal digit is the pixel.
    return bytes.fromhex(pixels.hex()[1::2])


def _background(radius_css_px: int) -> bytes:
    """Return an image without symbols: for each row its filter byte, then its packed pixels."""
    radius = min(radius_css_px * PX_PER_CSS_PX, HEIGHT_PX // 2)
    rows = []
    for y in range(radius):
        # A third of a row for each step of the edge.
        insets = [_inset(radius, y + third / 6) for third in (5, 3, 1)]
        left = bytes(insets[0])
        for step, (before, after) in enumerate(pairwise(insets), 1):
            left += bytes([step]) * (after - before)
        middle = bytes([STEPS_OF_EDGE]) * (WIDTH_PX - 2 * len(left))
        rows.append(_FILTER + _pack(left + middle + left[::-1]))
    full = _FILTER + _pack(bytes([STEPS_OF_EDGE]) * WIDTH_PX)
    return b"".join([*rows, full * (HEIGHT_PX - 2 * radius), *reversed(rows)])


def _inset(radius: int, y: float) -> int:
    """Return the distance of the corner's circle from the left, at *y* pixels below the top."""
    return round(radius - sqrt(radius**2 - (radius - y) ** 2))


def _png(data: bytes, style: ImageStyle) -> bytes:
    return b"".join([_start(style), _chunk(b"IDAT", data), _END])


@lru_cache(maxsize=128)
def _start(style: ImageStyle) -> bytes:
    """Return the image up to its pixels."""
    header = struct.pack(">IIBBBBB", WIDTH_PX, HEIGHT_PX, 4, 3, 0, 0, 0)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", header),
            _chunk(b"PLTE", _palette(style)),
            _chunk(b"tRNS", bytes(255 * step // STEPS_OF_EDGE for step in range(STEPS_OF_EDGE))),
        ]
    )


def _palette(style: ImageStyle) -> bytes:
    blends = [
        (back * (INK - ink) + text * ink) // INK
        for ink in range(INK + 1)
        for back, text in zip(style.background.rgb, style.text.rgb, strict=True)
    ]
    return bytes(style.background.rgb) * STEPS_OF_EDGE + bytes(blends)


def _chunk(name: bytes, content: bytes) -> bytes:
    body = name + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


_END: Final = _chunk(b"IEND", b"")

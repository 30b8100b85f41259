"""Readers of PIN images that are no people: templates that are correlated, and tesseract."""

import os
import shutil
import subprocess
import zlib
from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby, product
from math import sqrt
from typing import Final, NamedTuple

from crypto.pin_image import HEIGHT_PX, PX_PER_CSS_PX, WIDTH_PX
from crypto.pin_image_deflate import STEPS_OF_EDGE
from crypto.pin_image_strokes import INK, SYMBOLS, Hand, draw

Image = Sequence[Sequence[int]]
"""Rows of pixels, each with 0 to INK."""

_STRIDE_BYTES: Final = 1 + WIDTH_PX // 2
# The widest share of the image that digits have, and the highest that one has.
_DIGITS_SHARE: Final = 924 / WIDTH_PX
_HEIGHT_SHARE: Final = 184 / WIDTH_PX
_CELLS_HIGH: Final = 40
_ROW_BITS: Final = 128
_BESIDE_CELLS: Final = range(-4, 5)


def ink(png: bytes) -> Image:
    """Return the ink of an image of a PIN."""
    start = png.index(b"IDAT") + len(b"IDAT")
    size = int.from_bytes(png[start - 8 : start - 4], "big")
    data = zlib.decompress(png[start : start + size])
    rows = (data[y * _STRIDE_BYTES + 1 : (y + 1) * _STRIDE_BYTES] for y in range(HEIGHT_PX))
    return [[max(0, int(pixel, 16) - STEPS_OF_EDGE) for pixel in row.hex()] for row in rows]


def on_density_1(image: Image) -> Image:
    """Return an image as a screen of density 1 shows it."""
    step = PX_PER_CSS_PX
    return [
        [
            sum(sum(row[x : x + step]) for row in image[y : y + step]) // (step * step)
            for x in range(0, WIDTH_PX, step)
        ]
        for y in range(0, HEIGHT_PX - step + 1, step)
    ]


def _cut(image: Image) -> list[Image]:
    """Cut at the columns without ink, and each part to its own height."""
    inked = [any(column) for column in zip(*image, strict=True)]
    parts: list[Image] = []
    for has_ink, columns in groupby(range(len(inked)), inked.__getitem__):
        if has_ink:
            xs = list(columns)
            rows = [row[xs[0] : xs[-1] + 1] for row in image]
            parts.append([row for row in rows if any(row)])
    return parts


class _Cells(NamedTuple):
    """A digit in cells, with ink or without; a cell is a bit, a row so many bits of a number."""

    inked: int
    box: int
    """All its cells."""
    width: int
    height: int


def _cells(image: Image, step_px: int) -> _Cells:
    rows = [row[step_px // 2 :: step_px] for row in image[step_px // 2 :: step_px]]
    width = len(rows[0])
    inked = box = 0
    for y, row in enumerate(rows):
        bits = sum(1 << x for x, level in enumerate(row) if 2 * level > INK)
        inked |= bits << y * _ROW_BITS
        box |= ((1 << width) - 1) << y * _ROW_BITS
    return _Cells(inked, box, width, len(rows))


class TemplateReader:
    """Knows how digits are drawn, in some hands, and takes what correlates best at any place."""

    def __init__(self, *hands: Hand) -> None:
        self._hands = hands
        self._templates = lru_cache(self._draw)

    def read(self, image: Image) -> str:
        """Return what the digits of *image* may be."""
        parts, width = _cut(image), len(image[0])
        height = min(width * _DIGITS_SHARE / len(parts), width * _HEIGHT_SHARE)
        step = max(1, int(height) // _CELLS_HIGH)
        templates = self._templates(int(height), step)
        return "".join(_best(_cells(part, step), templates) for part in parts)

    def _draw(self, height_px: int, step_px: int) -> list[tuple[str, _Cells]]:
        return [
            (digit, _cells(draw(SYMBOLS[digit], hand, height_px), step_px))
            for digit in "0123456789"
            for hand in self._hands
        ]


def _best(seen: _Cells, templates: Sequence[tuple[str, _Cells]]) -> str:
    found = ((_correlation(seen, template), digit) for digit, template in templates)
    return max(found)[1]


def _correlation(seen: _Cells, template: _Cells) -> float:
    """Return the best correlation of a template with a digit, wherever it lies on it."""
    x, y = (seen.width - template.width) // 2, (seen.height - template.height) // 2
    return max(
        _phi(_moved(seen.inked, x + dx, y + dy), template)
        for dx, dy in product(_BESIDE_CELLS, repeat=2)
    )


def _moved(inked: int, x: int, y: int) -> int:
    """Move cells to the left by *x*, and up by *y*; what leaves at the left is lost."""
    bits = y * _ROW_BITS + x
    return inked >> bits if bits > 0 else inked << -bits


def _phi(inked: int, template: _Cells) -> float:
    """Return the correlation of two sets of cells (phi), -1 to 1."""
    cells, drawn = template.width * template.height, template.inked.bit_count()
    seen, both = (inked & template.box).bit_count(), (inked & template.inked).bit_count()
    spread = seen * (cells - seen) * drawn * (cells - drawn)
    return (cells * both - seen * drawn) / sqrt(spread) if spread else -1.0


def tesseract_is_there() -> bool:
    """Tell whether the program is installed."""
    return shutil.which("tesseract") is not None


def tesseract(image: Image) -> str:
    """Return what tesseract takes for digits, told that there is one line of digits only."""
    header = b"P5 %d %d 255\n" % (len(image[0]), len(image))
    grey = b"".join(bytes(255 - 255 * level // INK for level in row) for row in image)
    only_digits = ("--psm", "7", "-c", "tessedit_char_whitelist=0123456789")
    run = subprocess.run(
        ["tesseract", "stdin", "stdout", *only_digits],
        input=header + grey,
        capture_output=True,
        env={**os.environ, "OMP_THREAD_LIMIT": "1"},
        check=True,
    )
    return "".join(run.stdout.decode().split())

"""The digits and signs of a PIN image as pen strokes, and the pen that draws them.

A symbol is lines and arcs on a square of side 1, with x to the right and y down; a round pen
follows them. There are ten digits and four signs that need no language. The result is coverage,
0 to :data:`INK` for each pixel: the sum of the signed areas under the outline of each stroke,
rounded.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, cos, hypot, pi, radians, sin
from typing import Final

INK: Final = 12
"""The coverage of a pixel that is full of ink."""

# Where strokes cross, the sum of their coverages can be more than INK.
_LEVELS: Final = [bytes([min(level, INK)]) for level in range(256)]

Glyph = tuple[bytes, ...]
"""Rows of equal length, from top to bottom; one byte of coverage for each pixel."""

Areas = dict[int, float]
"""Of a row: by how much the coverage of a pixel differs from that of the one before."""

Position = tuple[float, float]
Stroke = tuple[Position, ...]


def _arc(x: float, y: float, width: float, height: float, start: int, end: int) -> Stroke:
    """Return an arc of the ellipse around (x, y); in degrees, 0 is right, clockwise."""
    steps = max(2, abs(end - start) // 6)
    angles = (radians(start + (end - start) * step / steps) for step in range(steps + 1))
    return tuple((x + width / 2 * cos(angle), y + height / 2 * sin(angle)) for angle in angles)


def _turned(*strokes: Stroke) -> tuple[Stroke, ...]:
    return tuple(tuple((0.56 - x, 1 - y) for x, y in stroke) for stroke in strokes)


@dataclass(frozen=True, slots=True)
class Symbol:
    """A shape; its width and the width of its pen are fractions of its height."""

    strokes: tuple[Stroke, ...]
    width: float = 0.56
    pen: float = 0.135


# A stroke is smooth: where a shape has a corner, one stroke ends and the next begins.
_SIX: Final = (
    _arc(0.28, 0.69, 0.56, 0.62, 0, 360),
    (*_arc(0.6, 0.69, 1.2, 1.5, 180, 245),),
)
SYMBOLS: Final = {
    "0": Symbol(
        (
            (
                *_arc(0.28, 0.3, 0.56, 0.6, 180, 360),
                *_arc(0.28, 0.7, 0.56, 0.6, 0, 180),
                (0, 0.3),
            ),
        )
    ),
    # With a foot: however it leans, it is no 7.
    "1": Symbol((((0.05, 0.24), (0.3, 0)), ((0.3, 0), (0.3, 1)), ((0.06, 1), (0.54, 1)))),
    "2": Symbol(
        (
            (*_arc(0.28, 0.28, 0.54, 0.56, 190, 395), (0.02, 1)),
            ((0.02, 1), (0.56, 1)),
        )
    ),
    "3": Symbol(
        (
            (*_arc(0.27, 0.245, 0.48, 0.49, 200, 450), (0.2, 0.49)),
            ((0.2, 0.49), *_arc(0.27, 0.745, 0.56, 0.51, 270, 525)),
        )
    ),
    "4": Symbol(
        (((0.4, 0), (0, 0.7)), ((0, 0.7), (0.58, 0.7)), ((0.43, 0.42), (0.43, 1))), width=0.58
    ),
    "5": Symbol(
        (
            ((0.5, 0), (0.1, 0)),
            ((0.1, 0), (0.06, 0.46)),
            _arc(0.265, 0.68, 0.58, 0.64, 225, 513),
        )
    ),
    "6": Symbol(_SIX),
    "7": Symbol((((0, 0), (0.55, 0)), ((0.55, 0), (0.18, 1)))),
    "8": Symbol(
        (_arc(0.28, 0.24, 0.46, 0.48, 90, 450), _arc(0.28, 0.735, 0.56, 0.53, 270, 630)),
    ),
    "9": Symbol(_turned(*_SIX)),
    "hidden": Symbol(
        (
            _arc(0.5, 0.86, 1.232, 1.232, 216, 324),
            _arc(0.5, 0.14, 1.232, 1.232, 36, 144),
            _arc(0.5, 0.5, 0.26, 0.26, 0, 360),
            ((0.14, 0.06), (0.86, 0.94)),
        ),
        width=1,
        pen=0.085,
    ),
    "warning": Symbol(
        (
            ((0.5, 0.04), (1, 0.94)),
            ((1, 0.94), (0, 0.94)),
            ((0, 0.94), (0.5, 0.04)),
            ((0.5, 0.36), (0.5, 0.6)),
            ((0.5, 0.77), (0.5, 0.775)),
        ),
        width=1,
        pen=0.085,
    ),
    "wait": Symbol(
        (_arc(0.5, 0.5, 1, 1, 0, 360), ((0.5, 0.2), (0.5, 0.52)), ((0.5, 0.52), (0.72, 0.64))),
        width=1,
        pen=0.085,
    ),
    "again": Symbol(
        (
            (*_arc(0.46, 0.53, 0.86, 0.86, 30, 300), (0.94, 0.31)),
            ((0.94, 0.04), (0.94, 0.31)),
            ((0.94, 0.31), (0.67, 0.31)),
        ),
        width=1,
        pen=0.085,
    ),
}


@dataclass(frozen=True, slots=True)
class Hand:
    """How a symbol is drawn: factors for its size and its pen, then a slant, then a turn."""

    turn_degrees: float = 0
    """Clockwise."""
    slant: float = 0
    """To the right, at the top (x per y)."""
    width: float = 1
    height: float = 1
    pen: float = 1


def draw(symbol: Symbol, hand: Hand, height_px: int) -> Glyph:
    """Return *symbol* as coverage, without empty rows and columns but for one at each side.

    Upright, and of the height that is usual, the path of the pen is *height_px* pixels high.
    """
    radius = symbol.pen * hand.pen * height_px / 2
    paths = [[_placed(point, symbol, hand, height_px) for point in s] for s in symbol.strokes]
    xs, ys = zip(*[point for path in paths for point in path], strict=True)
    margin = radius + 1
    left, top = min(xs) - margin, min(ys) - margin
    width_px, rows = ceil(max(xs) + margin - left), ceil(max(ys) + margin - top)
    areas: list[Areas] = [{} for _ in range(rows)]
    for path in paths:
        outline = [*_outline([(x - left, y - top) for x, y in path], radius)]
        for start, end in pairwise([*outline, outline[0]]):
            _add_edge(areas, start, end)
    return tuple(_row(changes, width_px) for changes in areas)


def _placed(point: Position, symbol: Symbol, hand: Hand, height_px: int) -> Position:
    """Return where a point of a symbol is, in pixels from the symbol's middle."""
    x = (point[0] - symbol.width / 2) * hand.width + (0.5 - point[1]) * hand.slant
    y = (point[1] - 0.5) * hand.height
    c, s = cos(radians(hand.turn_degrees)), sin(radians(hand.turn_degrees))
    return height_px * (x * c - y * s), height_px * (x * s + y * c)


def _row(changes: Areas, width_px: int) -> bytes:
    """Add up the changes of a row, from left to right, and round."""
    row = bytearray()
    level = 0.5  # int() below drops the fraction; with 0.5 added, that is rounding
    for pixel in sorted(changes):
        row += _LEVELS[int(level)] * (pixel - len(row))
        level += changes[pixel]
    return bytes(row + bytes(width_px - len(row)))


def _outline(path: Sequence[Position], radius: float) -> Iterator[Position]:
    """Return the outline of a stroke: *path* at a distance on both sides, with round ends."""
    headings = [(bx - ax, by - ay) for (ax, ay), (bx, by) in pairwise(path)]
    headings = [headings[0], *headings, headings[-1]]
    normals = []
    for (ax, ay), (bx, by) in pairwise(headings):
        x, y = ax / hypot(ax, ay) + bx / hypot(bx, by), ay / hypot(ax, ay) + by / hypot(bx, by)
        normals.append((-y / hypot(x, y) * radius, x / hypot(x, y) * radius))
    for (x, y), (nx, ny) in zip(path, normals, strict=True):
        yield x + nx, y + ny
    yield from _cap(path[-1], normals[-1])
    for (x, y), (nx, ny) in zip(reversed(path), reversed(normals), strict=True):
        yield x - nx, y - ny
    yield from _cap(path[0], (-normals[0][0], -normals[0][1]))


def _cap(centre: Position, normal: Position) -> Iterator[Position]:
    for step in range(1, 12):
        c, s = cos(-pi * step / 12), sin(-pi * step / 12)
        yield (
            centre[0] + normal[0] * c - normal[1] * s,
            centre[1] + normal[0] * s + normal[1] * c,
        )


def _add_edge(areas: Sequence[Areas], start: Position, end: Position) -> None:
    """Add an edge of an outline: the change of area, from each pixel to the next, in its rows."""
    (x0, y0), (x1, y1) = (start, end) if start[1] < end[1] else (end, start)
    if y0 == y1:
        return
    sign = INK if start[1] < end[1] else -INK
    slope = (x1 - x0) / (y1 - y0)
    for row in range(int(y0), ceil(y1)):
        top, bottom = max(y0, row), min(y1, row + 1)
        left, across = x0 + (top - y0) * slope, (bottom - top) * slope
        pieces = int(abs(across)) + 1
        part = sign * (bottom - top) / pieces
        changes = areas[row]
        for piece in range(pieces):
            x = left + across * (piece + 0.5) / pieces
            pixel = int(x)
            changes[pixel] = changes.get(pixel, 0.0) + part * (pixel + 1 - x)
            changes[pixel + 1] = changes.get(pixel + 1, 0.0) + part * (x - pixel)

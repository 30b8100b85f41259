"""Bar charts as SVG: text stays text, the same figures give the same bytes, dark pages are dark."""

from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise
from typing import Final

WIDTH: Final = 760
LEFT: Final = 190
BAR: Final = 16
GAP: Final = 22
TOP: Final = 58
VALUE_ROOM: Final = 70
LETTER: Final = 7.2
"""Of the legend, about."""
SHADES: Final = 5
STYLE: Final = """<style>
text { font: 13px system-ui, sans-serif; fill: #1c1c1e }
.title { font-weight: 600; font-size: 15px }
.soft { fill: #5f6368 }
.s0 { fill: #9aa0a6 } .s1 { fill: #1a73e8 } .s2 { fill: #0b3d91 }
.s3 { fill: #b06000 } .s4 { fill: #137333 }
@media (prefers-color-scheme: dark) {
text { fill: #e8eaed } .soft { fill: #9aa0a6 }
.s0 { fill: #80868b } .s1 { fill: #8ab4f8 } .s2 { fill: #4285f4 }
.s3 { fill: #fdd663 } .s4 { fill: #81c995 }
}
</style>"""


def grouped(title: str, groups: Mapping[str, Mapping[str, float]]) -> str:
    """Draw a bar for each value, side by side in their group; the value stands behind its bar."""
    series = [*next(iter(groups.values()))]
    scale = _scale(max(max(values.values()) for values in groups.values()))
    parts, y = [], TOP
    for name, values in groups.items():
        parts.append(_text(LEFT - 10, y + BAR * len(values) / 2 + 5, name, anchor="end"))
        for shade, value in enumerate(values.values()):
            parts.append(_bar(LEFT, y, value * scale, shade))
            parts.append(_text(LEFT + value * scale + 6, y + BAR - 3, _shown(value), "soft"))
            y += BAR
        y += GAP
    return _drawing(title, series, parts, y)


def stacked(title: str, bars: Mapping[str, Mapping[str, float]]) -> str:
    """Draw a bar for each name, of parts one after the other; the sum stands behind it."""
    series = [*next(iter(bars.values()))]
    scale = _scale(max(sum(parts.values()) for parts in bars.values()))
    drawn, y = [], TOP
    for name, values in bars.items():
        drawn.append(_text(LEFT - 10, y + BAR - 3, name, anchor="end"))
        ends = [0.0]
        for value in values.values():
            ends.append(ends[-1] + value)
        for shade, (begin, end) in enumerate(pairwise(ends)):
            drawn.append(_bar(LEFT + begin * scale, y, (end - begin) * scale, shade))
        drawn.append(_text(LEFT + ends[-1] * scale + 6, y + BAR - 3, _shown(ends[-1]), "soft"))
        y += BAR + 8
    return _drawing(title, series, drawn, y + GAP - 8)


def _drawing(title: str, series: Sequence[str], parts: Sequence[str], height: float) -> str:
    legend, x = [], float(LEFT)
    for shade, name in enumerate(series):
        legend.append(f'<rect class="s{shade}" x="{x:.0f}" y="33" width="10" height="10"/>')
        legend.append(_text(x + 15, 43, name, "soft"))
        x += 33 + LETTER * len(name)
    drawn = "\n".join((_text(12, 20, title, "title"), *legend, *parts))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}"'
        f' width="{WIDTH}" height="{height:.0f}" role="img" aria-label="{escape(title)}">\n'
        f"{STYLE}\n{drawn}\n</svg>\n"
    )


def _scale(largest: float) -> float:
    return (WIDTH - LEFT - VALUE_ROOM) / largest


def _bar(x: float, y: float, width: float, shade: int) -> str:
    shown = f'x="{x:.1f}" y="{y:.0f}" width="{width:.1f}" height="{BAR - 2}"'
    return f'<rect class="s{shade % SHADES}" {shown}/>'


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    of_class = f' class="{kind}"' if kind else ""
    return f'<text{of_class} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"

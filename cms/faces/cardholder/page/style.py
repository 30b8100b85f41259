"""``customCss`` as typed values: no text of a client reaches a stylesheet.

Members and defaults of a set page and an image are those of the published contract. A member that
is not known is ignored, one that is known must be right: no colour names, no strings or booleans
for numbers.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from cms.faces.operation import Schema
from crypto.pin_image import Colour, ImageStyle

RADIUS_MAX_PX: Final = 64
"""A larger radius is taken as this one."""
VIEW_WIDTHS_PX: Final = range(120, 1020 + 1)
"""From legible to the pixels that an image has."""

_BACKGROUND: Final = Colour(0xEF, 0xEF, 0xEF)
_BLACK: Final = Colour(0, 0, 0)
_WHITE: Final = Colour(0xFF, 0xFF, 0xFF)
_COLOUR_MESSAGE: Final = "Invalid hex color format"
_RADIUS_MESSAGE: Final = "Must be a number from 0"
_WIDTH_MESSAGE: Final = (
    f"Must be a whole number from {VIEW_WIDTHS_PX.start} to {VIEW_WIDTHS_PX.stop - 1}"
)


class StyleError(NamedTuple):
    """A member of ``customCss`` that cannot be used, and why."""

    member: str
    message: str


@dataclass(frozen=True, slots=True)
class PageStyle:
    """How a set page looks; radii in CSS pixels, 0 to :data:`RADIUS_MAX_PX`."""

    background: Colour = _BACKGROUND
    text: Colour = _BLACK
    background_primary: Colour = _BLACK
    text_primary: Colour = _WHITE
    button_radius_px: float = 8
    pin_radius_px: float = 4
    pin_border: Colour = _BLACK

    @property
    def has_colours(self) -> bool:
        """Tell whether a colour differs from the published default."""
        colours = (self.background, self.text, self.pin_border)
        return self.has_primary or colours != (_BACKGROUND, _BLACK, _BLACK)

    @property
    def has_primary(self) -> bool:
        """Tell whether a colour of buttons and slots differs from the published default."""
        return (self.background_primary, self.text_primary) != (_BLACK, _WHITE)

    def members(self) -> dict[str, object]:
        """Return the style as the contract writes it, with every default filled in."""
        return {
            "backgroundColor": self.background.css,
            "textColor": self.text.css,
            "backgroundColorPrimary": self.background_primary.css,
            "textColorPrimary": self.text_primary.css,
            "buttonBorderRadius": self.button_radius_px,
            "pinBorderRadius": self.pin_radius_px,
            "pinBorderColor": self.pin_border.css,
        }


@dataclass(frozen=True, slots=True)
class ViewStyle:
    """How a page of the pincontrol face looks; the width of the image in CSS pixels."""

    digit: Colour = _BLACK
    background: Colour = _WHITE
    frame: Colour = _BLACK
    width_px: int = 340

    @property
    def has_colours(self) -> bool:
        """Tell whether a colour differs from the default."""
        return (self.digit, self.background, self.frame) != (_BLACK, _WHITE, _BLACK)

    def members(self) -> dict[str, object]:
        """Return the style as a client's record writes it."""
        return {
            "digitColor": self.digit.css,
            "backgroundColor": self.background.css,
            "frameColor": self.frame.css,
            "widthPx": self.width_px,
        }


def parse_view(members: Mapping[str, object]) -> ViewStyle | list[StyleError]:
    """Read the style of a client's pincontrol pages, or say what is wrong with it."""
    reader = _Reader(members)
    default = ViewStyle()
    style = ViewStyle(
        reader.colour("digitColor", default.digit),
        reader.colour("backgroundColor", default.background),
        reader.colour("frameColor", default.frame),
        reader.width("widthPx", default.width_px),
    )
    reader.legible("digitColor", style.digit, "backgroundColor", style.background)
    return reader.errors or style


def parse_page(members: Mapping[str, object]) -> PageStyle | list[StyleError]:
    """Read the ``customCss`` of a set page, or say what is wrong with it."""
    reader = _Reader(members)
    background = reader.colour("backgroundColor", _BACKGROUND)
    text = reader.colour("textColor", _BLACK)
    background_primary = reader.colour("backgroundColorPrimary", _BLACK)
    text_primary = reader.colour("textColorPrimary", _WHITE)
    style = PageStyle(
        background,
        text,
        background_primary,
        text_primary,
        reader.radius("buttonBorderRadius", 8),
        reader.radius("pinBorderRadius", 4),
        reader.colour("pinBorderColor", background_primary),
    )
    reader.legible("textColor", text, "backgroundColor", background)
    reader.legible("textColorPrimary", text_primary, "backgroundColorPrimary", background_primary)
    return reader.errors or style


def parse_image(members: Mapping[str, object]) -> ImageStyle | list[StyleError]:
    """Read the ``customCss`` of an image, or say what is wrong with it."""
    reader = _Reader(members)
    background = reader.colour("backgroundColor", _BACKGROUND)
    text = reader.colour("textColor", _BLACK)
    reader.legible("textColor", text, "backgroundColor", background)
    return reader.errors or ImageStyle(background, text)


def image_members(style: ImageStyle) -> dict[str, object]:
    """Return *style* as the contract writes it."""
    return {"backgroundColor": style.background.css, "textColor": style.text.css}


def style_schema(members: Mapping[str, object]) -> Schema:
    """Describe ``customCss``, of which *members* are the defaults."""
    colour = {"type": "string", "pattern": "^#(?:[0-9A-Fa-f]{3}|[0-9A-Fa-f]{6})$"}
    radius = {"type": "number", "minimum": 0}
    properties = {
        name: {**(colour if isinstance(default, str) else radius), "default": default}
        for name, default in members.items()
    }
    return {"type": "object", "properties": properties}


class _Reader:
    """Reads members one by one and collects what is wrong."""

    def __init__(self, members: Mapping[str, object]) -> None:
        self.members = members
        self.errors: list[StyleError] = []

    def colour(self, member: str, default: Colour) -> Colour:
        if member not in self.members:
            return default
        value = self.members[member]
        try:
            return Colour.parse(value if isinstance(value, str) else "")
        except ValueError:
            self.errors.append(StyleError(member, _COLOUR_MESSAGE))
            return default

    def radius(self, member: str, default: float) -> float:
        value = self.members.get(member, default)
        # True is an int to Python, and NaN is neither below nor above anything.
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf:
            return min(value, RADIUS_MAX_PX)
        self.errors.append(StyleError(member, _RADIUS_MESSAGE))
        return default

    def width(self, member: str, default: int) -> int:
        value = self.members.get(member, default)
        if isinstance(value, int) and not isinstance(value, bool) and value in VIEW_WIDTHS_PX:
            return value
        self.errors.append(StyleError(member, _WIDTH_MESSAGE))
        return default

    def legible(self, text: str, text_colour: Colour, back: str, back_colour: Colour) -> None:
        """Refuse text in the colour of its background; blame the member that was sent."""
        known_bad = {error.member for error in self.errors}
        if text_colour != back_colour or known_bad & {text, back}:
            return
        named, other = (text, back) if text in self.members else (back, text)
        self.errors.append(StyleError(named, f"Must not be the same color as {other}"))

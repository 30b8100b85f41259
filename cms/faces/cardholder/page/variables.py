"""The custom properties of the stylesheet, from the style of a client.

A client that sets no colour gets those of the stylesheet, which has them for a dark screen too.
"""

import math
from typing import Final

from cms.faces.cardholder.page.style import PageStyle, ViewStyle
from crypto.pin_image import Colour

EDGE_CONTRAST: Final = 3
"""Of what must be seen to know a box (WCAG 2.2, 1.4.11)."""
LINE_SHARE: Final = 0.2
"""How much of the text's colour a line around a card has."""


def set_page_variables(style: PageStyle) -> dict[str, str]:
    """Return the custom properties of a set page's style: colours and lengths."""
    lengths = {
        "button-radius": f"{style.button_radius_px:.2f}px",
        "pin-radius": f"{style.pin_radius_px:.2f}px",
    }
    if not style.has_colours:
        return lengths
    # Slots of the published default, black, are for a page that is all of that default.
    plain = not style.has_primary
    slot, on_slot = style.background_primary, style.text_primary
    if plain:
        slot, on_slot = style.background, style.text
    # Where a box has about the colour of the page, its edge must be seen all the same.
    back = style.background
    edge = _seen(style.background_primary, back, style.text_primary, style.text)
    pin_edge = style.pin_border
    if pin_edge == style.background_primary:
        pin_edge = style.text if plain else edge
    elif pin_edge == slot == back:
        pin_edge = on_slot
    return lengths | {
        "background": back.css,
        "surface": back.css,
        "line": _between(style.text, back, LINE_SHARE).css,
        "text": style.text.css,
        "primary": style.background_primary.css,
        "on-primary": style.text_primary.css,
        "button-edge": edge.css,
        "slot": slot.css,
        "on-slot": on_slot.css,
        "pin-edge": pin_edge.css,
    }


def view_variables(style: ViewStyle) -> dict[str, str]:
    """Return the custom properties of a pincontrol page's style."""
    width = {"view-width": f"{style.width_px}px"}
    if not style.has_colours:
        return width
    return width | {
        "background": style.background.css,
        "surface": style.background.css,
        "line": _between(style.digit, style.background, LINE_SHARE).css,
        "text": style.digit.css,
        "primary": style.digit.css,
        "on-primary": style.background.css,
        "button-edge": style.digit.css,
        "slot": style.background.css,
        "on-slot": style.digit.css,
        "pin-edge": style.digit.css,
        "view-edge": style.frame.css,
    }


def _seen(colour: Colour, back: Colour, *others: Colour) -> Colour:
    """Return *colour*, or the first of *others*, that stands out from *back*; else *colour*."""
    return next((one for one in (colour, *others) if _contrast(one, back) >= EDGE_CONTRAST), colour)


def _between(colour: Colour, back: Colour, share: float) -> Colour:
    """Mix *share* of a colour into *back*."""
    return Colour(*(round(b + (c - b) * share) for c, b in zip(colour.rgb, back.rgb, strict=True)))


def _contrast(one: Colour, other: Colour) -> float:
    """Return the contrast ratio of WCAG 2.2, 1 to 21."""
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: Colour) -> float:
    # The curve of sRGB; its straight part, for all but black, changes no decision here.
    red, green, blue = (math.pow((value / 255 + 0.055) / 1.055, 2.4) for value in colour.rgb)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue

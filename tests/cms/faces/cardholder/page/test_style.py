import json
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cms.faces.cardholder.page import style
from cms.faces.cardholder.page.style import (
    PageStyle,
    StyleError,
    ViewStyle,
    parse_image,
    parse_page,
    parse_view,
)
from crypto.pin_image import Colour, ImageStyle

COLOURS = (
    "backgroundColor",
    "textColor",
    "backgroundColorPrimary",
    "textColorPrimary",
    "pinBorderColor",
)
RADII = ("buttonBorderRadius", "pinBorderRadius")


def page(**members: object) -> PageStyle:
    parsed = parse_page(members)
    assert isinstance(parsed, PageStyle)
    return parsed


def test_without_members_a_page_looks_as_published() -> None:
    assert page().members() == {
        "backgroundColor": "#efefef",
        "textColor": "#000000",
        "backgroundColorPrimary": "#000000",
        "textColorPrimary": "#ffffff",
        "buttonBorderRadius": 8,
        "pinBorderRadius": 4,
        "pinBorderColor": "#000000",
    }


def test_the_border_of_the_pin_is_that_of_the_primary_background_unless_it_is_sent() -> None:
    blue = page(backgroundColorPrimary="#3B82F6")
    assert blue.pin_border == Colour.parse("#3b82f6")
    assert page(backgroundColorPrimary="#3B82F6", pinBorderColor="#60A5FA").pin_border.css == (
        "#60a5fa"
    )


def test_short_colours_and_both_cases_are_read() -> None:
    assert page(backgroundColor="#fFf", textColor="#AbC").text.css == "#aabbcc"


def test_a_style_survives_being_stored() -> None:
    asked = page(textColor="#123", buttonBorderRadius=2.5, pinBorderColor="#FF00FF")
    assert parse_page(json.loads(json.dumps(asked.members()))) == asked


def test_unknown_members_are_ignored() -> None:
    assert page(fontFamily="url(https://evil.test)", position=1) == PageStyle()


@pytest.mark.parametrize("member", COLOURS)
@pytest.mark.parametrize(
    "value",
    ["white", "#GGGGGG", "#12", "#1234", "#12345678", "rgb(0,0,0)", "", "#fff;", " #fff", "#fff\n",
     "#\u0660\u0660\u0660", 0, None, True, ["#fff"], {"a": "#fff"}],
)  # fmt: skip
def test_what_is_not_a_colour_is_refused_by_name(member: str, value: object) -> None:
    assert parse_page({member: value}) == [StyleError(member, "Invalid hex color format")]


@pytest.mark.parametrize("member", RADII)
@pytest.mark.parametrize(
    "value", ["8", "8px", True, False, None, -1, -0.5, [], 1e999, float("nan")]
)
def test_what_is_not_a_radius_is_refused_by_name(member: str, value: object) -> None:
    assert parse_page({member: value}) == [StyleError(member, "Must be a number from 0")]


@pytest.mark.parametrize(("sent", "used"), [(0, 0), (64, 64), (65, 64), (10**400, 64), (2.5, 2.5)])
def test_radii_start_at_0_and_end_at_64(sent: float, used: float) -> None:
    assert page(pinBorderRadius=sent).pin_radius_px == used


@pytest.mark.parametrize(
    ("sent", "named"),
    [
        ({"backgroundColor": "#000"}, "backgroundColor"),
        ({"textColor": "#EFEFEF"}, "textColor"),
        ({"textColor": "#FFF", "backgroundColor": "#ffffff"}, "textColor"),
        ({"backgroundColorPrimary": "#FFFFFF"}, "backgroundColorPrimary"),
        ({"textColorPrimary": "#000"}, "textColorPrimary"),
    ],
)
def test_text_in_the_colour_of_its_background_is_refused_by_the_name_that_was_sent(
    sent: dict[str, object], named: str
) -> None:
    errors = parse_page(sent)
    assert isinstance(errors, list)
    assert [error.member for error in errors] == [named]


def test_everything_that_is_wrong_is_said_at_once() -> None:
    errors = parse_page({"textColor": "red", "backgroundColor": "#000", "pinBorderRadius": "4"})
    assert isinstance(errors, list)
    assert [error.member for error in errors] == ["textColor", "pinBorderRadius"]


def test_an_image_has_two_colours() -> None:
    asked = {"backgroundColor": "#121314", "textColor": "#FFF", "pinBorderRadius": "ignored"}
    parsed = parse_image(asked)
    assert parsed == ImageStyle(Colour.parse("#121314"), Colour.parse("#ffffff"))
    assert parse_image(style.image_members(ImageStyle())) == ImageStyle()
    assert parse_image({"textColor": "#efefef"}) == [
        StyleError("textColor", "Must not be the same color as backgroundColor")
    ]


def test_a_view_is_black_on_white_in_a_black_frame_unless_its_client_has_a_style() -> None:
    assert parse_view({}) == ViewStyle()
    assert ViewStyle().members() == {
        "digitColor": "#000000",
        "backgroundColor": "#ffffff",
        "frameColor": "#000000",
        "widthPx": 340,
    }
    asked = {
        "digitColor": "#102030",
        "backgroundColor": "#f0f8ff",
        "frameColor": "#ff8800",
        "widthPx": 1020,
    }
    parsed = parse_view({**asked, "fontFamily": "url(https://evil.test)"})
    assert isinstance(parsed, ViewStyle)
    assert parsed.members() == asked


@pytest.mark.parametrize("width", [119, 1021, 340.0, True, "340", None, [], 10**400])
def test_what_is_not_a_width_is_refused_by_name(width: object) -> None:
    assert parse_view({"widthPx": width}) == [
        StyleError("widthPx", "Must be a whole number from 120 to 1020")
    ]


def test_digits_in_the_colour_of_their_background_are_refused() -> None:
    assert parse_view({"digitColor": "#FFF"}) == [
        StyleError("digitColor", "Must not be the same color as backgroundColor")
    ]
    assert parse_view({"frameColor": "#FFF", "widthPx": 120}) == ViewStyle(
        frame=Colour.parse("#fff"), width_px=120
    )
    errors = parse_view({"digitColor": "red", "frameColor": 1})
    assert isinstance(errors, list)
    assert [error.member for error in errors] == ["digitColor", "frameColor"]


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.from_regex("#[0-9a-f]*"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=3,
)


@given(st.dictionaries(st.sampled_from(COLOURS + RADII), json_values))
def test_no_input_gives_anything_but_colours_and_small_numbers(members: dict[str, object]) -> None:
    parsed = parse_page(members)
    if isinstance(parsed, PageStyle):
        values = [getattr(parsed, field.name) for field in fields(parsed)]
        assert all(isinstance(v, Colour) or 0 <= v <= style.RADIUS_MAX_PX for v in values)
    else:
        assert {error.member for error in parsed} <= set(members)

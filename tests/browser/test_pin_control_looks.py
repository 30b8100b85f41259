"""How the pincontrol page looks, for axe-core and for people's eyes, as the set page does."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, ViewportSize, expect

from cms.faces.cardholder.page.messages import LANGUAGES, MESSAGES
from cms.faces.cardholder.page.style import ViewStyle
from crypto.pin_image import Colour
from tests.browser.control_site import ControlSite, browse
from tests.browser.test_set_page_looks import (
    assert_dark_is_as_good,
    assert_fits,
    assert_named,
    findings,
    shoot,
    too_wide,
)

VIEWPORTS: list[ViewportSize] = [{"width": 320, "height": 568}, {"width": 1024, "height": 768}]
# As a browser for people has it: one voice of the device.
VOICE = """
Object.defineProperty(window, "speechSynthesis", { value: Object.assign(new EventTarget(), {
  getVoices: () => [{ name: "own", lang: "en-GB", localService: true }], cancel() {},
}) });
"""


def press(page: Page, button: str, shown: str) -> None:
    page.locator(button).click()
    expect(page.locator(shown)).to_be_visible()


def view(page: Page, control: ControlSite) -> None:
    control.purpose, control.has_text = "view", True
    page.add_init_script(VOICE)
    browse(page, control)
    expect(page.locator("#image-box img")).to_be_visible()


def text(page: Page, control: ControlSite) -> None:
    view(page, control)
    press(page, "#reveal", "#digits")


def no_text(page: Page, control: ControlSite) -> None:
    control.answers["digits"] = [(503, {})]
    view(page, control)
    press(page, "#reveal", "#view-hint")


def hidden(page: Page, control: ControlSite) -> None:
    view(page, control)
    press(page, "#hide", "#notice-title")


def unshown(page: Page, control: ControlSite) -> None:
    control.purpose, control.answers["view"] = "view", [(503, {})]
    browse(page, control)
    expect(page.locator("#notice")).to_have_attribute("data-state", "unshown")


def unopened(page: Page, control: ControlSite) -> None:
    control.answers["session"] = [(503, {})]
    browse(page, control)
    expect(page.locator("#notice")).to_have_attribute("data-state", "unopened")


def malformed(page: Page, control: ControlSite) -> None:
    control.failed = "malformed"
    browse(page, control)


def entry(page: Page, control: ControlSite) -> None:
    browse(page, control)
    page.locator("#first-pin").fill("8253")
    page.locator("#second-pin").fill("8259")


def bare(page: Page, control: ControlSite) -> None:
    control.show_button = False
    entry(page, control)


def waiting(page: Page, control: ControlSite) -> None:
    page.goto(control.frame_url)
    expect(page.locator("#notice")).to_have_attribute("data-state", "waiting")
    # An app's page keeps the focus while nothing has been asked for.
    expect(page.locator("#notice-title")).not_to_be_focused()


STATES = {
    "waiting": waiting,
    "view": view,
    "text": text,
    "no-text": no_text,
    "hidden": hidden,
    "unshown": unshown,
    "unopened": unopened,
    "malformed": malformed,
    "entry": entry,
    "entry-without-button": bare,
}


@pytest.mark.parametrize("state", STATES)
def test_every_state_fits_two_widths_and_axe_finds_nothing_light_or_dark(
    page: Page, control: ControlSite, state: str
) -> None:
    STATES[state](page, control)
    assert_named(page, state)
    assert_fits(page, f"control-{state}", VIEWPORTS)
    assert findings(page) == set()
    assert_dark_is_as_good(page, VIEWPORTS)


def test_in_a_clients_colours_axe_finds_nothing(page: Page, control: ControlSite) -> None:
    control.view_style = ViewStyle(
        Colour.parse("#f9fafb"), Colour.parse("#1f2937"), Colour.parse("#60a5fa"), 700
    )
    text(page, control)
    assert_fits(page, "control-theme", VIEWPORTS)
    assert findings(page) == set()


def test_every_language_fits_a_narrow_screen(page: Page, control: ControlSite) -> None:
    page.set_viewport_size(VIEWPORTS[0])
    text(page, control)
    # The last one is written from right to left.
    for language in LANGUAGES:
        page.locator("#language").select_option(language)
        expect(page.locator("#hide")).to_have_text(MESSAGES[language]["hide"])
        assert page.locator("#digits-box h2").inner_text() == MESSAGES[language]["digits_label"]
        assert page.locator("img").get_attribute("alt") == MESSAGES[language]["image_alt"]
        assert not too_wide(page)
        shoot(page, f"control-language-{language}")
    assert findings(page) == set()


def test_in_forced_colours_every_box_has_an_edge(
    new_page: Callable[..., Page], control: ControlSite
) -> None:
    page = new_page(locale="en-GB", viewport=VIEWPORTS[0], forced_colors="active")
    control.view_style = ViewStyle(frame=ViewStyle().background)
    text(page, control)
    edges = page.locator("#view :is(img, button:visible)").evaluate_all("""(boxes) => {
        const ground = getComputedStyle(document.documentElement).backgroundColor;
        return boxes.map((box) => getComputedStyle(box))
            .map((style) => [style.borderTopStyle, style.borderTopColor !== ground]);
    }""")
    assert edges == [["solid", True]] * 3
    shoot(page, "control-forced-colors")

"""No PIN of a page is offered to the browser's password manager.

What Chromium decides of the fields of each page it writes to a page of its own, which is read here.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import FrameLocator, Page, Playwright, Route, expect

from tests.browser.chromium import open_profile
from tests.browser.frames import embed
from tests.browser.real_site import FRAME_KEY, FRAME_URL, PIN_URL, SHOP, RealSite
from tests.browser.test_set_page import GECKO

PIN = "5820"
INTERNALS = "chrome://password-manager-internals/"
ASKS = "Decision: ASK the user"
PASSWORD = '<form action="/signed-in"><input type="password" id="password"></form>'


def hosted(page: Page, real: RealSite) -> Page:
    page.goto(SHOP)
    asked = real.ask(page, "set-pin")
    page.goto(asked["hostedPageUrl"])
    return page


def webview(page: Page, real: RealSite) -> Page:
    control_id = real.control_id("SET_PIN")
    field = f'<input name="controlId" value="{control_id}">'
    page.set_content(f'<form method="post" action="{PIN_URL}">{field}</form>')
    with page.expect_navigation(url=PIN_URL):
        page.locator("input").press("Enter")
    return page


def framed(page: Page, real: RealSite) -> FrameLocator:
    page.goto(SHOP)
    frame = embed(page, f"{FRAME_URL}?key={FRAME_KEY}")
    expect(frame.locator("#status")).to_be_attached()
    page.frames[-1].wait_for_load_state("domcontentloaded")
    message = {"operation": "set-pin", "controlId": real.control_id("SET_PIN")}
    page.evaluate("(sent) => frames[0].postMessage(sent, '*')", message)
    return frame


def hosted_in_a_frame(page: Page, real: RealSite) -> FrameLocator:
    page.goto(SHOP)
    return embed(page, real.embedded(page))


def sign_in(page: Page) -> None:
    """Use an ordinary password, on the app's own page."""

    def form(route: Route) -> None:
        route.fulfill(content_type="text/html", body=PASSWORD)

    page.route(f"{SHOP}/sign-in", form)
    page.goto(f"{SHOP}/sign-in")
    page.locator("#password").press_sequentially("correct horse")
    page.locator("#password").press("Enter")
    page.wait_for_url(f"{SHOP}/signed-in*")


@pytest.mark.parametrize(
    ("open_page", "script"),
    [(hosted, ""), (webview, ""), (framed, ""), (hosted_in_a_frame, ""), (hosted, GECKO)],
)
def test_a_browser_that_asks_whether_to_save_a_password_does_not_ask_of_a_pin(
    playwright: Playwright,
    real: RealSite,
    tmp_path: Path,
    open_page: Callable[[Page, RealSite], Page | FrameLocator],
    script: str,
) -> None:
    context = open_profile(playwright, tmp_path, *real.arguments)
    log = context.new_page()
    log.goto(INTERNALS)
    page = context.new_page()
    page.add_init_script(script)
    shown = open_page(page, real)
    for field in ("#first-pin", "#second-pin"):
        # The second can be clicked once the first is complete.
        shown.locator(field).click()
        page.keyboard.type(PIN)
    shown.locator("#second-pin").press("Enter")
    expect(shown.get_by_role("heading", name="Your new PIN is set")).to_be_visible()
    # What it decides of a page, it decides at the latest when that is left.
    page.goto(f"{SHOP}/later")
    # It does ask, and writes it to the same log, after all that came before.
    sign_in(page)
    expect(log.locator("body")).to_contain_text(ASKS)
    assert log.inner_text("body").count(ASKS) == 1
    context.close()

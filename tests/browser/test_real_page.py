"""The set page of the real service in a window of its own: there, away, and back."""

import json
import re
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.chromium import stop_clock
from tests.browser.real_site import EVIL, PINS, SHOP, RealSite, enter
from tests.deployment import wait_for

# By the browser, which kept the page, or by the server.
ENDED = re.compile("This page (was already used|is no longer valid)")


@pytest.fixture(scope="module")
def chromium(real_chromium: Browser) -> Browser:
    return real_chromium


def open_page(page: Page, real: RealSite, body: dict[str, object] | None = None) -> str:
    """Go to the set page as an app sends its people there; return the token."""
    page.goto(f"{SHOP}/card")
    answer = real.ask(page, "set-pin", body)
    page.evaluate("(url) => { location = url; }", answer["hostedPageUrl"])
    expect(page.locator("#first-pin")).to_be_focused()
    return answer["token"]


def history(page: Page) -> list[str]:
    """Every address that the browser would go back or forward to."""
    answer: dict[str, Any] = page.context.new_cdp_session(page).send("Page.getNavigationHistory")
    return [entry["url"] for entry in answer["entries"]]


def ended(page: Page) -> None:
    expect(page.get_by_role("heading", name=ENDED)).to_be_visible()
    expect(page.locator("input:visible, button:visible")).to_have_count(0)
    assert [field for field in page.locator("input").all() if field.input_value()] == []


def unavailable_and_back(page: Page) -> None:
    """Leave, come back, go forward and come back again; nothing but the end is there."""
    page.goto(f"{EVIL}/elsewhere")
    for step in (page.go_back, page.go_forward, page.go_back):
        # A page that the browser kept has no load event.
        step(wait_until="commit")
        if page.url.startswith(PINS):
            ended(page)
        else:
            # The browser did keep it: this is what a page meets that does not end itself.
            assert page.evaluate("persisted") is True


def test_back_and_forward_after_success_show_the_end(page: Page, real: RealSite) -> None:
    open_page(page, real)
    enter(page, "5938")
    expect(page.get_by_role("heading", name="Your new PIN is set")).to_be_visible()
    assert real.newest() == (True, "set")
    unavailable_and_back(page)
    assert real.pin() == "5938"


def test_leaving_ends_the_session_and_back_and_forward_show_the_end(
    page: Page, real: RealSite
) -> None:
    open_page(page, real)
    page.locator("#first-pin").fill("7261")
    page.locator("#second-pin").fill("72")
    unavailable_and_back(page)
    real.wait_until_cancelled()
    assert real.pin() == "5938"


def test_a_reload_ends_the_session_and_shows_the_end(page: Page, real: RealSite) -> None:
    open_page(page, real)
    page.locator("#first-pin").fill("7261")
    page.reload()
    ended(page)
    assert page.locator("input, button, script").count() == 0
    real.wait_until_cancelled()


def test_the_token_is_gone_from_address_and_history(page: Page, real: RealSite) -> None:
    token = open_page(page, real)
    assert page.url == f"{PINS}/pin-direct/set"
    assert page.evaluate("[history.state, document.cookie]") == [None, ""]
    page.goto(f"{SHOP}/later")
    assert history(page)[-3:] == [f"{SHOP}/card", f"{PINS}/pin-direct/set", f"{SHOP}/later"]
    assert token not in json.dumps(page.context.storage_state())


@pytest.mark.parametrize("outcome", ["set", "cancelled"])
def test_the_page_leads_back_to_the_app_which_learns_nothing(
    page: Page, real: RealSite, outcome: str
) -> None:
    sent = []
    page.on("request", lambda request: sent.append((request.url, request.all_headers())))
    target = f"{SHOP}/{outcome}?step=2#there"
    token = open_page(page, real, {"redirectUrl": target})
    if outcome == "set":
        stop_clock(page)
        enter(page, "8317")
        expect(page.get_by_role("heading", name="Your new PIN is set")).to_be_visible()
        page.clock.fast_forward(2_100)
    else:
        page.get_by_role("button", name="Cancel").click()
    page.wait_for_url(target)
    assert page.evaluate("[document.referrer, opener, name]") == ["", None, ""]
    wait_for(lambda: real.newest() == (True, outcome))
    (arrival,) = real.apps.at(f"/{outcome}")
    assert "referer" not in arrival.headers
    # The redirect took the page's place in the history.
    assert history(page)[-2:] == [f"{SHOP}/card", target]
    of_page = [url for url, headers in sent if token in url or token in headers.get("referer", "")]
    assert of_page == [f"{PINS}/pin-direct/set?token={token}"]


def test_a_consumed_token_leads_to_the_end_and_to_no_other_session(
    page: Page, real: RealSite
) -> None:
    token = open_page(page, real)
    page.goto(f"{PINS}/pin-direct/set?token={token}")
    ended(page)
    real.wait_until_cancelled()

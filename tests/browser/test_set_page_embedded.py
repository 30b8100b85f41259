"""The set page in a frame of another site: who may have it there, and what it tells them."""

from collections.abc import Callable

import pytest
from playwright.sync_api import FrameLocator, Page, expect

from tests.browser.chromium import stop_clock
from tests.browser.frames import embed, received
from tests.browser.pin_site import APP, PINS, PinSite

ABORT = {"type": "abort"}


@pytest.fixture
def embedded(page: Page, site: PinSite) -> FrameLocator:
    """The page in a frame of the client's app, with the clock in the test's hands."""
    site.embed_origins = [site.origin(APP)]
    site.opening = {"embedded": True, "targetOrigins": [site.origin(APP)]}
    stop_clock(page)
    page.goto(site.origin(APP))
    frame = embed(page, site.url)
    expect(frame.locator("#first-pin")).to_be_visible()
    return frame


def test_two_seconds_after_success_the_app_is_told_to_close_the_frame(
    page: Page, site: PinSite, embedded: FrameLocator
) -> None:
    embedded.locator("#first-pin").fill("8253")
    embedded.locator("#second-pin").fill("8253")
    embedded.locator("#confirm").click()
    expect(embedded.get_by_role("heading", name="Your new PIN is set")).to_be_visible()
    assert received(page) == []
    page.clock.fast_forward(2_100)
    assert received(page)[-1] == {"data": ABORT, "origin": site.origin(PINS), "framed": True}


def test_on_cancel_the_app_is_told_at_once_and_nothing_else_is_said(
    page: Page, site: PinSite, embedded: FrameLocator
) -> None:
    embedded.get_by_role("button", name="Cancel").click()
    expect(embedded.get_by_role("heading", name="Cancelled")).to_be_visible()
    page.clock.run_for(1)
    assert [message["data"] for message in received(page)] == [ABORT]


def test_an_app_is_told_also_when_another_has_an_origin_that_this_browser_does_not_know(
    page: Page, site: PinSite
) -> None:
    origins = ["capacitor://localhost", site.origin(APP)]
    site.embed_origins = origins
    site.opening = {"embedded": True, "targetOrigins": origins}
    page.goto(site.origin(APP))
    frame = embed(page, site.url)
    frame.get_by_role("button", name="Cancel").click()
    expect(frame.get_by_role("heading", name="Cancelled")).to_be_visible()
    page.wait_for_function("received.length")
    assert [message["data"] for message in received(page)] == [ABORT]


def test_a_page_that_ran_out_of_time_can_still_close_its_frame(
    page: Page, embedded: FrameLocator
) -> None:
    page.clock.fast_forward(601_000)
    embedded.get_by_role("button", name="Close").click()
    assert [message["data"] for message in received(page)] == [ABORT]


def test_a_redirect_is_never_followed_in_a_frame(page: Page, site: PinSite) -> None:
    site.embed_origins = [site.origin(APP)]
    site.opening = {
        "embedded": True,
        "targetOrigins": [site.origin(APP)],
        "redirectUrl": f"{site.origin(APP)}/elsewhere",
    }
    page.goto(site.origin(APP))
    frame = embed(page, site.url)
    frame.get_by_role("button", name="Cancel").click()
    expect(frame.get_by_role("heading", name="Cancelled")).to_be_visible()
    assert [message["data"] for message in received(page)] == [ABORT]


def test_a_page_for_a_frame_that_an_app_shows_by_itself_promises_no_way_back(
    page: Page, site: PinSite
) -> None:
    site.opening = {"embedded": True, "targetOrigins": [site.origin(APP)]}
    page.goto(site.url)
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("heading", name="Cancelled")).to_be_visible()
    expect(page.get_by_text("You can close this page")).to_be_visible()
    assert page.get_by_role("button").count() == 0


def test_no_message_goes_to_an_origin_that_is_not_registered(
    new_page: Callable[..., Page], site: PinSite
) -> None:
    other = "framing-only.test"
    site.embed_origins = [site.origin(other)]
    site.opening = {"embedded": True, "targetOrigins": [site.origin(APP)]}
    page = new_page(locale="en-GB")
    page.goto(site.origin(other))
    frame = embed(page, site.url)
    frame.get_by_role("button", name="Cancel").click()
    expect(frame.get_by_role("heading", name="Cancelled")).to_be_visible()
    assert received(page) == []


HOSTILE = [
    "evil.test",
    "shop.test",
    "m.www.shop.test",
    "www-shop.test",
    "wwwxshop.test",
    f"{APP}.evil.test",
    "www.shop.evil.test",
    "issuer.test",
    "evil.issuer.test",
    PINS,
]


def test_ten_sites_that_are_not_registered_cannot_frame_the_page(
    new_page: Callable[..., Page], site: PinSite
) -> None:
    site.embed_origins = [site.origin(APP)]
    page = new_page()
    for host in HOSTILE:
        page.goto(site.origin(host))
        with page.expect_console_message(lambda message: "frame-ancestors" in message.text):
            embed(page, site.url)
    assert site.posts == []


def test_every_ancestor_must_be_registered(new_page: Callable[..., Page], site: PinSite) -> None:
    site.embed_origins = [site.origin(APP)]
    page = new_page()
    page.goto(site.origin("evil.test"))
    embed(page, site.origin(APP)).get_by_role("heading", name="app").wait_for()
    with page.expect_console_message(lambda message: "frame-ancestors" in message.text):
        embed(page.frames[1], site.url)
    assert site.posts == []


def test_without_a_registered_origin_nobody_can_frame_the_page(
    new_page: Callable[..., Page], site: PinSite
) -> None:
    page = new_page()
    page.goto(site.origin(APP))
    with page.expect_console_message(lambda message: "frame-ancestors" in message.text):
        embed(page, site.url)
    assert site.posts == []


def test_the_ended_page_can_be_framed_by_any_https_site(page: Page, site: PinSite) -> None:
    page.goto(site.origin("anybody.test"))
    frame = embed(page, f"{site.origin(PINS)}/pin-direct/set?token=spent")
    expect(frame.get_by_role("heading", name="This page is no longer valid")).to_be_visible()
    assert received(page) == []

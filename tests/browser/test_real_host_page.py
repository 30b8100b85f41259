"""The sample host page of the documentation, as it is, on an app's site and in a browser."""

import pytest
from playwright.sync_api import Browser, FrameLocator, Page, expect

from tests.browser.chromium import stop_clock
from tests.browser.real_site import EVIL, PINS, SHOP, RealSite, enter


@pytest.fixture(scope="module")
def chromium(real_chromium: Browser) -> Browser:
    return real_chromium


@pytest.fixture
def host(page: Page, real: RealSite) -> Page:
    page.goto(f"{SHOP}/host-page")
    return page


@pytest.fixture
def frame(host: Page) -> FrameLocator:
    stop_clock(host)
    host.get_by_role("button", name="Set PIN").click()
    frame = host.frame_locator("iframe[title='Set your PIN']")
    expect(frame.locator("#first-pin")).to_be_visible()
    return frame


def test_it_sets_a_pin_closes_the_frame_and_shows_the_pin(
    host: Page, real: RealSite, frame: FrameLocator
) -> None:
    enter(frame, "3914")
    expect(frame.get_by_role("heading", name="Your new PIN is set")).to_be_visible()
    host.clock.fast_forward(2_100)
    expect(host.locator("iframe")).to_have_count(0)
    assert real.pin() == "3914"
    with host.expect_response(f"{PINS}/details-image?*") as showing:
        host.get_by_role("button", name="Show PIN").click()
    assert showing.value.headers["x-pin-result"] == "shown"
    image = host.get_by_role("img", name="Your PIN")
    assert image.evaluate("(image) => image.decode().then(() => image.naturalWidth)") == 1020


def test_it_closes_the_frame_of_a_cancelled_page(host: Page, frame: FrameLocator) -> None:
    frame.get_by_role("button", name="Cancel").click()
    expect(frame.get_by_role("heading", name="Cancelled")).to_be_visible()
    host.clock.run_for(1)
    expect(host.locator("iframe")).to_have_count(0)


def test_it_heeds_no_message_but_its_frames(
    host: Page, real: RealSite, frame: FrameLocator
) -> None:
    # What it hears is heard here as well, after it and in the same order.
    host.evaluate(
        """() => {
            window.heard = [];
            addEventListener("message", ({ data, origin }) => { heard.push([data.type, origin]); });
        }"""
    )
    # The right words of the wrong window: its own, and another site's frame.
    host.evaluate("postMessage({ type: 'abort' }, '*')")
    host.evaluate(
        """(url) => {
            const other = document.createElement("iframe");
            other.src = url;
            document.body.append(other);
            return new Promise((resolve) => { other.onload = () => resolve(); });
        }""",
        EVIL,
    )
    host.frames[-1].evaluate("parent.postMessage({ type: 'abort' }, '*')")
    # The right window with other words.
    host.frames[1].evaluate("parent.postMessage({ type: 'resize' }, '*')")
    # The right origin in the wrong window.
    host.frames[-1].goto(f"{PINS}/pin-direct/set")
    host.frames[-1].evaluate("parent.postMessage({ type: 'abort' }, '*')")
    host.wait_for_function("heard.length === 4")
    assert host.evaluate("heard") == [
        ["abort", SHOP],
        ["abort", EVIL],
        ["resize", PINS],
        ["abort", PINS],
    ]
    expect(frame.locator("#first-pin")).to_be_visible()
    # The right window, led to another site.
    host.evaluate("(url) => { document.querySelector('iframe').src = url; }", f"{EVIL}/instead")
    expect(frame.get_by_role("heading", name="app")).to_be_visible()
    host.frames[1].evaluate("parent.postMessage({ type: 'abort' }, '*')")
    host.wait_for_function("heard.length === 5")
    assert host.locator("iframe").count() == 2

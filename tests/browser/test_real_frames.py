"""The set page of the real service in frames: of its app, of hostile sites, of parents that lie."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Browser, FrameLocator, Page, Route, expect

from tests.browser.chromium import stop_clock
from tests.browser.frames import embed, received
from tests.browser.real_site import (
    BLANK,
    EVIL,
    PINS,
    SECOND_SHOP,
    SHOP,
    RealSite,
    enter,
)

HTML = "text/html"
ABORT = {"data": {"type": "abort"}, "origin": PINS, "framed": True}
REFUSED = "frame-ancestors"
HOSTILE = {
    "another site": EVIL,
    "the parent domain": "https://shop.test",
    "a sibling": "https://w.shop.test",
    "a subdomain": "https://m.www.shop.test",
    "another port": f"{SHOP}:8443",
    "the scheme's own port, where another is registered": "https://m.shop.test",
    "without TLS": "http://www.shop.test",
    "a trailing dot": f"{SHOP}.",
    "the name as a prefix": "https://www.shop.test.evil.test",
    "the name as a suffix": "https://evilwww.shop.test",
    "the name with a dash for a dot": "https://www-shop.test",
    "a lookalike": "https://www.xn--shp-2na.test",
    "the service's parent domain": "https://issuer.test",
    "the service itself": PINS,
}


@pytest.fixture(scope="module")
def chromium(real_chromium: Browser) -> Browser:
    return real_chromium


@pytest.fixture
def url(page: Page, real: RealSite) -> str:
    """The address of a page that may be embedded; its app is open in *page*."""
    page.goto(SHOP)
    return real.embedded(page)


@pytest.fixture
def frame(page: Page, url: str) -> FrameLocator:
    """The page in a frame of its app, with the clock in the test's hands."""
    stop_clock(page)
    frame = embed(page, url)
    expect(frame.locator("#first-pin")).to_be_visible()
    return frame


def asked_by_the_app(new_page: Callable[..., Page], real: RealSite) -> tuple[Page, str]:
    """Open the app, and ask there for a page to embed; return its address too."""
    page = new_page()
    page.goto(SHOP)
    return page, real.embedded(page)


def nest(page: Page, url: str) -> None:
    """Add a frame to the innermost one, once that shows what it was added for."""
    innermost = page.frames[-1]
    innermost.wait_for_url(lambda shown: shown not in ("", "about:blank"))
    embed(innermost, url)


def succeed(page: Page, frame: FrameLocator, pin: str) -> None:
    enter(frame, pin)
    expect(frame.get_by_role("heading", name="Your new PIN is set")).to_be_visible()
    page.clock.fast_forward(2_100)


def refused(page: Page, attempt: Callable[[], object]) -> None:
    """Show that what *attempt* frames is refused, and that nothing of it runs."""
    with page.expect_console_message(lambda message: REFUSED in message.text):
        attempt()
    # What takes its place is of nobody.
    assert PINS not in {frame.url[: len(PINS)] for frame in page.frames[1:]}


def test_a_pin_set_in_a_frame_of_the_app_is_read_by_d1(
    page: Page, real: RealSite, frame: FrameLocator
) -> None:
    succeed(page, frame, "4826")
    assert received(page) == [ABORT]
    assert real.newest() == (True, "set")
    assert real.pin() == "4826"


def test_a_cancelled_page_says_the_same_at_once(
    page: Page, real: RealSite, frame: FrameLocator
) -> None:
    frame.get_by_role("button", name="Cancel").click()
    expect(frame.get_by_role("heading", name="Cancelled")).to_be_visible()
    page.clock.run_for(1)
    assert received(page) == [ABORT]
    real.wait_until_cancelled()


@pytest.mark.parametrize("origin", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_origin_cannot_frame_the_page(
    new_page: Callable[..., Page], real: RealSite, origin: str
) -> None:
    page, url = asked_by_the_app(new_page, real)
    page.goto(origin)
    refused(page, lambda: embed(page, url))
    assert real.newest() == (False, None)


@pytest.mark.parametrize(
    "chain", [(EVIL, SHOP), (SHOP, EVIL), (EVIL, SHOP, SECOND_SHOP), (SHOP, EVIL, SECOND_SHOP)]
)
def test_one_hostile_ancestor_is_enough(
    new_page: Callable[..., Page], real: RealSite, chain: tuple[str, ...]
) -> None:
    page, url = asked_by_the_app(new_page, real)
    page.goto(chain[0])
    for origin in chain[1:]:
        nest(page, origin)
    with page.expect_console_message(lambda message: REFUSED in message.text):
        nest(page, url)
    assert real.newest() == (False, None)


def test_two_registered_ancestors_may_frame_the_page(page: Page, real: RealSite, url: str) -> None:
    nest(page, SECOND_SHOP)
    nest(page, url)
    expect(
        page.frame_locator("iframe").frame_locator("iframe").locator("#first-pin")
    ).to_be_visible()
    assert real.newest() == (True, None)


@pytest.mark.parametrize("document", ["sandboxed", "data:text/html,<body>"])
def test_a_parent_without_an_origin_cannot_frame_the_page(
    new_page: Callable[..., Page], real: RealSite, document: str
) -> None:
    page, url = asked_by_the_app(new_page, real)
    if document == "sandboxed":
        embed(page, SHOP, sandbox="allow-scripts").get_by_role("heading", name="app").wait_for()
        assert page.frames[-1].evaluate("origin") == "null"
    else:
        page.goto(document)
    with page.expect_console_message(lambda message: REFUSED in message.text):
        nest(page, url)
    assert real.newest() == (False, None)


def test_in_a_sandbox_that_takes_its_origin_the_page_does_not_start(
    new_page: Callable[..., Page], real: RealSite
) -> None:
    page = new_page(locale="en-GB")
    page.goto(SHOP)
    frame = embed(page, real.embedded(page), sandbox="allow-scripts")
    expect(frame.locator("#stuck")).to_be_attached()
    page.frames[-1].evaluate("document.getAnimations().forEach((each) => each.finish())")
    expect(frame.get_by_text("go back to the app and start again")).to_be_visible()
    assert page.frames[-1].evaluate("origin") == "null"
    assert real.newest() == (False, None)


def test_a_page_that_is_not_for_embedding_cannot_be_framed_by_its_own_app(
    new_page: Callable[..., Page], real: RealSite
) -> None:
    page = new_page()
    page.goto(SHOP)
    url = real.ask(page, "set-pin")["hostedPageUrl"]
    refused(page, lambda: embed(page, url))
    assert real.newest() == (False, None)


def test_an_isolated_app_can_embed_the_page(page: Page, real: RealSite) -> None:
    page.goto(f"{SHOP}/isolated")
    assert page.evaluate("crossOriginIsolated")
    frame = embed(page, real.embedded(page))
    expect(frame.locator("#first-pin")).to_be_visible()


@pytest.mark.parametrize("parent", [EVIL, "http://localhost:3000"])
def test_the_ended_page_may_be_framed_by_anybody_and_says_nothing(
    new_page: Callable[..., Page], real: RealSite, parent: str
) -> None:
    page = new_page(locale="en-GB")
    page.route("http://localhost:3000/", lambda route: route.fulfill(content_type=HTML, body=BLANK))
    page.goto(parent)
    frame = embed(page, f"{PINS}/pin-direct/set")
    expect(frame.get_by_role("heading", name="This page is no longer valid")).to_be_visible()
    assert received(page) == []


# Parents that lie.


def test_messages_from_a_parent_change_nothing(
    page: Page, real: RealSite, frame: FrameLocator
) -> None:
    frame.locator("#first-pin").fill("9472")
    page.evaluate(
        """([own, shop]) => {
            const target = document.querySelector("iframe").contentWindow;
            for (const message of [
                { type: "abort" }, { type: "done" }, { session: "x" }, { token: "x" }, "close",
                { type: "config", targetOrigins: ["*"], redirectUrl: "https://evil.test/" },
                { origin: own, embedded: false, targetOrigins: [shop] },
            ]) {
                target.postMessage(message, "*");
            }
        }""",
        [PINS, SHOP],
    )
    assert frame.locator("#first-pin").input_value() == "9472"
    succeed(page, frame, "9472")
    assert received(page) == [ABORT]
    assert page.url == f"{SHOP}/"
    assert real.pin() == "9472"


def test_a_parent_that_replaced_postmessage_hears_no_more_than_others(
    page: Page, real: RealSite, frame: FrameLocator
) -> None:
    page.evaluate(
        """() => {
            window.stolen = [];
            const steal = (...what) => { stolen.push(what); };
            window.postMessage = steal;
            Object.defineProperty(Object.prototype, "targetOrigins", { get: () => ["*"] });
        }"""
    )
    frame.get_by_role("button", name="Cancel").click()
    expect(frame.get_by_role("heading", name="Cancelled")).to_be_visible()
    page.clock.run_for(1)
    assert received(page) == [ABORT]
    assert page.evaluate("stolen") == []


def test_a_parent_cannot_look_into_the_frame(
    page: Page, real: RealSite, frame: FrameLocator
) -> None:
    outcome = page.evaluate(
        """() => {
            const frame = document.querySelector("iframe");
            const other = frame.contentWindow;
            const tries = [
                () => other.document, () => other.pageParts, () => other.location.href,
                () => other.history.length, () => other.eval("1"), () => other.name,
                () => other.sessionStorage,
            ];
            const names = tries.map((attempt) => {
                try {
                    return String(attempt());
                } catch (error) {
                    return error.name;
                }
            });
            return [frame.contentDocument, new Set(names).size, names[0]];
        }"""
    )
    assert outcome == [None, 1, "SecurityError"]


def test_a_parent_that_leads_the_frame_elsewhere_ends_the_session(
    page: Page, real: RealSite, frame: FrameLocator
) -> None:
    frame.locator("#first-pin").fill("6140")
    frame.locator("#second-pin").fill("6140")
    page.evaluate(f"document.querySelector('iframe').src = '{EVIL}/instead'")
    expect(frame.get_by_role("heading", name="app")).to_be_visible()
    real.wait_until_cancelled()
    assert received(page) == []


def test_where_a_browser_lets_a_hostile_site_frame_the_page_it_still_hears_nothing(
    new_page: Callable[..., Page], real: RealSite
) -> None:
    def allowing(route: Route) -> None:
        answer = real.get(route.request.url.removeprefix(PINS))
        headers = dict(answer.headers)
        policy = headers["content-security-policy"]
        headers["content-security-policy"] = policy.replace(SHOP, f"{SHOP} {EVIL}")
        route.fulfill(status=answer.status_code, headers=headers, body=answer.content)

    page = new_page(locale="en-GB")
    page.goto(SHOP)
    url = real.embedded(page)
    page.route("**/pin-direct/set?*", allowing)
    page.goto(EVIL)
    frame = embed(page, url)
    frame.get_by_role("button", name="Cancel").click()
    expect(frame.get_by_role("heading", name="Cancelled")).to_be_visible()
    assert received(page) == []
    real.wait_until_cancelled()


def test_a_window_that_opens_the_page_has_no_hold_on_it_and_hears_nothing(
    page: Page, real: RealSite, url: str
) -> None:
    with page.expect_popup() as opening:
        page.evaluate("(url) => { window.opened = open(url); }", url)
    opened = opening.value
    expect(opened.locator("#first-pin")).to_be_visible()
    assert opened.evaluate("opener") is None
    assert page.evaluate("opened.closed") is True
    opened.get_by_role("button", name="Cancel").click()
    expect(opened.get_by_role("heading", name="Cancelled")).to_be_visible()
    assert page.evaluate("received") == []

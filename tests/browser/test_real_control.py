"""The pincontrol page of the real service, in a webview and in a frame."""

import json
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
from playwright.sync_api import Browser, FrameLocator, Page, Playwright, Request, Route, expect

from tests.browser.chromium import open_profile
from tests.browser.control_site import APPS, calls, event
from tests.browser.frames import embed, received
from tests.browser.real_site import (
    EVIL,
    FRAME_KEY,
    FRAME_URL,
    LONG_SERVER,
    OTHER_FRAME_KEY,
    PIN_URL,
    PINS,
    SECOND_CARD,
    SECOND_PLASTIC,
    SECOND_SHOP,
    SHOP,
    RealSite,
    enter,
)
from tests.browser.test_real_frames import refused
from tests.browser.test_real_page import history
from tests.browser.test_real_profile import PNG, holding, leave_marker, written
from tests.browser.test_set_page_looks import findings
from tests.deployment import SPARE_SECONDS
from tests.issuer_records import run_sql

VIEW, SET = "VIEW_PIN", "SET_PIN"
VALID, INVALID = event("pin_valid", True), event("pin_valid", False)
SHOWN, NOT_SHOWN = event("view_pin_success"), event("view_pin_error")
DONE, NOT_SET = event("set_pin_success"), event("set_pin_error")
REFUSED = event("set_pin_validation_error")
NOWHERE = "data:text/html,<body>"
#: By scope: the operation in a frame, and the error.
ASKED = {VIEW: ("view-pin", "view_pin_error"), SET: ("set-pin", "set_pin_error")}
#: By scope: what the page asks for with its id.
OWN_REQUEST = {VIEW: "view", SET: "session"}
LONG_PIN = "640297358103"


@pytest.fixture(scope="module")
def chromium(real_chromium: Browser) -> Browser:
    return real_chromium


@pytest.fixture(scope="module", autouse=True)
def with_pins(real: RealSite) -> None:
    real.set_pin("4071")
    real.set_pin("4072", SECOND_CARD)


def post_form(page: Page, control_id: str) -> Request:
    """Post the id from whatever page is open, and return the request."""
    with page.expect_request(PIN_URL) as sent, page.expect_navigation(url=PIN_URL):
        page.evaluate(
            """([url, id]) => {
                const form = document.createElement("form");
                const field = document.createElement("input");
                Object.assign(form, { method: "post", action: url });
                Object.assign(field, { type: "hidden", name: "controlId", value: id });
                form.append(field);
                document.body.append(form);
                form.submit();
            }""",
            [PIN_URL, control_id],
        )
    return sent.value


def browse(page: Page, control_id: str, start: str = NOWHERE) -> Request:
    """Play both native apps, whose webview posts the id."""
    page.add_init_script(APPS)
    page.goto(start)
    return post_form(page, control_id)


def shown(page: Page | FrameLocator) -> None:
    expect(page.get_by_role("img", name="An image of your PIN")).to_be_visible()


def fields(page: Page | FrameLocator) -> None:
    expect(page.locator("#first-pin")).to_be_visible()


def notice(page: Page | FrameLocator, title: str) -> None:
    expect(page.get_by_role("heading", name=title)).to_be_visible()
    expect(page.locator("img, input:visible")).to_have_count(0)


def ended(page: Page | FrameLocator) -> None:
    """Show that the page is the static one, which has no script."""
    notice(page, "This page is no longer valid")
    expect(page.locator("script")).to_have_count(0)


# In a webview.


@pytest.mark.parametrize(("start", "origin"), [(SHOP, SHOP), (NOWHERE, "null")])
def test_a_pin_set_in_a_webview_is_what_d1_reads(
    page: Page, real: RealSite, start: str, origin: str
) -> None:
    pin = "8253" if start == SHOP else "5938"
    form = browse(page, real.control_id(SET), start)
    assert form.all_headers()["origin"] == origin
    assert form.redirected_to is None
    fields(page)
    for _ in range(2):
        page.keyboard.type(pin)
        page.keyboard.press("Tab")
    assert page.evaluate("typeof set_pin()") == "undefined"
    notice(page, "Your new PIN is set")
    assert calls(page) == INVALID * 7 + VALID + DONE
    assert real.newest() == (True, "set")
    assert real.pin() == pin


PIXELS = """(image) => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
    const context = canvas.getContext("2d");
    context.drawImage(image, 0, 0);
    const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
    let [black, white] = [0, 0];
    for (let i = 0; i < data.length; i += 4) {
        if (data[i] < 64) black++;
        if (data[i] > 192) white++;
    }
    return [canvas.width, canvas.height, black, white];
}"""
DRAWS = """(url) => {
    const image = Object.assign(new Image(), { src: url });
    return image.decode().then(() => true, () => false);
}"""


def test_a_pin_is_seen_in_a_webview_until_it_is_hidden(page: Page, real: RealSite) -> None:
    browse(page, real.control_id(VIEW))
    shown(page)
    width, height, black, white = page.locator("img").evaluate(PIXELS)
    assert (width, height) == (1020, 340)
    # Four digits on a ground of their own.
    assert 5_000 < black < white
    url = page.locator("img").get_attribute("src")
    assert page.evaluate(DRAWS, url)
    page.get_by_role("button", name="Hide PIN").click()
    notice(page, "Your PIN is hidden again")
    assert not page.evaluate(DRAWS, url)
    assert calls(page) == SHOWN


def test_the_text_is_the_pin_that_was_set_and_is_had_once(page: Page, real: RealSite) -> None:
    real.set_pin("9406")
    with page.expect_response("**/pincontrol/page/view") as image:
        browse(page, real.control_id(VIEW))
    assert image.value.headers["x-pin-result"] == "shown"
    session = image.value.headers["x-pin-session"]
    with page.expect_response("**/pincontrol/page/digits") as text:
        page.get_by_role("button", name="Show as text").click()
    expect(page.locator("#digits")).to_have_text("9 4 0 6")
    assert findings(page) == set()
    assert text.value.status == 200
    asked = text.value.request.post_data_json or {}
    assert asked["session"] == session
    assert "9406" not in text.value.text()
    again = """(asked) => fetch("/pincontrol/page/digits", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(asked),
    }).then((answer) => answer.status)"""
    assert page.evaluate(again, asked) == 410
    expect(page.get_by_role("button", name="Show as text")).to_be_hidden()
    page.get_by_role("button", name="Hide PIN").click()
    notice(page, "Your PIN is hidden again")
    assert "9 4 0 6" not in page.content()


# In a frame.


def host(page: Page, key: str = FRAME_KEY) -> FrameLocator:
    """Have the page that is open embed the pincontrol page."""
    frame = embed(page, f"{FRAME_URL}?key={key}")
    expect(frame.locator("#status")).to_be_attached()
    page.frames[-1].wait_for_load_state("domcontentloaded")
    # After the page's own listener: what this one counts was heard by that one.
    page.frames[-1].evaluate(
        "() => { window.got = 0; addEventListener('message', () => { window.got += 1; }); }"
    )
    return page.frame_locator("iframe").first


def message(control_id: str, scope: str) -> dict[str, str]:
    return {"operation": ASKED[scope][0], "controlId": control_id}


def post(page: Page, sent: object) -> None:
    page.evaluate("(sent) => frames[0].postMessage(sent, '*')", sent)


def got(page: Page, count: int) -> None:
    """Wait until so many messages have reached the frame."""
    page.frames[1].wait_for_function("(count) => window.got === count", arg=count)


def heard(*events: dict[str, object]) -> list[dict[str, object]]:
    return [{"data": data, "origin": PINS, "framed": True} for data in events]


def test_a_pin_is_set_and_seen_in_a_frame_of_the_app(page: Page, real: RealSite) -> None:
    page.goto(SHOP)
    frame = host(page)
    post(page, message(real.control_id(SET), SET))
    fields(frame)
    frame.locator("#first-pin").fill("7261")
    frame.locator("#second-pin").fill("7261")
    post(page, {"operation": "set-pin-set"})
    notice(frame, "Your new PIN is set")
    assert received(page) == heard(
        {"event": "pin_valid", "pin_valid": False},
        {"event": "pin_valid", "pin_valid": True},
        {"event": "set_pin_success"},
    )
    assert real.pin() == "7261"

    page.goto(SHOP)
    frame = host(page)
    post(page, message(real.control_id(VIEW), VIEW))
    shown(frame)
    assert received(page) == heard({"event": "view_pin_success"})
    frame.get_by_role("button", name="Show as text").click()
    expect(frame.locator("#digits")).to_have_text("7 2 6 1")


def test_events_are_addressed_to_registered_origins_and_then_to_the_one_that_asked(
    page: Page, real: RealSite
) -> None:
    page.goto(SHOP)
    frame = host(page)
    # No window hears what is meant for another origin, so the page's way out is watched.
    addressed = """() => {
        const origins = [], parent = window.parent;
        window.parent = { postMessage: (_, origin) => origins.push(origin) };
        set_pin();
        window.parent = parent;
        return origins;
    }"""
    assert page.frames[1].evaluate(addressed) == [SHOP, SECOND_SHOP]
    post(page, message(real.control_id(SET), SET))
    fields(frame)
    assert page.frames[1].evaluate(addressed) == [SHOP]


def test_a_hostile_origin_cannot_frame_the_page(
    new_page: Callable[..., Page], real: RealSite
) -> None:
    page = new_page()
    page.goto(EVIL)
    refused(page, lambda: embed(page, f"{FRAME_URL}?key={FRAME_KEY}"))


def test_where_a_browser_lets_it_the_hostile_origin_is_not_heard_and_hears_nothing(
    new_page: Callable[..., Page], real: RealSite
) -> None:
    def allowing(route: Route) -> None:
        answer = real.get(route.request.url.removeprefix(PINS))
        policy = answer.headers["content-security-policy"].replace(SHOP, f"{SHOP} {EVIL}")
        headers = {**answer.headers, "content-security-policy": policy}
        route.fulfill(status=answer.status_code, headers=headers, body=answer.content)

    page = new_page()
    page.route("**/pincontrol/frame?*", allowing)
    page.goto(EVIL)
    host(page)
    post(page, message(real.control_id(VIEW), VIEW))
    got(page, 1)
    page.frames[1].evaluate("set_pin()")
    assert received(page) == []
    assert real.newest() == (False, None)


def test_a_hostile_sibling_is_not_heard_and_the_id_stays_good(page: Page, real: RealSite) -> None:
    page.goto(SHOP)
    frame = host(page)
    asked = message(real.control_id(VIEW), VIEW)
    embed(page, EVIL).get_by_role("heading", name="app").wait_for()
    page.frames[2].evaluate("(sent) => top.frames[0].postMessage(sent, '*')", asked)
    got(page, 1)
    # Of an id in use this would tell nothing.
    post(page, {"operation": "set-pin-set"})
    got(page, 2)
    assert received(page) == heard({"event": "set_pin_validation_error"})
    assert real.newest() == (False, None)
    post(page, asked)
    shown(frame)


def test_a_hostile_opener_has_no_hold_on_the_page(
    new_page: Callable[..., Page], real: RealSite
) -> None:
    page = new_page()
    page.goto(EVIL)
    with page.expect_popup() as opening:
        page.evaluate("(url) => { window.opened = open(url); }", f"{FRAME_URL}?key={FRAME_KEY}")
    opened = opening.value
    expect(opened.locator("#status")).to_be_attached()
    opened.wait_for_load_state("domcontentloaded")
    page.evaluate("(sent) => opened.postMessage(sent, '*')", message(real.control_id(VIEW), VIEW))
    assert page.evaluate("opened.closed") is True
    assert opened.evaluate("opener") is None
    assert page.evaluate("received") == []
    assert real.newest() == (False, None)


@pytest.mark.parametrize("scope", [VIEW, SET])
def test_an_id_of_another_client_is_refused_and_stays_good(
    page: Page, real: RealSite, scope: str
) -> None:
    asked = message(real.control_id(scope), scope)
    page.goto(SHOP)
    frame = host(page, OTHER_FRAME_KEY)
    post(page, asked)
    notice(frame, "This page is no longer valid")
    assert received(page) == heard({"event": ASKED[scope][1]})
    assert real.newest() == (False, None)
    page.goto(SHOP)
    frame = host(page)
    post(page, asked)
    (shown if scope == VIEW else fields)(frame)
    assert real.newest()[0]


@pytest.mark.parametrize(("scope", "wrong"), [(VIEW, SET), (SET, VIEW)])
def test_an_id_of_the_other_scope_is_refused_and_stays_good(
    page: Page, real: RealSite, scope: str, wrong: str
) -> None:
    control_id = real.control_id(scope)
    page.goto(SHOP)
    frame = host(page)
    post(page, message(control_id, wrong))
    notice(frame, "This page is no longer valid")
    assert received(page) == heard({"event": ASKED[wrong][1]})
    assert real.newest() == (False, None)
    post(page, message(control_id, scope))
    (shown if scope == VIEW else fields)(frame)


def test_an_unknown_key_is_the_ended_page(page: Page, real: RealSite) -> None:
    page.goto(SHOP)
    frame = embed(page, f"{FRAME_URL}?key=firstbank1-nobody")
    ended(frame)
    post(page, message(real.control_id(VIEW), VIEW))
    assert received(page) == []
    assert real.newest() == (False, None)


# What an id is good for.


def test_a_form_that_is_posted_again_shows_the_end(page: Page, real: RealSite) -> None:
    control_id = real.control_id(VIEW)
    browse(page, control_id)
    shown(page)
    page.goto(SHOP)
    post_form(page, control_id)
    notice(page, "This page is no longer valid")
    assert calls(page) == NOT_SHOWN + NOT_SET


def test_a_reload_posts_nothing_ends_the_session_and_shows_the_end(
    page: Page, real: RealSite
) -> None:
    browse(page, real.control_id(SET))
    page.locator("#first-pin").fill("6140")
    with page.expect_request(PIN_URL) as again:
        page.reload()
    # Not the form again: the browser does not keep it, nor the id in it.
    assert again.value.method == "GET"
    ended(page)
    real.wait_until_cancelled()


@pytest.mark.parametrize("scope", [VIEW, SET])
def test_after_30_seconds_an_id_is_over(page: Page, real: RealSite, scope: str) -> None:
    control_id = real.control_id(scope)
    real.age_newest(SPARE_SECONDS + 30)
    browse(page, control_id)
    notice(page, "This page is no longer valid")
    assert calls(page) == NOT_SHOWN + NOT_SET
    assert real.newest() == (False, None)


def test_an_id_that_never_was_is_told(page: Page, real: RealSite) -> None:
    browse(page, str(uuid4()))
    notice(page, "This page is no longer valid")
    assert calls(page) == NOT_SHOWN + NOT_SET


@pytest.mark.parametrize("scope", [VIEW, SET])
def test_an_id_that_is_over_before_its_page_asks_is_an_error(
    page: Page, real: RealSite, scope: str
) -> None:
    def late(route: Route) -> None:
        real.age_newest(SPARE_SECONDS + 30)
        route.continue_()

    page.route(f"**/pincontrol/page/{OWN_REQUEST[scope]}", late)
    control_id = real.control_id(scope)
    browse(page, control_id)
    notice(page, "This page is no longer valid")
    assert calls(page) == event(ASKED[scope][1])
    assert real.newest() == (False, None)


def test_a_card_that_is_personalised_meanwhile_keeps_its_pin(page: Page, real: RealSite) -> None:
    browse(page, real.control_id(SET, SECOND_PLASTIC))
    fields(page)
    real.produce(SECOND_CARD)
    enter(page, "6140")
    notice(page, "This card takes no new PIN now")
    page.evaluate("set_pin()")
    assert calls(page) == INVALID + VALID + NOT_SET
    assert real.newest() == (True, "failed")
    assert real.pin(SECOND_CARD) == "4072"


def test_a_pin_that_the_policy_refuses_leaves_the_page_and_another_is_set(
    page: Page, real: RealSite
) -> None:
    # A page that does not know the rule: the server does.
    page.add_init_script("""
        const json = Response.prototype.json;
        Response.prototype.json = async function () {
            return { ...(await json.call(this)), refuseRuns: false };
        };
    """)
    real.set_pin("4071")
    browse(page, real.control_id(SET))
    enter(page, "3456")
    expect(page.locator("#first-hint")).to_contain_text("too easy to guess")
    tried = INVALID + VALID + INVALID + REFUSED
    assert calls(page) == tried
    assert real.newest() == (True, None)
    assert real.pin() == "4071"
    enter(page, "8317")
    notice(page, "Your new PIN is set")
    assert calls(page) == tried + INVALID + VALID + DONE
    assert real.pin() == "8317"


# What is left of it.


def test_the_id_is_in_no_address_no_history_and_no_referer(page: Page, real: RealSite) -> None:
    sent = []
    page.on("request", lambda request: sent.append((request.url, request.all_headers())))
    control_id = real.control_id(VIEW)
    browse(page, control_id, SHOP)
    shown(page)
    assert page.url == PIN_URL
    assert page.evaluate("[history.state, document.cookie, name]") == [None, "", ""]
    page.evaluate("(url) => { location = url; }", f"{SHOP}/after-the-pin")
    page.wait_for_url(f"{SHOP}/after-the-pin")
    assert history(page)[-3:] == [f"{SHOP}/", PIN_URL, f"{SHOP}/after-the-pin"]
    (arrival,) = real.apps.at("/after-the-pin")
    assert "referer" not in arrival.headers
    page.go_back(wait_until="commit")
    notice(page, "This page is no longer valid")
    assert {"/pincontrol/pin", "/pincontrol/page/view"} <= {
        url.removeprefix(PINS) for url, _ in sent
    }
    assert control_id not in json.dumps([sent, page.context.storage_state()])


# The browser's own tools do not tell what a page took as a blob.
KEEP = """
    const blob = Response.prototype.blob;
    Response.prototype.blob = async function () {
        const made = await blob.call(this);
        window.image = [...new Uint8Array(await made.arrayBuffer())];
        return made;
    };
"""


def test_nothing_of_a_pin_is_left_in_the_profile(
    playwright: Playwright, real: RealSite, tmp_path: Path
) -> None:
    context = open_profile(playwright, tmp_path, *real.arguments)
    page = context.pages[0]
    page.add_init_script(KEEP)
    marker = leave_marker(page)
    page.evaluate(
        "(url) => Object.assign(new Image(), { src: url }).decode()", f"{SHOP}/marker.png"
    )
    with page.expect_response("**/pincontrol/page/session") as opening:
        post_form(page, real.control_id(SET, user=LONG_SERVER))
    sessions = [opening.value.json()["session"]]
    enter(page, LONG_PIN)
    notice(page, "Your new PIN is set")
    page.goto(SHOP)
    with page.expect_response("**/pincontrol/page/view") as showing:
        post_form(page, real.control_id(VIEW, user=LONG_SERVER))
    sessions.append(showing.value.headers["x-pin-session"])
    shown(page)
    image = bytes(page.evaluate("image"))
    assert image.startswith(PNG)
    page.get_by_role("button", name="Show as text").click()
    digits = " ".join(LONG_PIN)
    expect(page.locator("#digits")).to_have_text(digits)
    context.close()

    files = written(tmp_path)
    assert "History" in holding(files, marker)
    assert "History" in holding(files, PIN_URL)
    cached = holding(files, PNG)
    assert cached == holding(files, real.apps.image)
    assert len(cached) == 1
    for secret in (image[-20:-12], LONG_PIN, digits, *sessions):
        assert holding(files, secret) == []
    # A browser may have noted the forms before their pages could run: what is left is consumed.
    (live,) = run_sql(
        real.database_url,
        "SELECT count(*) FROM control_tokens WHERE client_id = %s AND consumed_at IS NULL",
        LONG_SERVER,
    )
    assert live == (0,)

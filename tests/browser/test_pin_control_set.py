"""The pincontrol page in a webview, setting a PIN: what the app is told, and when."""

import base64
import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import cast

import pytest
from playwright.sync_api import Page, Route, expect

from cms.faces.cardholder.page import render
from cms.faces.cardholder.page.assets import ASSETS, Asset
from tests.browser.chromium import stop_clock
from tests.browser.control_site import APPS, CONTROL_ID, ControlSite, browse, calls, event
from tests.browser.pin_site import leave_and_return
from tests.deployment import wait_for

PIN = "8253"
VALID = event("pin_valid", True)
INVALID = event("pin_valid", False)
REFUSED = event("set_pin_validation_error")
FAILED = event("set_pin_error")
DONE = event("set_pin_success")


def open_page(page: Page, control: ControlSite, app: str = "") -> None:
    page.add_init_script(APPS + app)
    browse(page, control)
    expect(page.locator("#first-pin")).to_be_visible()


def enter(page: Page, first: str = PIN, second: str | None = None) -> None:
    page.locator("#first-pin").fill(first)
    page.locator("#second-pin").fill(first if second is None else second)


def fresh(page: Page) -> None:
    page.evaluate("window.calls.length = 0")


def notice(page: Page, title: str) -> None:
    expect(page.get_by_role("heading", name=title)).to_be_visible()
    assert page.locator("input:visible, #entry button:visible").count() == 0


def test_a_pin_is_set_and_both_apps_hear_of_every_step(page: Page, control: ControlSite) -> None:
    open_page(page, control)
    page.keyboard.type(PIN)
    page.keyboard.press("Enter")
    page.keyboard.type(PIN)
    page.keyboard.press("Enter")
    notice(page, "Your new PIN is set")
    assert calls(page) == INVALID * 7 + VALID + DONE
    assert control.submitted().pin == PIN
    assert control.submitted().grant_id == control.grant_id
    assert control.sent("session") == [{"controlId": CONTROL_ID, "key": None}]


def test_valid_means_complete_equal_and_allowed(page: Page, control: ControlSite) -> None:
    control.opening = {"refuseRuns": True}
    open_page(page, control)
    for first, second, told in [
        ("825", None, INVALID),
        ("1111", None, INVALID),
        ("2345", None, INVALID),
        (PIN, "8254", INVALID * 2),
        (PIN, PIN, INVALID + VALID),
    ]:
        fresh(page)
        page.locator("#first-pin").fill(first)
        if second is not None:
            page.locator("#second-pin").fill(second)
        assert calls(page) == told
    fresh(page)
    page.locator("#second-pin").press("Backspace")
    assert calls(page) == INVALID


def test_the_apps_own_button_submits(page: Page, control: ControlSite) -> None:
    control.show_button = False
    open_page(page, control)
    expect(page.get_by_role("button")).to_have_count(0)
    enter(page)
    assert page.evaluate("[typeof window.set_pin, typeof window.set_pin()]") == [
        "function",
        "undefined",
    ]
    notice(page, "Your new PIN is set")
    assert control.submitted().pin == PIN


def test_without_a_button_enter_submits(page: Page, control: ControlSite) -> None:
    control.show_button = False
    open_page(page, control)
    enter(page)
    page.keyboard.press("Enter")
    notice(page, "Your new PIN is set")


def test_an_entry_that_is_not_valid_is_told_and_the_page_stays(
    page: Page, control: ControlSite
) -> None:
    open_page(page, control)
    for first, second in [("", ""), ("82", ""), (PIN, ""), (PIN, "8259")]:
        page.locator("#first-pin").fill(first)
        if second:
            page.locator("#second-pin").fill(second)
        fresh(page)
        page.evaluate("set_pin()")
        assert calls(page) == REFUSED
    page.locator("#confirm").click()
    assert calls(page) == REFUSED * 2
    assert control.sent("submit") == []


def test_going_on_to_the_second_field_is_no_try(page: Page, control: ControlSite) -> None:
    open_page(page, control)
    page.locator("#first-pin").fill(PIN)
    fresh(page)
    page.keyboard.press("Enter")
    expect(page.locator("#second-pin")).to_be_focused()
    assert calls(page) == []


def test_a_pin_that_the_server_refuses_is_told_and_another_can_be_set(
    page: Page, control: ControlSite
) -> None:
    control.answers["submit"] = [(422, {"reason": "weak"})]
    open_page(page, control)
    enter(page)
    fresh(page)
    page.evaluate("set_pin()")
    expect(page.locator("#first-hint")).to_contain_text("too easy to guess")
    # The fields are empty again, so nothing is left that could be submitted.
    assert calls(page) == INVALID + REFUSED
    enter(page, "9406")
    page.evaluate("set_pin()")
    notice(page, "Your new PIN is set")
    assert calls(page) == INVALID + REFUSED + INVALID + VALID + DONE


@pytest.mark.parametrize(
    ("status", "title"),
    [
        (403, "This card takes no new PIN now"),
        (410, "This page is no longer valid"),
        (503, "Your PIN may not have been saved"),
    ],
)
def test_any_other_refusal_ends_the_page_with_one_error(
    page: Page, control: ControlSite, status: int, title: str
) -> None:
    control.answers["submit"] = [(status, {})]
    open_page(page, control)
    enter(page)
    fresh(page)
    page.locator("#confirm").click()
    notice(page, title)
    page.evaluate("set_pin()")
    page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
    assert calls(page) == FAILED


@pytest.mark.parametrize(
    ("status", "members", "title"),
    [
        (410, {}, "This page is no longer valid"),
        (503, {}, "Your PIN cannot be set right now"),
        (200, {"unexpected": True}, "Your PIN cannot be set right now"),
    ],
)
def test_a_session_that_is_not_opened_is_an_error(
    page: Page, control: ControlSite, status: int, members: dict[str, object], title: str
) -> None:
    control.answers["session"] = [(status, members)]
    page.add_init_script(APPS)
    browse(page, control)
    notice(page, title)
    assert calls(page) == FAILED
    assert "o back to the app" in page.locator("#notice-text").inner_text()


def test_a_submission_while_one_runs_is_ignored(page: Page, control: ControlSite) -> None:
    control.hold.clear()
    open_page(page, control)
    enter(page)
    fresh(page)
    page.evaluate("set_pin(); set_pin()")
    expect(page.locator("#confirm")).to_be_disabled()
    page.evaluate("set_pin()")
    control.hold.set()
    notice(page, "Your new PIN is set")
    page.evaluate("set_pin()")
    assert calls(page) == DONE
    assert len(control.sent("submit")) == 1


def test_set_pin_is_there_before_anything_else_of_the_page(
    page: Page, control: ControlSite
) -> None:
    page.add_init_script(APPS)
    told: list[object] = []

    def early(route: Route) -> None:
        page.evaluate("set_pin()")
        told.extend(calls(page))
        route.continue_()

    page.route("**/parts.js", early)
    browse(page, control)
    assert told == REFUSED
    expect(page.locator("#first-pin")).to_be_visible()


def test_when_time_is_up_the_app_is_told_once(page: Page, control: ControlSite) -> None:
    stop_clock(page)
    open_page(page, control)
    page.clock.fast_forward(601_000)
    notice(page, "Your time is up")
    page.clock.fast_forward(601_000)
    assert calls(page) == FAILED


def test_an_entry_that_is_cleared_is_no_longer_valid(page: Page, control: ControlSite) -> None:
    open_page(page, control)
    enter(page)
    fresh(page)
    page.evaluate("""() => {
        Object.defineProperty(document, "hidden", { value: true });
        document.dispatchEvent(new Event("visibilitychange"));
    }""")
    expect(page.locator("#first-hint")).to_contain_text("your entry was cleared")
    assert calls(page) == INVALID


THROWING = """
window.android_handler = new Proxy({}, { get() { throw new Error("android"); } });
Object.defineProperty(window.webkit, "messageHandlers", { get() { throw new Error("ios"); } });
"""
METHOD_THROWS = """
window.android_handler = { pin_valid() { throw new Error("android"); },
                           set_pin_success() { throw new Error("android"); } };
window.webkit.messageHandlers.ios_handler = { postMessage() { throw new Error("ios"); } };
"""
NEITHER = "delete window.android_handler; delete window.webkit;"
NO_FUNCTIONS = """
window.android_handler = { pin_valid: 1 };
window.webkit.messageHandlers.ios_handler = { postMessage: null };
"""


@pytest.mark.parametrize("app", [THROWING, METHOD_THROWS, NEITHER, NO_FUNCTIONS])
def test_a_pin_is_set_whatever_the_handlers_do(page: Page, control: ControlSite, app: str) -> None:
    open_page(page, control, app)
    enter(page)
    page.evaluate("set_pin()")
    notice(page, "Your new PIN is set")
    expect(page.get_by_text("You can close this page")).to_be_visible()
    assert control.submitted().pin == PIN


def test_an_app_whose_android_handler_throws_is_still_told_as_ios(
    page: Page, control: ControlSite
) -> None:
    open_page(page, control)
    page.evaluate("window.android_handler = { pin_valid() { throw new Error('android'); } }")
    page.locator("#first-pin").fill("8")
    assert calls(page) == [["ios", {"event": "pin_valid", "pin_valid": False}]]


def test_handlers_are_looked_up_at_each_call(page: Page, control: ControlSite) -> None:
    open_page(page, control)
    page.locator("#first-pin").fill("82")
    fresh(page)
    page.evaluate("""() => {
        window.taken = window.webkit.messageHandlers.ios_handler;
        delete window.webkit.messageHandlers.ios_handler;
    }""")
    page.locator("#first-pin").fill("8")
    assert calls(page) == INVALID[:1]
    page.evaluate("window.webkit.messageHandlers.ios_handler = window.taken")
    page.locator("#first-pin").fill("82")
    assert calls(page) == INVALID[:1] + INVALID


def test_without_webcrypto_the_id_is_kept_and_the_app_is_told(
    page: Page, control: ControlSite
) -> None:
    page.add_init_script(APPS)
    page.add_init_script("Object.defineProperty(Crypto.prototype, 'subtle', { value: undefined })")
    browse(page, control)
    notice(page, "This browser cannot protect your PIN")
    assert calls(page) == FAILED
    assert control.posts == []


def test_a_script_that_was_tampered_with_does_not_run_and_the_app_is_told(
    new_page: Callable[..., Page], control: ControlSite, complaints: list[str]
) -> None:
    page = new_page(locale="en-GB")
    page.add_init_script(APPS)
    page.route("**/jwe.js", lambda route: route.fulfill(body="const other = 1;"))
    browse(page, control)
    page.evaluate("document.getAnimations().forEach((animation) => animation.finish())")
    expect(page.locator("#stuck")).to_be_visible()
    page.evaluate("set_pin()")
    assert calls(page) == FAILED
    assert any("integrity" in complaint for complaint in complaints)
    assert control.posts == []


def blocked(route: Route) -> None:
    route.abort()


def missing(route: Route) -> None:
    route.fulfill(status=404)


@pytest.mark.parametrize("files", ["*", "*.js", "set_flow.js", "jwe.js", "pin_control.js"])
@pytest.mark.parametrize("how", [blocked, missing])
def test_where_the_page_cannot_be_had_whole_the_app_is_told(
    new_page: Callable[..., Page], control: ControlSite, files: str, how: Callable[[Route], None]
) -> None:
    page = new_page(locale="en-GB")
    page.add_init_script(APPS)
    page.route(f"**/pin-assets/*/{files}", how)
    browse(page, control)
    assert calls(page) == FAILED
    page.evaluate("set_pin()")
    assert calls(page) == FAILED
    assert control.posts == []


def test_where_a_part_of_the_page_does_not_come_the_app_is_told_when_its_id_is_over(
    new_page: Callable[..., Page], control: ControlSite
) -> None:
    page = new_page(locale="en-GB")
    stop_clock(page)
    page.add_init_script(APPS)
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/pin-assets/*/jwe.js", hold)
    page.set_content(
        f'<form method="post" action="{control.pin_url}">'
        f'<input name="controlId" value="{CONTROL_ID}"></form>'
    )
    with page.expect_navigation(wait_until="commit"):
        page.locator("input").press("Enter")
    expect(page.locator("#status")).to_be_attached()
    page.clock.run_for(29_000)
    assert calls(page) == []
    page.clock.run_for(1_000)
    assert calls(page) == FAILED
    held[0].continue_()
    page.wait_for_load_state()
    page.clock.run_for(1_000)
    assert calls(page) == FAILED
    assert control.posts == []


@pytest.mark.parametrize(
    "name", ["PARTS", "JWE", "PIN_SLOTS", "PIN_ENTRY", "SET_FLOW", "SHOW_PIN", "PIN_CONTROL"]
)
def test_where_a_script_is_too_new_for_the_webview_the_app_is_told(
    new_page: Callable[..., Page],
    control: ControlSite,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asset = getattr(render, name)
    body = b"a script of the future {"
    integrity = f"sha384-{base64.b64encode(hashlib.sha384(body).digest()).decode()}"
    newer = replace(asset, body=body, integrity=integrity)
    monkeypatch.setattr(render, name, newer)
    monkeypatch.setitem(cast("dict[str, Asset]", ASSETS), asset.path, newer)
    page = new_page(locale="en-GB")
    page.add_init_script(APPS)
    browse(page, control)
    assert calls(page) == FAILED
    assert control.posts == []


# What webviews of 2015 do not have; back before the test's own scripts need it.
OLD = """
const taken = [[Array.prototype, "includes"], [Array.prototype, "find"], [Array, "from"],
               [Element.prototype, "remove"], [Object, "assign"], [Object, "entries"],
               [window, "Map"], [window, "Promise"], [window, "fetch"]];
for (const each of taken) {
  each.push(each[0][each[1]]);
  delete each[0][each[1]];
}
addEventListener("load", () => { for (const [of, name, value] of taken) of[name] = value; });
"""


def test_an_old_webview_is_told(new_page: Callable[..., Page], control: ControlSite) -> None:
    page = new_page(locale="en-GB")
    page.add_init_script(APPS + OLD)
    page.route("**/pin-assets/*/*.js", lambda route: route.abort())
    browse(page, control)
    assert calls(page) == FAILED


@pytest.mark.parametrize(
    ("state", "title"),
    [
        ("ended", "This page is no longer valid"),
        ("away", "The service cannot be reached"),
        ("limited", "Too many attempts"),
        ("malformed", "This page was opened in the wrong way"),
    ],
)
@pytest.mark.parametrize("files", ["no-file", "*"])
def test_the_page_of_an_id_that_is_not_live_calls_back_both_errors_once(
    page: Page, control: ControlSite, state: str, title: str, files: str
) -> None:
    control.failed = state
    page.add_init_script(APPS)
    page.route(f"**/pin-assets/*/{files}", blocked)
    browse(page, control)
    expect(page.get_by_role("heading", name=title)).to_be_visible()
    page.evaluate("set_pin()")
    assert calls(page) == event("view_pin_error") + FAILED
    assert control.posts == []


def test_the_ended_page_is_what_it_is_whatever_the_handlers_do(
    page: Page, control: ControlSite
) -> None:
    control.failed = "ended"
    page.add_init_script(APPS + THROWING)
    browse(page, control)
    expect(page.get_by_role("heading", name="This page is no longer valid")).to_be_visible()


def test_a_reload_shows_the_ended_page(page: Page, control: ControlSite) -> None:
    open_page(page, control)
    enter(page)
    page.reload()
    expect(page.get_by_role("heading", name="This page is no longer valid")).to_be_visible()
    wait_for(lambda: bool(control.sent("cancel")))  # the page does not wait for the answer
    assert control.sent("cancel") == [{"session": control.session}]
    assert control.sent("submit") == []


def test_a_page_that_the_browser_kept_is_ended_and_the_app_is_told(
    page: Page, control: ControlSite
) -> None:
    open_page(page, control)
    leave_and_return(page)
    notice(page, "This page was already used")
    assert calls(page) == FAILED


def test_a_submission_is_answered_though_the_page_was_unavailable(
    page: Page, control: ControlSite
) -> None:
    control.hold.clear()
    open_page(page, control)
    enter(page)
    fresh(page)
    page.evaluate("""() => {
        set_pin();
        dispatchEvent(new PageTransitionEvent("pagehide", { persisted: true }));
        dispatchEvent(new PageTransitionEvent("pageshow", { persisted: true }));
    }""")
    control.hold.set()
    notice(page, "Your new PIN is set")
    assert calls(page) == DONE
    assert control.sent("cancel") == []


def test_neither_the_id_nor_the_pin_is_left_in_the_page(page: Page, control: ControlSite) -> None:
    open_page(page, control)
    enter(page)
    page.locator("#confirm").click()
    notice(page, "Your new PIN is set")
    content = page.content()
    assert CONTROL_ID not in content
    assert PIN not in content
    assert control.session not in content
    assert CONTROL_ID not in page.url

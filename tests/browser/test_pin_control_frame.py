"""The pincontrol page in a frame of an app's site: whom it hears, whom it tells, and what."""

import json

import pytest
from playwright.sync_api import FrameLocator, Page, expect

from tests.browser.chromium import stop_clock
from tests.browser.control_site import APPS, CONTROL_ID, FRAME_KEY, ControlSite
from tests.browser.frames import embed, received
from tests.browser.pin_site import APP, PINS
from tests.deployment import wait_for

OTHER, EVIL = "other.shop.test", "evil.test"
PIN = "8253"
VIEW = {"operation": "view-pin", "controlId": CONTROL_ID}
SET = {"operation": "set-pin", "controlId": CONTROL_ID}
SUBMIT = {"operation": "set-pin-set"}
VIEW_ERROR, SET_ERROR = {"event": "view_pin_error"}, {"event": "set_pin_error"}
ASKED = {"controlId": CONTROL_ID, "key": FRAME_KEY}


def host(page: Page, control: ControlSite, at: str = APP) -> FrameLocator:
    """Open the app's page with the pincontrol page in a frame."""
    control.embed_origins = control.embed_origins or [control.origin(APP)]
    page.goto(control.origin(at))
    frame = embed(page, control.frame_url)
    expect(frame.locator("#status")).to_be_attached()
    page.frames[1].wait_for_load_state("domcontentloaded")
    return frame


def post(page: Page, *messages: object) -> None:
    page.evaluate("(sent) => sent.forEach((one) => frames[0].postMessage(one, '*'))", messages)


def told(page: Page) -> list[object]:
    return [message["data"] for message in received(page)]


def valid(usable: bool) -> dict[str, object]:
    return {"event": "pin_valid", "pin_valid": usable}


def enter(frame: FrameLocator, pin: str = PIN) -> None:
    frame.locator("#first-pin").fill(pin)
    frame.locator("#second-pin").fill(pin)


def test_a_pin_is_seen_in_the_frame(page: Page, control: ControlSite) -> None:
    frame = host(page, control)
    post(page, VIEW)
    expect(frame.locator("#image-box img")).to_be_visible()
    assert received(page) == [
        {"data": {"event": "view_pin_success"}, "origin": control.origin(PINS), "framed": True}
    ]
    assert control.sent("view") == [ASKED]


def test_a_pin_is_set_with_the_apps_button_and_no_native_handler_is_called(
    page: Page, control: ControlSite
) -> None:
    page.add_init_script(APPS)
    control.show_button = False
    frame = host(page, control)
    post(page, SUBMIT, SET, SUBMIT)
    expect(frame.locator("#first-pin")).to_be_visible()
    expect(frame.get_by_role("button")).to_have_count(0)
    post(page, SUBMIT)
    enter(frame)
    post(page, SUBMIT, SUBMIT)
    expect(frame.get_by_role("heading", name="Your new PIN is set")).to_be_visible()
    refused = {"event": "set_pin_validation_error"}
    assert told(page) == [
        *[refused] * 3,
        valid(False),
        valid(True),
        {"event": "set_pin_success"},
    ]
    assert control.sent("session") == [ASKED]
    assert control.submitted().pin == PIN
    assert page.frames[1].evaluate("calls") == []


def test_after_success_further_ids_are_an_error_and_change_nothing(
    page: Page, control: ControlSite
) -> None:
    frame = host(page, control)
    post(page, VIEW)
    expect(frame.locator("#image-box img")).to_be_visible()
    frame.get_by_role("button", name="Hide PIN").click()
    post(page, VIEW, SET, SUBMIT)
    assert told(page) == [{"event": "view_pin_success"}, VIEW_ERROR, SET_ERROR]
    assert [verb for verb, _ in control.posts] == ["view"]


def test_while_one_id_is_used_another_is_an_error_and_changes_nothing(
    page: Page, control: ControlSite
) -> None:
    control.held = "session"
    control.hold.clear()
    frame = host(page, control)
    post(page, SET, {**SET, "controlId": "second"})
    expect(frame.get_by_role("heading", name="One moment")).to_be_visible()
    post(page, VIEW)
    control.hold.set()
    expect(frame.locator("#first-pin")).to_be_visible()
    post(page, {**VIEW, "controlId": "third"})
    assert told(page) == [SET_ERROR, VIEW_ERROR, VIEW_ERROR]
    assert control.posts == [("session", ASKED)]


def test_after_each_failure_a_new_id_starts_the_page_again(
    page: Page, control: ControlSite
) -> None:
    control.answers = {"view": [(410, {})], "session": [(503, {})], "submit": [(503, {})]}
    stop_clock(page)
    frame = host(page, control)
    post(page, VIEW)
    expect(frame.get_by_role("heading", name="This page is no longer valid")).to_be_visible()
    post(page, SET)
    expect(frame.get_by_role("heading", name="Your PIN cannot be set right now")).to_be_visible()
    post(page, SET)
    enter(frame)
    frame.locator("#confirm").click()
    expect(frame.get_by_role("heading", name="Your PIN may not have been saved")).to_be_visible()
    post(page, SET)
    expect(frame.locator("#first-pin")).to_be_visible()
    expect(frame.locator("#first-pin")).to_have_value("")
    page.clock.fast_forward(601_000)
    expect(frame.get_by_role("heading", name="Your time is up")).to_be_visible()
    post(page, SUBMIT, SET)
    enter(frame, "9406")
    frame.locator("#confirm").click()
    expect(frame.get_by_role("heading", name="Your new PIN is set")).to_be_visible()
    entered = [valid(False), valid(True)]
    failed = {"event": "set_pin_error"}
    assert told(page) == [
        {"event": "view_pin_error"},
        failed,
        *entered,
        failed,
        failed,
        *entered,
        {"event": "set_pin_success"},
    ]
    assert len(control.sent("submit")) == 2


def test_a_message_that_comes_before_the_rest_has_loaded_is_kept(
    page: Page, control: ControlSite
) -> None:
    def early(route: object) -> None:
        post(page, SET, VIEW)
        route.continue_()  # type: ignore[attr-defined]

    page.route("**/pin_control.js", early)
    frame = host(page, control)
    expect(frame.locator("#first-pin")).to_be_visible()
    post(page, VIEW)
    assert told(page) == [VIEW_ERROR, VIEW_ERROR]
    assert control.posts == [("session", ASKED)]


def test_a_frame_that_is_loaded_again_waits_for_another_id(
    page: Page, control: ControlSite
) -> None:
    frame = host(page, control)
    post(page, SET)
    expect(frame.locator("#first-pin")).to_be_visible()
    with page.expect_event("framenavigated"):
        page.evaluate("url => document.querySelector('iframe').src = url", control.frame_url)
    expect(frame.locator("#first-pin")).to_be_hidden()
    page.frames[1].wait_for_load_state("domcontentloaded")
    wait_for(lambda: bool(control.sent("cancel")))  # the page does not wait for the answer
    assert control.sent("cancel") == [{"session": control.session}]
    post(page, {**VIEW, "controlId": "second"})
    expect(frame.locator("#image-box img")).to_be_visible()
    assert control.sent("view") == [{**ASKED, "controlId": "second"}]


@pytest.mark.parametrize(
    "sent",
    [
        {"operation": "change-pin", "controlId": CONTROL_ID},
        {"operation": "toString", "controlId": CONTROL_ID},
        {"operation": ["view-pin"], "controlId": CONTROL_ID},
        {"controlId": CONTROL_ID},
        {},
        [VIEW],
        "view-pin",
        json.dumps(VIEW),
        7,
        None,
    ],
)
def test_a_message_that_asks_for_nothing_known_is_either_error(
    page: Page, control: ControlSite, sent: object
) -> None:
    frame = host(page, control)
    post(page, sent)
    assert told(page) == [VIEW_ERROR, SET_ERROR]
    # Nothing is used up.
    post(page, VIEW)
    expect(frame.locator("#image-box img")).to_be_visible()


@pytest.mark.parametrize(
    "ids",
    [
        {},
        {"controlId": None},
        {"controlId": 1},
        {"controlId": [CONTROL_ID]},
        {"controlId": CONTROL_ID.ljust(65, "x")},
        {"controlId": CONTROL_ID, "pinControlId": "another"},
        {"controlid": CONTROL_ID},
    ],
)
@pytest.mark.parametrize(("operation", "error"), [("view-pin", VIEW_ERROR), ("set-pin", SET_ERROR)])
def test_a_request_without_one_id_is_its_error(
    page: Page, control: ControlSite, operation: str, error: object, ids: dict[str, object]
) -> None:
    host(page, control)
    post(page, {"operation": operation, **ids})
    assert told(page) == [error]
    assert control.posts == []


@pytest.mark.parametrize("names", [["pinControlId"], ["controlId", "pinControlId"]])
def test_an_id_may_have_its_newer_name(page: Page, control: ControlSite, names: list[str]) -> None:
    frame = host(page, control)
    post(page, {"operation": "set-pin", **dict.fromkeys(names, CONTROL_ID)})
    expect(frame.locator("#first-pin")).to_be_visible()
    assert told(page) == []
    assert control.sent("session") == [ASKED]


def test_without_webcrypto_each_request_fails(page: Page, control: ControlSite) -> None:
    page.add_init_script("Object.defineProperty(Crypto.prototype, 'subtle', { value: undefined })")
    frame = host(page, control)
    post(page, VIEW, SET)
    expect(frame.get_by_role("heading", name="This browser cannot protect")).to_be_visible()
    assert told(page) == [{"event": "view_pin_error"}, {"event": "set_pin_error"}]
    assert control.posts == []


def test_before_its_first_message_every_registered_origin_is_told_and_then_that_one(
    page: Page, control: ControlSite
) -> None:
    origins = control.embed_origins = [control.origin(OTHER), control.origin(APP)]
    frame = host(page, control)
    # No window hears what is meant for another origin, so the page's way out is watched.
    addressed = """() => {
        const sent = [], parent = window.parent;
        window.parent = { postMessage: (message, origin) => sent.push([message.event, origin]) };
        set_pin();
        window.parent = parent;
        return sent;
    }"""
    refused = "set_pin_validation_error"
    assert page.frames[1].evaluate(addressed) == [[refused, origin] for origin in origins]
    # One that is not understood comes from somewhere, too.
    post(page, "?")
    assert told(page) == [VIEW_ERROR, SET_ERROR]
    assert page.frames[1].evaluate(addressed) == [[refused, control.origin(APP)]]
    post(page, SET)
    expect(frame.locator("#first-pin")).to_be_visible()
    assert page.frames[1].evaluate(addressed) == [[refused, control.origin(APP)]]


@pytest.mark.parametrize("blocked", ["pin_control.js", "parts.js", "*"])
def test_a_page_that_did_not_load_whole_says_so_and_again_to_whoever_asks(
    page: Page, control: ControlSite, blocked: str
) -> None:
    page.route(f"**/pin-assets/*/{blocked}", lambda route: route.abort())
    host(page, control)
    post(page, SUBMIT, VIEW)
    assert told(page) == [{"event": "set_pin_error"}, {"event": "view_pin_error"}]
    assert control.posts == []


def test_a_page_that_does_not_load_says_so_when_the_id_that_it_was_given_is_over(
    page: Page, control: ControlSite
) -> None:
    stop_clock(page)
    page.route("**/pin-assets/*/jwe.js", lambda _: None)
    control.embed_origins = [control.origin(APP)]
    page.goto(control.origin(APP))
    expect(embed(page, control.frame_url).locator("#status")).to_be_attached()
    page.clock.run_for(60_000)
    post(page, SUBMIT, VIEW)
    page.wait_for_function("received.length === 1")
    page.clock.run_for(29_000)
    post(page, SUBMIT, SET)
    page.wait_for_function("received.length === 2")
    page.clock.run_for(1_000)
    page.wait_for_function("received.length === 3")
    post(page, VIEW)
    assert told(page) == [{"event": "set_pin_validation_error"}, SET_ERROR, VIEW_ERROR, VIEW_ERROR]
    assert control.posts == []


def test_a_parent_that_is_not_registered_is_neither_heard_nor_told(
    page: Page, control: ControlSite
) -> None:
    control.ancestors = [control.origin(EVIL)]
    page.route("**/show_pin.js", lambda route: route.abort())
    host(page, control, EVIL)
    post(page, VIEW, SET, SUBMIT, "?")
    assert told(page) == []
    assert control.posts == []


def test_only_the_parent_is_heard(page: Page, control: ControlSite) -> None:
    page.add_init_script(APPS)
    frame = host(page, control)
    for sibling in (control.origin(EVIL), control.origin(APP)):
        embed(page, sibling).get_by_role("heading", name="app").wait_for()
        page.frames[-1].evaluate("(sent) => top.frames[0].postMessage(sent, '*')", VIEW)
    page.frames[1].evaluate("(sent) => window.postMessage(sent, '*')", VIEW)
    # The frames' messages are heard in order: this one is the last.
    post(page, SUBMIT)
    page.wait_for_function("received.length === 1")
    expect(frame.locator("#notice")).to_be_hidden()
    assert control.posts == []


def test_an_app_two_frames_up_is_not_heard(page: Page, control: ControlSite) -> None:
    control.embed_origins = [control.origin(APP)]
    page.goto(control.origin(APP))
    embed(page, control.origin(APP)).get_by_role("heading", name="app").wait_for()
    inner = embed(page.frames[1], control.frame_url)
    expect(inner.locator("#status")).to_be_attached()
    page.frames[2].wait_for_load_state("domcontentloaded")
    page.evaluate("(sent) => frames[0].frames[0].postMessage(sent, '*')", VIEW)
    page.frames[1].evaluate("(sent) => frames[0].postMessage(sent, '*')", SUBMIT)
    page.frames[1].wait_for_function("received.length === 1")
    assert control.posts == []


def test_a_page_that_is_not_framed_hears_nobody(page: Page, control: ControlSite) -> None:
    control.embed_origins = [control.origin(APP), control.origin(PINS)]
    page.goto(control.origin(APP))
    with page.expect_popup() as popup:
        page.evaluate("(url) => { window.opened = window.open(url); }", control.frame_url)
    opened = popup.value
    expect(opened.locator("#status")).to_be_attached()
    opened.wait_for_load_state("domcontentloaded")
    page.evaluate("(sent) => window.opened.postMessage(sent, '*')", VIEW)
    opened.evaluate(
        """(sent) => new Promise((heard) => {
            addEventListener("message", heard);
            window.postMessage(sent, "*");
        })""",
        VIEW,
    )
    assert opened.evaluate("window.opener") is None
    assert control.posts == []


# In the page itself: everything that a message can carry, and near misses of what counts.
FUZZ = """([controlId, count]) => {
  let seed = 1;
  const random = (n) => (seed = (seed * 48271) % 2147483647) % n;
  const pick = (list) => list[random(list.length)];
  const cyclic = { operation: "view-pin" };
  cyclic.controlId = cyclic;
  const huge = "9".repeat(1 << 20);
  const scalars = () => pick([null, undefined, true, false, 0, -0, NaN, Infinity, 1n, "", "x",
    random(1e9), String(random(1e9)), new Date(0), /x/, new Error("x"), new Uint8Array(3)]);
  const any = (depth) => {
    if (depth === 0 || random(3) === 0) return scalars();
    const size = random(4);
    const inner = () => any(depth - 1);
    if (random(4) === 0) return Array.from({ length: size }, inner);
    if (random(8) === 0) return new Map([[inner(), inner()]]);
    if (random(8) === 0) return new Set([inner()]);
    const keys = ["operation", "controlId", "event", "__proto__", "constructor", "type"];
    return Object.fromEntries(Array.from({ length: size }, () => [pick(keys), inner()]));
  };
  const operations = ["view-pin ", "VIEW-PIN", "view_pin", "setpin", "set-pin-set ", "abort",
    "__proto__", "constructor", "toString", "has", "", ["view-pin"], { a: "set-pin" }, 1, null];
  const ids = [undefined, null, 1, 1n, true, [controlId], { toString: controlId }, new Date(0),
    new String(controlId), controlId.padEnd(65, "x"), huge];
  const right = () => pick(["view-pin", "set-pin"]);
  const nearly = [
    () => ({ operation: pick(operations), controlId }),
    () => ({ operation: right(), controlId: pick(ids.slice(0, -1)) }),
    () => ({ Operation: right(), controlID: controlId }),
    () => ({ operation: new String(right()), controlId }),
    () => [right(), controlId],
    () => Object.assign([], { operation: right(), controlId }),
    () => new Map([["operation", right()], ["controlId", controlId]]),
    () => JSON.stringify({ operation: right(), controlId }),
    () => ({ data: { operation: right(), controlId } }),
    () => JSON.parse(`{"__proto__": {"operation": "view-pin", "controlId": "${controlId}"}}`),
    () => cyclic,
    () => any(4),
  ];
  for (let i = 0; i < count; i++) frames[0].postMessage(pick(nearly)(), "*");
  for (const id of ids) frames[0].postMessage({ operation: "set-pin", controlId: id }, "*");
  frames[0].postMessage(huge, "*");
}"""


def test_ten_thousand_wrong_messages_change_nothing_and_a_right_one_counts(
    page: Page, control: ControlSite
) -> None:
    frame = host(page, control)
    before = page.frames[1].content()
    page.evaluate(FUZZ, [CONTROL_ID, 10_000])
    page.frames[1].evaluate("new Promise((later) => setTimeout(later))")
    assert page.frames[1].content() == before
    post(page, SET)
    expect(frame.locator("#first-pin")).to_be_visible()
    # Nor does the open page change.
    page.evaluate(FUZZ, [CONTROL_ID, 1_000])
    enter(frame)
    frame.locator("#confirm").click()
    expect(frame.get_by_role("heading", name="Your new PIN is set")).to_be_visible()
    heard = told(page)
    wrong = [message for message in heard if message in (VIEW_ERROR, SET_ERROR)]
    assert len(wrong) > 11_000
    rest = [message for message in heard if message not in (VIEW_ERROR, SET_ERROR)]
    assert rest == [valid(False), valid(True), {"event": "set_pin_success"}]
    assert [verb for verb, _ in control.posts] == ["session", "submit"]


def test_an_unknown_key_is_the_ended_page(page: Page, control: ControlSite) -> None:
    control.embed_origins = [control.origin(APP)]
    page.goto(control.origin(APP))
    frame = embed(page, control.frame_url.replace(FRAME_KEY, "another"))
    expect(frame.get_by_role("heading", name="This page is no longer valid")).to_be_visible()
    post(page, VIEW)
    assert received(page) == []
    assert control.posts == []

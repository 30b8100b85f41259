"""The set page in a real browser: entry, encryption, and every way to its end."""

import json
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.chromium import stop_clock
from tests.browser.pin_site import APP, PINS, TOKEN, PinSite, leave_and_return
from tests.deployment import wait_for

PIN = "8253"


def open_page(page: Page, site: PinSite) -> None:
    page.goto(site.url)
    expect(page.locator("#first-pin")).to_be_visible()


def enter(page: Page, first: str, second: str | None = None) -> None:
    page.get_by_label("New PIN", exact=True).fill(first)
    page.get_by_label("Repeat the new PIN").fill(first if second is None else second)


def set_pin(page: Page) -> None:
    page.get_by_role("button", name="Set PIN").click()


def hint(page: Page, field: str) -> str:
    return page.locator(f"#{field}-hint").inner_text()


def values(page: Page) -> list[str]:
    return [page.locator(f"#{field}-pin").input_value() for field in ("first", "second")]


def notice(page: Page, title: str) -> None:
    expect(page.get_by_role("heading", name=title)).to_be_visible()
    expect(page.locator("#entry")).to_be_hidden()
    assert values(page) == ["", ""]


def test_a_pin_of_any_length_reaches_the_vault_as_it_was_entered(page: Page, site: PinSite) -> None:
    site.opening = {"digitsMin": 4, "digitsMax": 12}
    site.answers["submit"] = [(422, {"reason": "weak"})] * 9
    open_page(page, site)
    for digits in range(4, 13):
        pin = "825380146729"[:digits]
        enter(page, pin)
        set_pin(page)
        expect(page.locator("#first-hint")).to_contain_text("too easy to guess")
        submitted = site.submitted()
        assert submitted.pin == pin
        assert submitted.grant_id == site.grant_id
        site.posts.clear()


def test_the_jwe_has_the_four_agreed_header_members_and_each_block_its_own_random_fill(
    page: Page, site: PinSite
) -> None:
    site.answers["submit"] = [(422, {"reason": "weak"})] * 2
    open_page(page, site)
    blocks = []
    for _ in range(2):
        enter(page, PIN)
        set_pin(page)
        expect(page.locator("#first-hint")).to_contain_text("too easy to guess")
        submitted = site.submitted()
        site.posts = [post for post in site.posts if post[0] != "submit"]
        blocks.append(submitted.block)
        assert list(submitted.header) == ["alg", "enc", "kid", "epk"]
        assert submitted.header["kid"] == "page-1"
        assert sorted(submitted.header["epk"]) == ["crv", "kty", "x", "y"]
    assert blocks[0][:3] == blocks[1][:3] == bytes.fromhex("148253")
    assert blocks[0] != blocks[1]


def test_the_token_is_posted_once_and_gone_from_address_history_and_every_request(
    page: Page, site: PinSite
) -> None:
    open_page(page, site)
    assert page.url == f"{site.origin(PINS)}/pin-direct/set"
    assert site.sent("session") == [{"token": TOKEN}]
    later = site.requests[1:]
    assert [r for r in later if "referer" in r.headers or TOKEN in str(r.url)] == []
    assert page.evaluate("[document.cookie, localStorage.length, sessionStorage.length]") == [
        "",
        0,
        0,
    ]


def test_keys_alone_set_a_pin(page: Page, site: PinSite) -> None:
    open_page(page, site)
    page.keyboard.type(PIN)
    page.keyboard.press("Enter")
    expect(page.get_by_label("Repeat the new PIN")).to_be_focused()
    page.keyboard.type(PIN)
    page.keyboard.press("Enter")
    notice(page, "Your new PIN is set")
    assert site.submitted().pin == PIN


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("82", "Digits entered: 2 of 4"),
        (PIN, "This PIN can be used."),
        ("1111", "All digits are the same. Choose a different PIN."),
    ],
)
def test_the_first_entry_is_judged_while_it_is_typed(
    page: Page, site: PinSite, typed: str, said: str
) -> None:
    open_page(page, site)
    page.keyboard.type(typed)
    assert said in hint(page, "first")
    assert page.locator("#second-pin").is_enabled() == (typed == PIN)


def test_the_page_says_whose_it_is_and_once_it_is_opened_for_which_card(
    page: Page, site: PinSite
) -> None:
    page.route("**/session", lambda _: None)
    page.goto(site.url)
    expect(page.locator("#whose")).to_have_text("Demo Bank")
    assert "1111" not in page.content()
    page.unroute("**/session")
    open_page(page, site)
    expect(page.get_by_role("img", name="Card ending in 1111")).to_have_text("••••\u00a01111")
    page.get_by_label("Language").select_option("de")
    expect(page.get_by_role("img", name="Karte mit den Endziffern 1111")).to_be_visible()


def test_the_rules_tick_as_they_are_kept_and_the_second_field_comes_when_all_are(
    page: Page, site: PinSite
) -> None:
    open_page(page, site)
    rules, second = page.locator("#rules li"), page.locator("#second-pin")
    for typed, kept in [("2", ["", ""]), ("22", ["", ""]), ("222", ["", ""])]:
        page.locator("#first-pin").fill(typed)
        assert [rule.get_attribute("class") or "" for rule in rules.all()] == kept
    for typed, kept in [
        ("2222", ["met", "broken"]),
        ("222", ["", ""]),
        ("2225", ["met", "met"]),
        ("25", ["", "met"]),
    ]:
        page.locator("#first-pin").fill(typed)
        assert [rule.get_attribute("class") or "" for rule in rules.all()] == kept
        assert second.is_visible() is (kept == ["met", "met"])


def test_a_slot_has_a_dot_for_a_digit_and_the_caret_is_where_it_is_put(
    page: Page, site: PinSite
) -> None:
    site.opening = {"digitsMin": 4, "digitsMax": 6}
    open_page(page, site)

    def slots() -> list[str]:
        classes = "(slots) => slots.map((slot) => [...slot.classList].sort().join(' '))"
        return page.locator("#first-slots span").evaluate_all(classes)  # type: ignore[no-any-return]

    def drawn(wanted: list[str]) -> None:
        # A browser tells of a caret that moved when it has moved it.
        wait_for(lambda: slots() == wanted)

    drawn(["at", "", "", ""])
    page.keyboard.type("8253")
    drawn(["full"] * 4 + ["at"])
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Shift+ArrowLeft")
    drawn(["full", "full", "full picked", "full", ""])
    page.keyboard.press("ArrowRight")
    box = page.locator("#first-slots span").nth(1).bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    drawn(["full", "full", "at full", "full", ""])
    page.keyboard.press("Backspace")
    assert values(page)[0] == "853"
    page.keyboard.press("End")
    page.keyboard.type("146")
    drawn(["full"] * 5 + ["at behind full"])
    assert page.locator("#first-slots").inner_text() == ""


def test_no_digit_and_no_dot_of_the_field_itself_is_drawn(page: Page, site: PinSite) -> None:
    open_page(page, site)
    page.keyboard.type(PIN)
    drawn = """(field) => [getComputedStyle(field), getComputedStyle(field, "::selection")]
        .map((style) => style.color)"""
    assert page.locator("#first-pin").evaluate(drawn) == ["rgba(0, 0, 0, 0)"] * 2


@pytest.mark.parametrize(
    ("status", "members", "title"),
    [
        (403, {}, "This card takes no new PIN now"),
        (410, {"reason": "changed"}, "Your PIN was changed elsewhere"),
        (410, {"errorCode": "PIN_CHANGED"}, "Your PIN was changed elsewhere"),
        (410, {"reason": "insecure"}, "This page is no longer valid"),
    ],
)
def test_each_end_has_its_own_words(
    page: Page, site: PinSite, status: int, members: dict[str, object], title: str
) -> None:
    site.answers["submit"] = [(status, members)]
    open_page(page, site)
    enter(page, PIN)
    set_pin(page)
    notice(page, title)


def test_the_rules_are_those_of_the_issuer(page: Page, site: PinSite) -> None:
    site.opening = {"digitsMin": 4, "digitsMax": 12, "refuseRuns": True, "refuseRepeated": False}
    open_page(page, site)
    rules = page.locator("#rules li")
    expect(rules).to_have_text(["4 to 12 digits", "The digits may not simply count up or down."])
    first = page.get_by_label("New PIN", exact=True)
    for pin, said in [
        ("1234", "count up or down"),
        ("987654", "count up or down"),
        ("7890", "can be used"),
        ("5555", "can be used"),
    ]:
        first.fill(pin)
        assert said in hint(page, "first")


def test_a_second_entry_that_differs_is_told_at_once_and_never_sent(
    page: Page, site: PinSite
) -> None:
    open_page(page, site)
    enter(page, PIN, "82")
    assert "Digits entered: 2 of 4" in hint(page, "second")
    enter(page, PIN, "829")
    assert "not the same" in hint(page, "second")
    set_pin(page)
    expect(page.get_by_label("Repeat the new PIN")).to_be_focused()
    assert page.locator("#second-pin").get_attribute("aria-invalid") == "true"
    assert site.sent("submit") == []


def test_a_change_of_the_first_entry_clears_the_second(page: Page, site: PinSite) -> None:
    open_page(page, site)
    enter(page, PIN)
    page.get_by_label("New PIN", exact=True).fill("82")
    assert values(page) == ["82", ""]
    set_pin(page)
    assert "exactly 4 digits" in hint(page, "first")
    assert site.sent("submit") == []


@pytest.mark.parametrize(
    ("pasted", "said"), [("82a3", "digits only"), ("82 53", "digits only"), ("82531", "exactly 4")]
)
def test_a_paste_that_is_no_pin_changes_nothing_and_says_why(
    page: Page, site: PinSite, pasted: str, said: str
) -> None:
    open_page(page, site)
    page.keyboard.type("82")
    page.locator("#first-pin").select_text()
    page.keyboard.insert_text(pasted)
    assert values(page)[0] == "82"
    assert said in hint(page, "first")


def test_a_digit_too_many_is_refused_aloud(page: Page, site: PinSite) -> None:
    open_page(page, site)
    page.keyboard.type(PIN + "1")
    assert values(page)[0] == PIN
    assert "exactly 4" in hint(page, "first")


def test_arabic_digits_are_digits(page: Page, site: PinSite) -> None:
    open_page(page, site)
    enter(page, "\u0668\u0662\u0665\u0663", "\u06f8\u06f2\u06f5\u06f3")
    assert values(page) == [PIN, PIN]
    set_pin(page)
    notice(page, "Your new PIN is set")
    assert site.submitted().pin == PIN


def test_the_fields_are_empty_while_the_pin_is_on_its_way_and_it_is_sent_once(
    page: Page, site: PinSite
) -> None:
    site.hold.clear()
    open_page(page, site)
    enter(page, PIN)
    page.evaluate("document.getElementById('pin-form').requestSubmit()")
    page.evaluate("document.getElementById('pin-form').requestSubmit()")
    expect(page.get_by_role("button", name="Saving…")).to_be_disabled()
    expect(page.locator("#second-hint")).to_be_empty()
    assert values(page) == ["", ""]
    assert PIN not in page.content()
    site.hold.set()
    notice(page, "Your new PIN is set")
    assert len(site.sent("submit")) == 1


def test_the_fields_are_cleared_when_the_page_is_hidden(page: Page, site: PinSite) -> None:
    open_page(page, site)
    enter(page, PIN)
    page.evaluate("""() => {
        Object.defineProperty(document, "hidden", { value: true });
        document.dispatchEvent(new Event("visibilitychange"));
    }""")
    assert values(page) == ["", ""]
    assert "your entry was cleared" in hint(page, "first")


def test_a_refused_pin_leaves_the_page_for_another(page: Page, site: PinSite) -> None:
    site.answers["submit"] = [(422, {"reason": "weak"})]
    open_page(page, site)
    enter(page, PIN)
    set_pin(page)
    expect(page.locator("#first-hint")).to_contain_text("too easy to guess")
    assert values(page) == ["", ""]
    enter(page, "9406")
    set_pin(page)
    notice(page, "Your new PIN is set")


@pytest.mark.parametrize(
    ("status", "title"),
    [(410, "This page is no longer valid"), (503, "Your PIN may not have been saved")],
)
def test_any_other_refusal_ends_the_page(
    page: Page, site: PinSite, status: int, title: str
) -> None:
    site.answers["submit"] = [(status, {})]
    open_page(page, site)
    enter(page, PIN)
    set_pin(page)
    notice(page, title)
    assert "Go back to the app" in page.locator("#notice-text").inner_text()


def test_an_answer_that_is_lost_ends_the_page(new_page: Callable[..., Page], site: PinSite) -> None:
    page = new_page(locale="en-GB")
    page.route("**/submit", lambda route: route.abort())
    open_page(page, site)
    enter(page, PIN)
    set_pin(page)
    notice(page, "Your PIN may not have been saved")


def test_success_is_shown_for_two_seconds_and_then_leads_back(page: Page, site: PinSite) -> None:
    site.opening = {"redirectUrl": f"{site.origin(APP)}/done?step=2"}
    stop_clock(page)
    open_page(page, site)
    enter(page, PIN)
    set_pin(page)
    notice(page, "Your new PIN is set")
    page.clock.fast_forward(1_500)
    notice(page, "Your new PIN is set")
    page.clock.fast_forward(600)
    page.wait_for_url(f"{site.origin(APP)}/done?step=2")
    (arrival,) = [r for r in site.requests if r.url.path == "/done"]
    assert "referer" not in arrival.headers


def test_cancel_ends_the_session_and_leads_back_at_once(page: Page, site: PinSite) -> None:
    site.opening = {"redirectUrl": f"{site.origin(APP)}/done"}
    open_page(page, site)
    enter(page, PIN)
    with page.expect_request("**/cancel"):
        page.get_by_role("button", name="Cancel").click()
    page.wait_for_url(f"{site.origin(APP)}/done")
    wait_for(lambda: bool(site.sent("cancel")))  # the page does not wait for the answer
    assert site.sent("cancel") == [{"session": site.session}]
    assert site.sent("submit") == []


def test_without_an_address_to_go_to_the_page_ends_on_a_message(page: Page, site: PinSite) -> None:
    stop_clock(page)
    open_page(page, site)
    page.get_by_role("button", name="Cancel").click()
    notice(page, "Cancelled")
    page.clock.fast_forward(5_000)
    assert "go back to the app" in page.locator("#notice-next").inner_text()


def test_a_dead_token_shows_that_the_page_has_ended(page: Page, site: PinSite) -> None:
    site.answers["session"] = [(410, {})]
    page.goto(site.url)
    notice(page, "This page is no longer valid")


@pytest.mark.parametrize(
    ("status", "title"), [(503, "The service cannot be reached"), (429, "Too many attempts")]
)
def test_a_service_that_is_unavailable_can_be_asked_again_with_the_same_token(
    page: Page, site: PinSite, status: int, title: str
) -> None:
    site.answers["session"] = [(status, {})]
    page.goto(site.url)
    notice(page, title)
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#first-pin")).to_be_focused()
    assert site.sent("session") == [{"token": TOKEN}] * 2


def test_twenty_seconds_before_the_end_one_press_gives_more_time(page: Page, site: PinSite) -> None:
    stop_clock(page)
    open_page(page, site)
    enter(page, PIN, "82")
    page.clock.fast_forward(570_000)
    expect(page.locator("#warning")).to_be_hidden()
    page.clock.fast_forward(12_000)
    expect(page.locator("#status")).to_contain_text("Your time is almost up. Seconds left: ")
    page.get_by_role("button", name="Give me more time").click()
    expect(page.locator("#warning")).to_be_hidden()
    assert site.sent("extend") == [{"session": site.session}]
    assert values(page) == [PIN, "82"]


def test_at_the_limit_more_time_is_no_longer_offered(page: Page, site: PinSite) -> None:
    site.opening = {"expiresInSeconds": 20}
    site.answers["extend"] = [(200, {"expiresInSeconds": 18})]
    stop_clock(page)
    open_page(page, site)
    page.clock.run_for(2_000)
    page.get_by_role("button", name="Give me more time").click()
    expect(page.locator("#warning-text")).to_contain_text("cannot be extended again")
    expect(page.get_by_role("button", name="Give me more time")).to_be_hidden()


def test_an_extension_that_fails_is_told_and_can_be_asked_for_again(
    page: Page, site: PinSite
) -> None:
    site.answers["extend"] = [(503, {})]
    stop_clock(page)
    open_page(page, site)
    page.clock.fast_forward(582_000)
    page.get_by_role("button", name="Give me more time").click()
    expect(page.locator("#status")).to_contain_text("You could not be given more time.")
    expect(page.locator("#warning-text")).to_contain_text("You could not be given more time.")
    page.get_by_role("button", name="Give me more time").click()
    expect(page.locator("#warning")).to_be_hidden()


def test_when_time_is_up_the_fields_are_gone(page: Page, site: PinSite) -> None:
    stop_clock(page)
    open_page(page, site)
    enter(page, PIN)
    page.clock.fast_forward(601_000)
    notice(page, "Your time is up")


def test_leaving_the_page_ends_the_session_and_going_back_shows_that(
    page: Page, site: PinSite
) -> None:
    page.goto(site.origin(APP))
    open_page(page, site)
    enter(page, PIN)
    page.goto(site.origin("elsewhere.test"))
    # A page from the back-forward cache has no load event.
    page.go_back(wait_until="commit")
    expect(page.get_by_role("heading", name="This page was already used")).to_be_visible()
    assert [i for i in page.locator("input").all() if i.input_value() != ""] == []
    wait_for(lambda: bool(site.sent("cancel")))  # the page does not wait for the answer
    assert site.sent("cancel") == [{"session": site.session}]
    page.go_back(wait_until="commit")
    page.go_forward(wait_until="commit")
    expect(page.get_by_role("heading", name="This page was already used")).to_be_visible()
    assert site.sent("session") == [{"token": TOKEN}]


def test_a_page_that_the_browser_kept_is_ended_when_it_is_shown_again(
    page: Page, site: PinSite
) -> None:
    open_page(page, site)
    enter(page, PIN)
    leave_and_return(page)
    notice(page, "This page was already used")


def test_a_reload_shows_the_ended_page(page: Page, site: PinSite) -> None:
    open_page(page, site)
    page.reload()
    expect(page.get_by_role("heading", name="This page is no longer valid")).to_be_visible()
    assert page.locator("input, button, script").count() == 0


def test_the_language_can_be_switched_without_losing_the_entry(page: Page, site: PinSite) -> None:
    open_page(page, site)
    page.keyboard.type(PIN)
    page.get_by_label("Language").select_option("ar")
    expect(page.get_by_role("heading", name="تعيين الرقم السري لبطاقتك")).to_be_visible()
    assert page.evaluate("[document.documentElement.lang, document.documentElement.dir]") == [
        "ar",
        "rtl",
    ]
    assert hint(page, "first").endswith("يمكن استخدام هذا الرقم السري.")
    assert values(page)[0] == PIN
    assert len(site.sent("session")) == 1


def test_no_digit_of_the_pin_is_announced(page: Page, site: PinSite) -> None:
    open_page(page, site)
    page.evaluate("""() => {
        window.heard = [];
        new MutationObserver(() => heard.push(document.getElementById("status").textContent))
            .observe(document.getElementById("status"), { childList: true });
    }""")
    page.keyboard.type(PIN)
    page.locator("#second-pin").press_sequentially("8259")
    page.locator("#second-pin").fill(PIN)
    set_pin(page)
    notice(page, "Your new PIN is set")
    heard = " ".join(page.evaluate("heard"))
    assert "Both PINs match." in heard
    assert [digit for digit in PIN if digit in heard] == []


def test_a_screen_reader_is_not_told_the_digits(page: Page, site: PinSite) -> None:
    open_page(page, site)
    enter(page, PIN)
    tree = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")
    fields = [node for node in tree["nodes"] if node.get("role", {}).get("value") == "textbox"]
    assert [field["value"]["value"] for field in fields] == ["••••"] * 2
    assert PIN not in json.dumps(tree)


GECKO = """
const supports = CSS.supports;
CSS.supports = (...given) => given[0] === "-moz-appearance" || supports.apply(CSS, given);
"""


@pytest.mark.parametrize("blocked", ["no-file", "page.css"])
def test_where_a_field_must_not_be_a_password_it_is_text_that_is_masked(
    new_page: Callable[..., Page], site: PinSite, blocked: str
) -> None:
    page = new_page(locale="en-GB")
    page.add_init_script(GECKO)
    page.route(f"**/{blocked}", lambda route: route.abort())
    open_page(page, site)
    masked = "(fields) => fields.map((f) => [f.type, getComputedStyle(f).webkitTextSecurity])"
    assert page.locator("input").evaluate_all(masked) == [["text", "disc"]] * 2
    enter(page, PIN)
    set_pin(page)
    notice(page, "Your new PIN is set")
    assert site.submitted().pin == PIN


def test_without_webcrypto_the_token_is_kept_and_the_page_says_what_to_do(
    page: Page, site: PinSite
) -> None:
    page.add_init_script("Object.defineProperty(Crypto.prototype, 'subtle', { value: undefined })")
    page.goto(site.url)
    notice(page, "This browser cannot protect your PIN")
    assert site.posts == []


def test_without_script_the_page_says_what_to_do(
    new_page: Callable[..., Page], site: PinSite
) -> None:
    page = new_page(java_script_enabled=False, locale="de-DE")
    page.goto(site.url)
    expect(page.get_by_role("heading", name="JavaScript ist ausgeschaltet")).to_be_visible()
    expect(page.locator("form")).to_be_hidden()


def test_a_script_that_was_tampered_with_does_not_run(
    new_page: Callable[..., Page], site: PinSite, complaints: list[str]
) -> None:
    page = new_page(locale="en-GB")
    page.route("**/jwe.js", lambda route: route.fulfill(body="const pinJwe = {};"))
    page.goto(site.url)
    page.evaluate("document.getAnimations().forEach((animation) => animation.finish())")
    expect(page.get_by_text("go back to the app and start again")).to_be_visible()
    assert any("integrity" in complaint for complaint in complaints)
    assert site.posts == []

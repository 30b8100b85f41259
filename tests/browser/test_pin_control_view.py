"""The pincontrol page in a webview, showing a PIN: the image, its text, and their end."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, Route, expect

from cms.faces.cardholder.page.style import ViewStyle
from crypto.pin_image import Colour
from tests.browser.chromium import stop_clock
from tests.browser.control_site import APPS, CONTROL_ID, ControlSite, browse, calls, event
from tests.browser.pin_site import leave_and_return
from tests.deployment import wait_for

SHOWN = event("view_pin_success")
FAILED = event("view_pin_error")
VOICES = """
window.spoken = [];
const voice = (name, lang, localService) => ({ name, lang, localService });
window.voices = [voice("cloud", "en-GB", false), voice("here", "de-DE", true),
                 voice("own", "en_US", true)];
Object.defineProperty(window, "speechSynthesis", { value: Object.assign(new EventTarget(), {
  getVoices: () => window.voices,
  speak: (words) => window.spoken.push([words.text, words.voice.name]),
  cancel: () => window.spoken.push("cancel"),
}) });
window.SpeechSynthesisUtterance = class { constructor(text) { this.text = text; } };
"""


@pytest.fixture
def control(control: ControlSite) -> ControlSite:
    control.purpose = "view"
    return control


def open_page(page: Page, control: ControlSite) -> None:
    page.add_init_script(APPS)
    browse(page, control)
    expect(page.locator("#image-box img")).to_be_visible()


def hidden(page: Page) -> None:
    expect(page.get_by_role("heading", name="Your PIN is hidden again")).to_be_visible()
    assert page.locator("img, #digits").count() == 0


def button(page: Page, name: str) -> None:
    page.get_by_role("button", name=name).click()


def test_the_image_is_shown_and_both_apps_are_told(page: Page, control: ControlSite) -> None:
    def early(route: Route) -> None:
        page.evaluate("set_pin()")
        route.continue_()

    page.route("**/parts.js", early)
    open_page(page, control)
    assert control.sent("view") == [{"controlId": CONTROL_ID, "key": None}]
    image = page.get_by_role("img", name="An image of your PIN")
    size = image.evaluate("(image) => [image.naturalWidth, image.naturalHeight]")
    assert size == [1020, 340]
    assert str(image.get_attribute("src")).startswith("blob:")
    expect(page.get_by_role("heading", name="Your card PIN")).to_be_focused()
    assert page.title() == "Your card PIN"
    assert page.evaluate("typeof window.set_pin()") == "undefined"
    assert calls(page) == SHOWN


def test_where_the_issuer_allows_no_text_none_is_offered(page: Page, control: ControlSite) -> None:
    open_page(page, control)
    assert page.get_by_role("button").all_inner_texts() == ["Hide PIN"]


@pytest.mark.parametrize(
    ("status", "title"),
    [
        (410, "This page is no longer valid"),
        (503, "Your PIN cannot be shown"),
    ],
)
def test_any_answer_but_an_image_is_an_error(
    page: Page, control: ControlSite, status: int, title: str
) -> None:
    control.answers["view"] = [(status, {})]
    control.held = "view"
    control.hold.clear()
    page.add_init_script(APPS)
    browse(page, control)
    page.evaluate("set_pin()")
    control.hold.set()
    expect(page.get_by_role("heading", name=title)).to_be_visible()
    assert "Go back to the app" in page.locator("#notice-text").inner_text()
    assert calls(page) == FAILED


def test_an_image_that_cannot_be_drawn_is_an_error(page: Page, control: ControlSite) -> None:
    page.add_init_script(APPS)
    page.route("**/view", lambda route: route.fulfill(body="no image", content_type="image/png"))
    browse(page, control)
    expect(page.get_by_role("heading", name="Your PIN cannot be shown")).to_be_visible()
    assert calls(page) == FAILED


def test_the_button_hides_the_image_for_good(page: Page, control: ControlSite) -> None:
    open_page(page, control)
    url = page.locator("img").get_attribute("src")
    button(page, "Hide PIN")
    hidden(page)
    revoked = """(url) => new Promise((resolve) => {
        const image = new Image();
        image.onload = () => resolve(false);
        image.onerror = () => resolve(true);
        image.src = url;
    })"""
    assert page.evaluate(revoked, url)
    assert calls(page) == SHOWN


def test_the_image_is_hidden_after_the_set_time(page: Page, control: ControlSite) -> None:
    control.hide_seconds = 12
    stop_clock(page)
    open_page(page, control)
    expect(page.locator("#hides-in")).to_have_text("Seconds until the PIN is hidden: 12")
    page.clock.run_for(10_000)
    expect(page.locator("#hides-in")).to_have_text("Seconds until the PIN is hidden: 2")
    assert page.locator("#status").inner_text() == ""
    page.clock.run_for(2_000)
    hidden(page)


@pytest.mark.parametrize(
    "leave",
    [
        """Object.defineProperty(document, "hidden", { value: true });
           document.dispatchEvent(new Event("visibilitychange"));""",
        "dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }));",
    ],
)
def test_the_image_is_hidden_when_the_page_is(page: Page, control: ControlSite, leave: str) -> None:
    control.has_text = True
    open_page(page, control)
    with page.expect_request("**/cancel"):
        page.evaluate(leave)
    hidden(page)
    wait_for(lambda: bool(control.sent("cancel")))  # the page does not wait for the answer
    assert control.sent("cancel") == [{"session": control.session}]


def test_an_image_that_comes_when_nobody_looks_any_more_is_not_shown(
    page: Page, control: ControlSite
) -> None:
    control.hold.clear()
    control.held = "view"
    page.add_init_script(APPS)
    browse(page, control)
    expect(page.get_by_role("heading", name="One moment…")).to_be_visible()
    page.evaluate(
        """Object.defineProperty(document, "hidden", { value: true });
           document.dispatchEvent(new Event("visibilitychange"));"""
    )
    expect(page.get_by_role("heading", name="Your PIN cannot be shown")).to_be_visible()
    control.hold.set()
    assert calls(page) == FAILED
    assert page.locator("img").count() == 0


def test_where_the_browser_lacks_what_shows_the_image_the_app_is_told(
    page: Page, control: ControlSite
) -> None:
    page.add_init_script(APPS + "delete Element.prototype.append;")
    browse(page, control)
    expect(page.get_by_role("heading", name="Your PIN cannot be shown")).to_be_visible()
    assert calls(page) == FAILED


@pytest.mark.parametrize("blocked", ["*", "show_pin.js"])
def test_where_the_page_cannot_be_had_whole_the_app_is_told(
    new_page: Callable[..., Page], control: ControlSite, blocked: str
) -> None:
    page = new_page(locale="en-GB")
    page.add_init_script(APPS)
    page.route(f"**/pin-assets/*/{blocked}", lambda route: route.abort())
    browse(page, control)
    assert calls(page) == FAILED
    assert control.posts == []


def test_a_page_that_the_browser_kept_is_ended(page: Page, control: ControlSite) -> None:
    open_page(page, control)
    leave_and_return(page)
    expect(page.get_by_role("heading", name="This page was already used")).to_be_visible()
    assert calls(page) == SHOWN


def test_the_digits_are_text_after_a_gesture_and_gone_when_hidden(
    page: Page, control: ControlSite
) -> None:
    control.has_text = True
    control.hide_seconds = 60
    page.add_init_script("""
        const make = crypto.subtle.generateKey.bind(crypto.subtle);
        crypto.subtle.generateKey = async (...given) => window.keys = await make(...given);
    """)
    stop_clock(page)
    open_page(page, control)
    page.clock.run_for(40_000)
    assert control.sent("digits") == []
    button(page, "Show as text")
    expect(page.get_by_role("heading", name="Your PIN as text")).to_be_focused()
    expect(page.locator("#digits")).to_have_text("8 2 5 3")
    # Reading takes time: there is all of it again.
    expect(page.locator("#hides-in")).to_have_text("Seconds until the PIN is hidden: 60")
    (sent,) = control.sent("digits")
    assert (sent["session"], sent["controlToken"]) == (control.session, CONTROL_ID)
    assert sorted(sent["key"]) == ["crv", "kty", "x", "y"]
    assert not page.evaluate("keys.privateKey.extractable")
    expect(page.get_by_role("button", name="Show as text")).to_be_hidden()
    page.clock.run_for(60_000)
    hidden(page)
    assert "8 2 5 3" not in page.content()
    assert control.sent("cancel") == []


def test_the_longest_pin_becomes_text_as_well(page: Page, control: ControlSite) -> None:
    control.has_text, control.pin = True, "825380146729"
    open_page(page, control)
    button(page, "Show as text")
    expect(page.locator("#digits")).to_have_text("8 2 5 3 8 0 1 4 6 7 2 9")


def test_digits_of_another_grant_are_not_shown(page: Page, control: ControlSite) -> None:
    control.has_text, control.digits_for = True, "of another grant"
    open_page(page, control)
    button(page, "Show as text")
    expect(page.locator("#view-hint")).to_contain_text("Your PIN could not be shown as text.")
    expect(page.get_by_role("button", name="Hide PIN")).to_be_focused()
    assert page.locator("#digits").count() == 0


@pytest.mark.parametrize("answer", [(503, {}), (200, {"jwe": "a.b.c.d.e"})])
def test_a_refused_text_leaves_the_image(
    page: Page, control: ControlSite, answer: tuple[int, dict[str, object]]
) -> None:
    control.has_text = True
    control.answers["digits"] = [answer]
    open_page(page, control)
    button(page, "Show as text")
    expect(page.locator("#status")).to_contain_text("Your PIN could not be shown as text.")
    expect(page.locator("img")).to_be_visible()
    assert page.get_by_role("button").all_inner_texts() == ["Hide PIN"]
    assert calls(page) == SHOWN


def test_text_that_comes_when_all_is_hidden_is_dropped(page: Page, control: ControlSite) -> None:
    control.has_text = True
    control.hold.clear()
    control.held = "digits"
    open_page(page, control)
    with page.expect_request("**/digits") as asked:
        button(page, "Show as text")
    button(page, "Hide PIN")
    control.hold.set()
    asked.value.response()
    hidden(page)
    assert page.locator("#digits-box").inner_html() == ""


def test_a_voice_of_the_device_reads_the_digits_on_request(
    page: Page, control: ControlSite
) -> None:
    control.has_text = True
    page.add_init_script(VOICES)
    open_page(page, control)
    expect(page.get_by_role("button", name="Read aloud")).to_be_hidden()
    button(page, "Show as text")
    button(page, "Read aloud")
    assert page.evaluate("spoken") == ["cancel", ["8, 2, 5, 3", "own"]]
    page.get_by_label("Language").select_option("de")
    button(page, "Vorlesen")
    assert page.evaluate("spoken.at(-1)") == ["8, 2, 5, 3", "here"]
    button(page, "PIN verbergen")
    expect(page.get_by_role("heading", name="Ihre PIN ist wieder verborgen")).to_be_visible()
    assert page.evaluate("spoken.at(-1)") == "cancel"


def test_no_remote_voice_is_told_the_digits(page: Page, control: ControlSite) -> None:
    control.has_text = True
    page.add_init_script(VOICES + "window.voices.length = 1;")
    open_page(page, control)
    button(page, "Show as text")
    expect(page.locator("#digits")).to_be_visible()
    expect(page.get_by_role("button", name="Read aloud")).to_be_hidden()
    # Voices are often known late.
    page.evaluate("voices.push({ name: 'late', lang: 'fr-FR', localService: true })")
    page.evaluate("speechSynthesis.dispatchEvent(new Event('voiceschanged'))")
    button(page, "Read aloud")
    assert page.evaluate("spoken.at(-1)") == ["8, 2, 5, 3", "late"]


def test_no_live_region_has_a_digit_of_the_pin(page: Page, control: ControlSite) -> None:
    control.has_text = True
    control.hide_seconds = 30
    page.add_init_script(VOICES)
    stop_clock(page)
    open_page(page, control)
    page.evaluate("""() => {
        window.heard = [];
        new MutationObserver(() => heard.push(document.getElementById("status").textContent))
            .observe(document.getElementById("status"), { childList: true });
    }""")
    button(page, "Show as text")
    button(page, "Read aloud")
    page.clock.run_for(31_000)
    hidden(page)
    assert "".join(page.evaluate("heard")) == ""
    live = page.locator("[aria-live], output, [role=alert], [role=log], [role=timer]")
    assert live.count() == 0


def test_keys_alone_show_and_hide(page: Page, control: ControlSite) -> None:
    control.has_text = True
    page.add_init_script(VOICES)
    open_page(page, control)
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Show as text")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Your PIN as text")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    assert page.evaluate("spoken.length") == 2
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    hidden(page)


def test_the_image_has_the_style_of_the_client(page: Page, control: ControlSite) -> None:
    control.view_style = ViewStyle(
        Colour.parse("#102030"), Colour.parse("#f0f8ff"), Colour.parse("#ff8800"), 600
    )
    page.set_viewport_size({"width": 1024, "height": 768})
    open_page(page, control)
    image = page.locator("img")
    style = image.evaluate("""(image) => {
        const { color, backgroundColor, borderTopColor } = getComputedStyle(image);
        return [color, backgroundColor, borderTopColor];
    }""")
    assert style == ["rgb(16, 32, 48)", "rgb(240, 248, 255)", "rgb(255, 136, 0)"]
    assert image.evaluate("(image) => image.offsetWidth") == 600
    page.set_viewport_size({"width": 320, "height": 568})
    assert image.evaluate("(image) => image.getBoundingClientRect().right <= innerWidth")


def test_without_webcrypto_nothing_is_asked_for_and_the_app_is_told(
    page: Page, control: ControlSite
) -> None:
    page.add_init_script(APPS)
    page.add_init_script("Object.defineProperty(Crypto.prototype, 'subtle', { value: undefined })")
    browse(page, control)
    expect(page.get_by_role("heading", name="This browser cannot protect")).to_be_visible()
    assert calls(page) == FAILED
    assert control.posts == []


def test_without_script_the_page_says_what_to_do(
    new_page: Callable[..., Page], control: ControlSite
) -> None:
    page = new_page(java_script_enabled=False, locale="fr-FR")
    browse(page, control)
    expect(page.get_by_role("heading", name="JavaScript est désactivé")).to_be_visible()
    assert page.locator("img, button:visible").count() == 0

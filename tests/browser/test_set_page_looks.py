"""How the set page looks: every state in three widths, for axe-core and for people's eyes.

The screenshots are in ``var/artefacts/browser``.
"""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, ViewportSize, expect

from cms.faces.cardholder.page.messages import LANGUAGES, MESSAGES
from cms.faces.cardholder.page.style import PageStyle, parse_page
from cms.faces.cardholder.page.variables import set_page_variables
from tests.browser.pin_site import APP, OVER, PINS, PinSite, leave_and_return

ARTEFACTS = Path(__file__).resolve().parents[2] / "var" / "artefacts" / "browser"
VIEWPORTS: list[ViewportSize] = [
    {"width": 320, "height": 568},
    {"width": 480, "height": 854},
    {"width": 1024, "height": 768},
]
# As the contract publishes them.
DARK = {
    "backgroundColor": "#1F2937",
    "textColor": "#F9FAFB",
    "backgroundColorPrimary": "#3B82F6",
    "textColorPrimary": "#FFFFFF",
    "buttonBorderRadius": 12,
    "pinBorderRadius": 8,
    "pinBorderColor": "#60A5FA",
}
LIGHT = {
    "backgroundColor": "#FFFFFF",
    "textColor": "#111827",
    "backgroundColorPrimary": "#10B981",
    "textColorPrimary": "#FFFFFF",
    "buttonBorderRadius": 8,
    "pinBorderRadius": 4,
}
BRAND = {
    "backgroundColor": "#FEF3C7",
    "textColor": "#78350F",
    "backgroundColorPrimary": "#F59E0B",
    "textColorPrimary": "#FFFFFF",
    "buttonBorderRadius": 10,
    "pinBorderRadius": 6,
    "pinBorderColor": "#D97706",
}
HIDING = {
    "backgroundColor": "#FFFFFF",
    "backgroundColorPrimary": "#FFFFFF",
    "textColorPrimary": "#123456",
    "buttonBorderRadius": 64,
    "pinBorderRadius": 64,
}

AXE = Axe()
Scheme = Literal["light", "dark"]
SCHEMES: tuple[Scheme, ...] = ("light", "dark")
#: Of a session that is nearly over.
LEFT_SECONDS = 18
#: How a page ends, or that it has not begun: what has a title and a text.
NOTICES = {
    key.removesuffix("_title")
    for key in MESSAGES["en"]
    if key.endswith("_title") and f"{key.removesuffix('_title')}_text" in MESSAGES["en"]
}


def loading(page: Page, site: PinSite) -> None:
    site.held = "session"
    site.hold.clear()
    page.goto(site.url)
    expect(page.locator("#notice")).to_have_attribute("data-state", "loading")


def entry(page: Page, site: PinSite) -> None:
    page.goto(site.url)
    expect(page.locator("#first-pin")).to_be_visible()


def complete(page: Page, site: PinSite) -> None:
    entry(page, site)
    page.locator("#first-pin").fill("8253")
    page.locator("#second-pin").fill("8253")


def repeated(page: Page, site: PinSite) -> None:
    entry(page, site)
    page.locator("#first-pin").fill("1111")


def run(page: Page, site: PinSite) -> None:
    site.opening["refuseRuns"] = True
    entry(page, site)
    page.locator("#first-pin").fill("4321")


def long_pin(page: Page, site: PinSite) -> None:
    site.opening |= {"digitsMin": 5, "digitsMax": 12}
    entry(page, site)
    page.locator("#first-pin").fill("825394061")
    page.locator("#second-pin").press_sequentially("825394")


def weak(page: Page, site: PinSite) -> None:
    site.answers["submit"] = [(422, {"reason": "weak"})]
    complete(page, site)
    page.locator("#confirm").click()
    expect(page.locator("#first-hint")).to_contain_text("too easy to guess")


def cleared(page: Page, site: PinSite) -> None:
    complete(page, site)
    page.evaluate("""() => {
        Object.defineProperty(document, "hidden", { value: true });
        document.dispatchEvent(new Event("visibilitychange"));
    }""")
    expect(page.locator("#first-hint")).to_contain_text("your entry was cleared")


def mismatch(page: Page, site: PinSite) -> None:
    entry(page, site)
    page.locator("#first-pin").fill("8253")
    page.locator("#second-pin").fill("8259")


def warning(page: Page, site: PinSite) -> None:
    # The date moves as said here only, so that no session is over before it was looked at.
    begun = datetime.now(UTC)
    page.clock.set_fixed_time(begun)
    complete(page, site)
    page.clock.set_fixed_time(begun + timedelta(seconds=600 - LEFT_SECONDS))
    expect(page.locator("#warning")).to_be_visible()


def extend_failed(page: Page, site: PinSite) -> None:
    site.answers["extend"] = [(503, {})]
    warning(page, site)
    page.locator("#extend").click()
    expect(page.locator("#warning")).to_contain_text("could not be given more time")


def last_warning(page: Page, site: PinSite) -> None:
    site.answers["extend"] = [(200, {"expiresInSeconds": LEFT_SECONDS})]
    warning(page, site)
    page.locator("#extend").click()
    expect(page.locator("#warning")).to_contain_text("cannot be extended again")


def saving(page: Page, site: PinSite) -> None:
    site.hold.clear()
    complete(page, site)
    page.locator("#confirm").click()
    expect(page.locator("#confirm")).to_be_disabled()


def answered(status: int, verb: str = "submit", **members: str) -> Callable[[Page, PinSite], None]:
    def reach(page: Page, site: PinSite) -> None:
        site.answers[verb] = [(status, members)]
        if verb == "session":
            page.goto(site.url)
        else:
            complete(page, site)
            page.locator("#confirm").click()
        expect(page.locator("#notice-title")).to_be_visible()
        expect(page.locator("#notice")).not_to_have_attribute("data-state", "loading")

    return reach


def done_with_app(page: Page, site: PinSite) -> None:
    site.opening["redirectUrl"] = site.origin(APP)
    # Where it leads to there is nothing: the page stays.
    page.route(f"{site.origin(APP)}/", lambda route: route.fulfill(status=204))
    answered(204)(page, site)


def cancelled(page: Page, site: PinSite) -> None:
    entry(page, site)
    page.locator("#cancel").click()
    expect(page.locator("#notice-title")).to_be_visible()


def expired(page: Page, site: PinSite) -> None:
    page.clock.install()  # and not stopped: axe needs it
    entry(page, site)
    page.clock.fast_forward(601_000)
    expect(page.locator("#notice-title")).to_be_visible()


def insecure(page: Page, site: PinSite) -> None:
    page.add_init_script("Object.defineProperty(Crypto.prototype, 'subtle', { value: undefined })")
    page.goto(site.url)
    expect(page.locator("#notice-title")).to_be_visible()


def used(page: Page, site: PinSite) -> None:
    entry(page, site)
    leave_and_return(page)
    expect(page.locator("#notice")).to_have_attribute("data-state", "used")


def failed_page(state: str) -> Callable[[Page, PinSite], None]:
    def reach(page: Page, site: PinSite) -> None:
        site.failed = state
        page.goto(site.url)

    return reach


def noscript(page: Page, site: PinSite) -> None:
    browser = page.context.new_cdp_session(page)
    browser.send("Emulation.setScriptExecutionDisabled", {"value": True})
    page.goto(site.url)
    expect(page.get_by_role("heading", name="JavaScript is turned off")).to_be_visible()
    expect(page.locator("#stuck")).to_be_hidden()


def stuck(page: Page, site: PinSite) -> None:
    page.route("**/parts.js", lambda route: route.abort())
    page.goto(site.url)
    # The page waits for some seconds before it says so.
    page.evaluate("document.getAnimations().forEach((one) => one.finish())")
    expect(page.locator("#stuck")).to_be_visible()


def ended_page(page: Page, site: PinSite) -> None:
    page.goto(f"{site.origin(PINS)}/pin-direct/set")


def ended_page_of_client(page: Page, site: PinSite) -> None:
    page.goto(f"{site.origin(PINS)}/pin-direct/set?token={OVER}")
    expect(page.locator("#whose")).to_have_text("Demo Bank")


STATES = {
    "loading": loading,
    "entry": entry,
    "complete": complete,
    "repeated": repeated,
    "run": run,
    "long-pin": long_pin,
    "mismatch": mismatch,
    "weak": weak,
    "cleared": cleared,
    "warning": warning,
    "extend-failed": extend_failed,
    "last-warning": last_warning,
    "saving": saving,
    "done": answered(204),
    "done-with-app": done_with_app,
    "failed": answered(503),
    "blocked": answered(403),
    "changed": answered(410, reason="changed"),
    "used": used,
    "ended": answered(410, "session"),
    "away": answered(503, "session"),
    "limited": answered(429, "session"),
    "cancelled": cancelled,
    "expired": expired,
    "insecure": insecure,
    "away-page": failed_page("away"),
    "limited-page": failed_page("limited"),
    "ended-page": ended_page,
    "ended-page-of-client": ended_page_of_client,
}
#: Without its script a page is two sentences, and axe-core cannot run.
SCRIPTLESS_STATES = {"noscript": noscript, "stuck": stuck}


def findings(page: Page) -> set[str]:
    """Return the rules of axe-core that the page breaks."""
    return {violation["id"] for violation in AXE.run(page).response["violations"]}


def dress(page: Page, members: dict[str, object]) -> None:
    """Give a page the colours of a client, whatever state it is in."""
    style = parse_page(members)
    assert isinstance(style, PageStyle)
    page.evaluate(
        """(variables) => {
            for (const [name, value] of variables) {
                document.documentElement.style.setProperty(`--${name}`, value);
            }
        }""",
        list(set_page_variables(style).items()),
    )


def shoot(page: Page, name: str) -> None:
    ARTEFACTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=ARTEFACTS / f"{name}.png", full_page=True)


def too_wide(page: Page) -> bool:
    return page.evaluate("document.documentElement.scrollWidth > innerWidth")  # type: ignore[no-any-return]


def assert_named(page: Page, state: str) -> None:
    """Find that a state named as a notice is that notice."""
    if state in NOTICES:
        expect(page.locator(f".notice[data-state='{state}']")).to_be_visible()


def assert_fits(page: Page, name: str, viewports: Iterable[ViewportSize]) -> None:
    """Find that the page fits each width, and take a picture."""
    for viewport in viewports:
        page.set_viewport_size(viewport)
        assert not too_wide(page)
        shoot(page, f"{name}-{viewport['width']}")


def assert_dark_is_as_good(page: Page, viewports: Iterable[ViewportSize]) -> None:
    """Find that on a dark screen the page fits each width too, and can be read."""
    page.emulate_media(color_scheme="dark")
    for viewport in viewports:
        page.set_viewport_size(viewport)
        assert not too_wide(page)
    # Colours are all that is different.
    only_contrast = {"runOnly": ["color-contrast"]}
    assert AXE.run(page, options=only_contrast).response["violations"] == []
    page.emulate_media(color_scheme="light")


@pytest.mark.parametrize("state", STATES)
def test_every_state_fits_three_widths_and_axe_finds_nothing_light_or_dark(
    page: Page, site: PinSite, state: str
) -> None:
    STATES[state](page, site)
    assert_named(page, state)
    assert_fits(page, state, VIEWPORTS)
    assert findings(page) == set()
    assert_dark_is_as_good(page, VIEWPORTS)
    dress(page, BRAND)
    shoot(page, f"{state}-brand")
    assert findings(page) <= {"color-contrast"}


@pytest.mark.parametrize("state", SCRIPTLESS_STATES)
def test_a_page_whose_script_does_not_run_says_what_to_do_and_fits(
    page: Page, site: PinSite, state: str
) -> None:
    SCRIPTLESS_STATES[state](page, site)
    assert_named(page, state)
    assert_fits(page, state, VIEWPORTS)


@pytest.mark.parametrize(
    ("name", "members"), [("dark", DARK), ("light", LIGHT), ("brand", BRAND), ("hiding", HIDING)]
)
def test_in_a_clients_colours_axe_finds_nothing_but_their_contrast(
    page: Page, site: PinSite, name: str, members: dict[str, object]
) -> None:
    style = parse_page(members)
    assert isinstance(style, PageStyle)
    site.style = style
    page.set_viewport_size(VIEWPORTS[1])
    mismatch(page, site)
    shoot(page, f"theme-{name}")
    assert findings(page) <= {"color-contrast"}


def colours(page: Page) -> dict[str, str]:
    """Return the colours of what is seen, by property and element."""
    found: dict[str, str] = page.evaluate("""() => Object.fromEntries(
        ["html", "main", "h1", ".slots span", "#confirm", "#cancel"].flatMap((name) => {
            const style = getComputedStyle(document.querySelector(name));
            return ["color", "backgroundColor", "borderTopColor", "colorScheme"]
                .map((property) => [`${property} of ${name}`, style[property]]);
        })
    )""")
    return found


def test_a_dark_screen_changes_our_colours_and_none_of_a_client(page: Page, site: PinSite) -> None:
    def in_both_schemes() -> list[dict[str, str]]:
        entry(page, site)
        found = []
        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme)
            found.append(colours(page))
        return found

    ours_light, ours_dark = in_both_schemes()
    assert ours_light != ours_dark
    assert ours_dark["backgroundColor of html"] == "rgb(16, 18, 20)"
    style = parse_page(LIGHT)
    assert isinstance(style, PageStyle)
    site.style = style
    theirs_light, theirs_dark = in_both_schemes()
    assert theirs_light == theirs_dark
    assert theirs_dark["backgroundColor of main"] == "rgb(255, 255, 255)"
    assert theirs_dark["backgroundColor of #confirm"] == "rgb(16, 185, 129)"


MOVING = """() => document.getAnimations().filter((one) => one.playState === "running").length"""


@pytest.mark.parametrize("state", ["loading", "entry", "mismatch", "saving", "done"])
def test_nothing_moves_for_whoever_wants_less_motion(page: Page, site: PinSite, state: str) -> None:
    page.emulate_media(reduced_motion="reduce")
    STATES[state](page, site)
    assert page.evaluate(MOVING) == 0


@pytest.mark.parametrize("state", ["loading", "entry"])
def test_for_others_a_caret_blinks_and_dots_breathe(page: Page, site: PinSite, state: str) -> None:
    STATES[state](page, site)
    page.wait_for_function(f"({MOVING})() > 0")


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_fits_a_narrow_screen(
    new_page: Callable[..., Page], site: PinSite, language: str
) -> None:
    page = new_page(locale=language, viewport=VIEWPORTS[0])
    mismatch(page, site)
    assert page.locator("html").get_attribute("lang") == language
    assert not too_wide(page)
    shoot(page, f"language-{language}")


def test_enlarged_four_times_nothing_is_cut_off(
    new_page: Callable[..., Page], site: PinSite
) -> None:
    # 400 % of a screen of 1280 x 1024: 320 x 256 CSS pixels.
    page = new_page(locale="de", viewport={"width": 320, "height": 256}, device_scale_factor=4)
    warning(page, site)
    assert not too_wide(page)
    shoot(page, "zoom-400")


def test_axe_finds_nothing_from_right_to_left(new_page: Callable[..., Page], site: PinSite) -> None:
    page = new_page(locale="ar", viewport=VIEWPORTS[1])
    mismatch(page, site)
    assert findings(page) == set()


def test_large_text_wraps(page: Page, site: PinSite) -> None:
    page.set_viewport_size(VIEWPORTS[0])
    page.add_init_script(
        "addEventListener('load', () => document.documentElement.style.fontSize = '200%')"
    )
    mismatch(page, site)
    assert not too_wide(page)
    shoot(page, "text-200")


def test_in_forced_colours_every_box_has_an_edge(
    new_page: Callable[..., Page], site: PinSite
) -> None:
    page = new_page(locale="en-GB", viewport=VIEWPORTS[1], forced_colors="active")
    mismatch(page, site)
    edges = page.locator("#entry :is(.slots span, button:visible)").evaluate_all(
        "(boxes) => boxes.map((box) => getComputedStyle(box).borderTopStyle)"
    )
    assert edges == ["solid"] * 4 + ["dashed"] * 4 + ["solid"] * 2
    shoot(page, "forced-colors")

"""The guide for those who embed the pages: what of it can run here runs as it is written."""

import re
from typing import Final

import pytest
from playwright.sync_api import Page, expect

from tests.browser.control_site import CONTROL_ID, FRAME_KEY, ControlSite, browse
from tests.browser.pin_site import APP
from tests.deployment import ROOT

GUIDE: Final = (ROOT / "docs" / "embedding.md").read_text()
EVENTS: Final = {
    *("view_pin_success", "view_pin_error", "set_pin_success", "set_pin_error"),
    *("set_pin_validation_error", "pin_valid"),
}
"""As the published contract names them."""
CODE: Final = {
    language: re.findall(rf"^```{language}\n(.*?)^```", GUIDE, re.DOTALL | re.MULTILINE)
    for language in ("swift", "kotlin", "jsx", "js")
}
PIN: Final = "8253"


def fill(where: Page, frame: int) -> None:
    for field in ("#first-pin", "#second-pin"):
        where.frames[frame].locator(field).fill(PIN)


@pytest.mark.parametrize("language", ["kotlin", "jsx"])
def test_every_call_of_the_page_has_its_handler(language: str) -> None:
    handlers = r"fun (\w+_pin_\w+|pin_valid)\(" if language == "kotlin" else r'"(\w*pin_\w+)"'
    assert {*re.findall(handlers, CODE[language][0])} == EVENTS


def test_the_guide_explains_the_calls_of_the_contract_and_no_other() -> None:
    assert {*re.findall(r"^\| `(\w+)\(", GUIDE, re.MULTILINE)} == EVENTS
    for code in CODE["swift"]:
        assert {*re.findall(r"\b\w*pin_\w+\b", code)} <= EVENTS | {"set_pin"}


def test_what_react_native_puts_into_the_page_hears_it(page: Page, control: ControlSite) -> None:
    (forward,) = re.findall(r"FORWARD = `(.*?)`", CODE["jsx"][0], re.DOTALL)
    page.add_init_script(
        "window.heard = [];"
        "window.ReactNativeWebView = { postMessage: (text) => heard.push(JSON.parse(text)) };"
    )
    page.add_init_script(forward)
    browse(page, control)
    expect(page.locator("#first-pin")).to_be_visible()
    page.evaluate(forward)
    fill(page, 0)
    page.evaluate("set_pin(); true;")
    expect(page.get_by_role("heading", name="Your new PIN is set")).to_be_visible()
    assert page.evaluate("heard") == [
        *({"event": "pin_valid", "pin_valid": usable} for usable in (False, True)),
        {"event": "set_pin_success"},
    ]
    assert control.submitted().pin == PIN


def test_the_function_for_the_web_sets_and_shows_a_pin(page: Page, control: ControlSite) -> None:
    (function,) = CODE["js"]
    control.embed_origins = [control.origin(APP)]
    page.goto(control.origin(APP))
    page.evaluate(
        f"""([id, key, address]) => {{
            {function}
            window.heard = [];
            window.open_pin = (operation) => {{
              window.pin = openPin(document.body, {{ id, pinFrameURL: address }}, key, operation,
                (event, valid) => heard.push(valid === undefined ? event : [event, valid]));
            }};
        }}""",
        [CONTROL_ID, FRAME_KEY, control.frame_url.partition("?")[0]],
    )
    page.evaluate("open_pin('set-pin')")
    frame = page.frame_locator("iframe")
    expect(frame.locator("#first-pin")).to_be_visible()
    fill(page, 1)
    page.evaluate("pin.submit()")
    expect(frame.get_by_role("heading", name="Your new PIN is set")).to_be_visible()
    assert page.evaluate("heard") == [
        ["pin_valid", False],
        ["pin_valid", True],
        "set_pin_success",
    ]
    page.evaluate("pin.close(); heard.length = 0; open_pin('view-pin')")
    expect(frame.locator("#image-box img")).to_be_visible()
    page.evaluate("postMessage({ event: 'view_pin_error' }, '*')")
    # By then the forged message has come too.
    page.frames[1].evaluate("parent.postMessage({ event: 'last' }, '*')")
    page.wait_for_function("heard.includes('last')")
    assert page.evaluate("heard") == ["view_pin_success", "last"]

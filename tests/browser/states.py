"""Every state of the pages by its name, and how a browser gets there."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

from playwright.sync_api import Browser, Page

from tests.browser import test_pin_control_looks as control_looks
from tests.browser import test_set_page_looks as set_looks
from tests.browser.chromium import new_context
from tests.browser.control_site import ControlSite
from tests.browser.pin_site import PinSite

#: What a state of the pincontrol page is called: that state behind this.
APP: Final = "app: "
HIDE_SECONDS: Final = 30
_SET_STATES: Final = set_looks.STATES | set_looks.SCRIPTLESS_STATES
STATES: Final = [*_SET_STATES, *(f"{APP}{name}" for name in control_looks.STATES)]


@contextmanager
def reached(
    browser: Browser,
    sites: list[PinSite],
    state: str,
    **options: Any,  # noqa: ANN401 - Playwright's
) -> Iterator[Page]:
    """Have a page in a state, with Playwright's options for contexts."""
    context = new_context(browser, locale="en-GB", **options)
    page = context.new_page()
    try:
        _reach(page, sites, state)
        # Chromium drops what it loads when an address of the machine changes.
        assert page.evaluate("getComputedStyle(document.body).margin") == "0px", "no stylesheet"
        yield page
    finally:
        sites[-1].hold.set()
        context.close()


def _reach(page: Page, sites: list[PinSite], state: str) -> None:
    port = sites[0].port
    if state in _SET_STATES:
        site = PinSite(port)
        sites[:] = [site]
        _SET_STATES[state](page, site)
        return
    control = ControlSite(port, hide_seconds=HIDE_SECONDS)
    sites[:] = [control]
    # The date stands still, and so does what is left of the seconds.
    page.clock.set_fixed_time(datetime.now(UTC))
    control_looks.STATES[state.removeprefix(APP)](page, control)

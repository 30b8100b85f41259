"""Chromium, which is waited for as long as it takes, and a clock that a test moves.

It is Debian's; where there is none, Playwright's own.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Browser, BrowserContext, Page, Playwright, expect

from cms.sandbox import HANG_SECONDS

HANG_MS: Final = HANG_SECONDS * 1000
DEBIANS: Final = Path("/usr/bin/chromium")
"""Not whichever is on the path: a snap reads no file of ours."""
expect.set_options(timeout=HANG_MS)


def launch(playwright: Playwright, *arguments: str) -> Browser:
    """Start a browser; its contexts are made by :func:`new_context`."""
    return playwright.chromium.launch(**_options(*arguments))


def new_context(browser: Browser, **options: Any) -> BrowserContext:  # noqa: ANN401 - Playwright's
    """Make a context, with Playwright's options for one."""
    return _patient(browser.new_context(**options))


def open_profile(playwright: Playwright, profile: Path, *arguments: str) -> BrowserContext:
    """Start a browser that keeps its files in *profile*."""
    options = _options(*arguments)
    return _patient(
        playwright.chromium.launch_persistent_context(profile, **options, locale="en-GB")
    )


def stop_clock(page: Page) -> None:
    """Have time pass in the page only as the test says: how long loading takes is no matter.

    It is the time that the page had: a session that it has begun is not over by that.
    """
    start = datetime.now(UTC)
    page.clock.install(time=start)
    page.clock.pause_at(start + timedelta(seconds=1))


def _options(*arguments: str) -> dict[str, Any]:
    return {
        "executable_path": DEBIANS if DEBIANS.exists() else None,
        "args": ["--no-sandbox", "--disable-gpu", "--disable-background-networking", *arguments],
        # Playwright turns the cache of left pages off; people's browsers have it on.
        "ignore_default_args": ["--disable-back-forward-cache"],
        "timeout": HANG_MS,
    }


def _patient(context: BrowserContext) -> BrowserContext:
    context.set_default_timeout(HANG_MS)
    return context

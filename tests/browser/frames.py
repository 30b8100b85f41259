"""Frames that an app, or somebody else, adds to a page."""

from typing import Final

from playwright.sync_api import Frame, FrameLocator, Page

SETTLE_MS: Final = 50


def embed(parent: Page | Frame, url: str, sandbox: str | None = None) -> FrameLocator:
    """Append a frame to what is open."""
    parent.evaluate(
        """([url, sandbox]) => {
            const frame = document.createElement("iframe");
            if (sandbox !== null) frame.sandbox = sandbox;
            frame.src = url;
            document.body.append(frame);
        }""",
        [url, sandbox],
    )
    return parent.frame_locator("iframe").last


def received(page: Page) -> list[dict[str, object]]:
    """Return what the parent heard until now, the frame's last words excepted.

    A word that we have the frame say can overtake the answer to a message that it has yet to read.
    So it is said until nothing but such words came since the one before.
    """
    heard, before = _heard_with_last_word(page), -1
    while len(heard) != before:
        before = len(heard)
        page.wait_for_timeout(SETTLE_MS)
        heard = _heard_with_last_word(page)
    return heard


def _heard_with_last_word(page: Page) -> list[dict[str, object]]:
    said = "received.filter((one) => one.data === 'that was all').length"
    count = page.evaluate(said)
    page.frames[1].evaluate("parent.postMessage('that was all', '*')")
    page.wait_for_function(f"{said} > {count}")
    return page.evaluate(  # type: ignore[no-any-return]
        "received.filter((one) => one.data !== 'that was all')"
    )

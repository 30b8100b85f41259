"""Frames that an app, or somebody else, adds to a page."""

from playwright.sync_api import Frame, FrameLocator, Page


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
    """Return what the parent heard until now, its own last word excepted."""
    page.frames[1].evaluate("parent.postMessage('that was all', '*')")
    page.wait_for_function("received.at(-1)?.data === 'that was all'")
    return page.evaluate("received.slice(0, -1)")  # type: ignore[no-any-return]

"""Pictures of the pages for ``docs/pages``: every state, a sheet for each width and brightness.

``python -m tests.browser.gallery`` draws them anew.
"""

import base64
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator
from functools import partial
from html import escape
from math import ceil
from pathlib import Path
from typing import Final, TypeVar

from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

from tests.browser import test_pin_control_looks as control_looks
from tests.browser import test_set_page_looks as set_looks
from tests.browser.chromium import launch, new_context
from tests.browser.control_site import ControlSite
from tests.browser.pin_site import PinSite, serving

DOCS: Final = Path(__file__).resolve().parents[2] / "docs" / "pages"
#: By the width of a screen: its height, how wide a picture is, and how many stand in a row.
SHEETS: Final = {320: (600, 170, 8), 768: (800, 230, 6), 1440: (900, 330, 4)}
GAP: Final = 10
LINE: Final = 20
#: As long as no state takes to be drawn.
HIDE_SECONDS: Final = 60
SCHEMES: Final = ("light", "dark")

S = TypeVar("S", bound=PinSite)
Pictures = dict[tuple[int, str], list[tuple[str, bytes]]]


def draw(
    browser: Browser, sites: list[PinSite], directory: Path, names: Collection[str] = ()
) -> list[Path]:
    """Write the sheets, as ``320-light.png``, into *directory*: of all states, or those named."""
    pictures: Pictures = {(width, scheme): [] for width in SHEETS for scheme in SCHEMES}
    for name, reach in _states(sites):
        if names and name not in names:
            continue
        context = new_context(browser, locale="en-GB")
        page = context.new_page()
        reach(page)
        for (width, scheme), taken in pictures.items():
            page.set_viewport_size({"width": width, "height": SHEETS[width][0]})
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
            taken.append((name, page.screenshot()))
        sites[-1].hold.set()
        context.close()
    directory.mkdir(parents=True, exist_ok=True)
    return [_sheet(browser, directory, *key, taken) for key, taken in pictures.items()]


def states() -> list[str]:
    """Return the names of all states."""
    return [*set_looks.STATES, *(f"app: {name}" for name in control_looks.STATES)]


def size(width: int, count: int) -> tuple[int, int]:
    """Return how large a sheet of so many states is, for a width."""
    height, shown, columns = SHEETS[width]
    rows = ceil(count / columns)
    return columns * (shown + GAP) + GAP, rows * (round(shown * height / width) + LINE + GAP) + GAP


def _states(sites: list[PinSite]) -> Iterator[tuple[str, Callable[[Page], None]]]:
    for name, reach in set_looks.STATES.items():
        site = PinSite(sites[0].port)
        sites[:] = [site]
        yield name, partial(_reach, reach, site)
    for name, reach_control in control_looks.STATES.items():
        control = ControlSite(sites[0].port, hide_seconds=HIDE_SECONDS)
        sites[:] = [control]
        yield f"app: {name}", partial(_reach, reach_control, control)


def _reach(reach: Callable[[Page, S], None], site: S, page: Page) -> None:
    reach(page, site)


def _sheet(
    browser: Browser, directory: Path, width: int, scheme: str, taken: list[tuple[str, bytes]]
) -> Path:
    height, shown, columns = SHEETS[width]
    cells = "".join(
        f"<figure><img src='data:image/png;base64,{base64.b64encode(png).decode()}'>"
        f"<figcaption>{escape(name)}</figcaption></figure>"
        for name, png in taken
    )
    style = (
        f"body{{display:grid;grid-template-columns:repeat({columns},{shown}px);"
        f"gap:{GAP}px;margin:{GAP}px;"
        "background:#7c8794}figure{margin:0}"
        f"figcaption{{font:13px/{LINE}px sans-serif;color:#fff}}"
        f"img{{display:block;width:{shown}px;height:{round(shown * height / width)}px}}"
    )
    viewport: ViewportSize = {"width": size(width, len(taken))[0], "height": 100}
    context = new_context(browser, viewport=viewport)
    page = context.new_page()
    page.set_content(f"<!DOCTYPE html><style>{style}</style>{cells}")
    path = directory / f"{width}-{scheme}.png"
    page.screenshot(path=path, full_page=True)
    context.close()
    return path


def main() -> int:
    """Draw the sheets of the documentation."""
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as directory:
        browser = launch(
            playwright, "--host-resolver-rules=MAP *.test 127.0.0.1", "--ignore-certificate-errors"
        )
        with serving(Path(directory)) as sites:
            for path in draw(browser, sites, DOCS):
                sys.stdout.write(f"{path}\n")
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())

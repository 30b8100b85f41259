"""Pictures of the pages for ``docs/pages``: every state, a sheet for each width and brightness.

``python -m tests.browser.gallery`` draws them anew.
"""

import base64
import hashlib
import sys
import tempfile
from collections.abc import Collection
from html import escape
from pathlib import Path
from typing import Final

from playwright.sync_api import Browser, FloatRect, Page, ViewportSize, sync_playwright

from tests.browser.chromium import launch, new_context
from tests.browser.hero import draw_hero
from tests.browser.palette import with_palette
from tests.browser.pin_site import PinSite, serving
from tests.browser.states import STATES, reached
from tests.browser.test_set_page_looks import SCHEMES, Scheme

ROOT: Final = Path(__file__).resolve().parents[2]
DOCS: Final = ROOT / "docs" / "pages"
PAGE: Final = ROOT / "cms" / "faces" / "cardholder" / "page"
#: What the pictures show, and what they were drawn from.
DRAWN_FROM: Final = "drawn-from.txt"
#: By the width of a screen: its height, and how many pictures stand in a row. A page of 500 px is
#: a frame as the hosted face's contract has it.
SHEETS: Final = {320: (600, 5), 768: (500, 4), 1440: (900, 4)}
AIR: Final = 24

Pictures = dict[tuple[int, Scheme], list[tuple[str, bytes]]]


def draw(
    browser: Browser, sites: list[PinSite], directory: Path, states: Collection[str] = STATES
) -> list[Path]:
    """Write the sheets, as ``320-light.png``, into *directory*."""
    pictures: Pictures = {(width, scheme): [] for width in SHEETS for scheme in SCHEMES}
    for state in states:
        with reached(browser, sites, state) as page:
            for (width, scheme), taken in pictures.items():
                page.set_viewport_size({"width": width, "height": SHEETS[width][0]})
                page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
                taken.append((state, page.screenshot(full_page=True, clip=_card(page))))
    directory.mkdir(parents=True, exist_ok=True)
    return [_sheet(browser, directory, *key, taken) for key, taken in pictures.items()]


def drawn_from() -> str:
    """Return the states and, as ``sha256sum`` writes them, the files that pictures depend on."""
    files = [PAGE / name for name in ("templates.py", "render.py", "variables.py")]
    files += [PAGE / "messages" / "en.json", *sorted((PAGE / "assets").iterdir())]
    sums = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files]
    return "".join([*(f"{state}\n" for state in STATES), "\n", *sums])


def _card(page: Page) -> FloatRect:
    """Return where the page's own box is, its language below it, and some air around both.

    At the end of a page, what sticks to the lower edge of a screen is where it belongs.
    """
    return page.evaluate(  # type: ignore[no-any-return]
        """(air) => {
            scrollTo(0, document.documentElement.scrollHeight);
            const boxes = [...document.querySelectorAll("main, #language-bar:not([hidden])")]
                .map((element) => element.getBoundingClientRect());
            const left = Math.max(0, boxes[0].left - air);
            const top = Math.max(0, boxes[0].top + scrollY - air);
            return {
                x: left,
                y: top,
                width: Math.min(innerWidth, boxes[0].right + air) - left,
                height: Math.max(...boxes.map(({ bottom }) => bottom)) + scrollY + air - top,
            };
        }""",
        AIR,
    )


def _sheet(
    browser: Browser, directory: Path, width: int, scheme: str, taken: list[tuple[str, bytes]]
) -> Path:
    columns = SHEETS[width][1]
    cells = "".join(
        f"<figure><img src='data:image/png;base64,{base64.b64encode(png).decode()}'>"
        f"<figcaption>{escape(state.replace('-', ' '))}</figcaption></figure>"
        for state, png in taken
    )
    style = (
        f"main{{display:inline-grid;grid-template-columns:repeat({columns},max-content);"
        "gap:16px;padding:16px;background:#7c8794}body{margin:0}figure{margin:0}img{display:block}"
        "figcaption{font:16px/28px sans-serif;color:#fff}"
    )
    viewport: ViewportSize = {"width": 2400, "height": 100}
    context = new_context(browser, viewport=viewport)
    page = context.new_page()
    page.set_content(f"<!DOCTYPE html><style>{style}</style><main>{cells}</main>")
    path = directory / f"{width}-{scheme}.png"
    path.write_bytes(with_palette(page, page.locator("main").screenshot()))
    context.close()
    return path


def main() -> int:
    """Draw the pictures of the documentation."""
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as directory:
        browser = launch(
            playwright, "--host-resolver-rules=MAP *.test 127.0.0.1", "--ignore-certificate-errors"
        )
        with serving(Path(directory)) as sites:
            for path in [*draw(browser, sites, DOCS), draw_hero(browser, sites, DOCS)]:
                sys.stdout.write(f"{path}\n")
        browser.close()
    (DOCS / DRAWN_FROM).write_text(drawn_from(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The pictures of the pages in the documentation: every state is in them, as it looks now."""

from pathlib import Path

from playwright.sync_api import Browser

from tests.browser.gallery import DOCS, DRAWN_FROM, ROOT, SHEETS, draw, drawn_from
from tests.browser.hero import NAME, draw_hero
from tests.browser.pin_site import PinSite
from tests.browser.states import APP, STATES
from tests.browser.test_set_page_looks import NOTICES, SCHEMES

PICTURE_BYTES_MAX = 600_000
SHEET_NAMES = {f"{width}-{scheme}.png" for width in SHEETS for scheme in SCHEMES}


def size(png: Path) -> tuple[int, int]:
    """Return width and height, as the header of a PNG has them."""
    header = png.read_bytes()[16:24]
    return int.from_bytes(header[:4], "big"), int.from_bytes(header[4:], "big")


def test_every_notice_that_has_words_is_a_state_of_the_pictures() -> None:
    assert {state.removeprefix(APP) for state in STATES} >= NOTICES


def test_the_pictures_in_the_documentation_were_drawn_from_the_pages_of_today() -> None:
    kept = (DOCS / DRAWN_FROM).read_text(encoding="utf-8")
    assert kept == drawn_from(), "run python -m tests.browser.gallery to draw them anew"
    pictures = {path.name: path.stat().st_size for path in DOCS.glob("*.png")}
    assert pictures.keys() == {*SHEET_NAMES, NAME}
    assert max(pictures.values()) < PICTURE_BYTES_MAX


def test_readers_see_the_first_picture_where_they_begin() -> None:
    assert f"(docs/pages/{NAME})" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"(pages/{NAME})" in (ROOT / "docs" / "index.md").read_text(encoding="utf-8")


def test_a_sheet_has_a_picture_of_each_state(
    chromium: Browser, sites: list[PinSite], tmp_path: Path
) -> None:
    # The tests of how pages look reach each state; here, one of either kind does.
    drawn = draw(chromium, sites, tmp_path, ["ended-page", "app: view"])
    assert {path.name for path in drawn} == SHEET_NAMES
    assert all(size(path)[0] >= 2 * min(SHEETS) for path in drawn)


def test_the_first_picture_is_drawn(
    chromium: Browser, sites: list[PinSite], tmp_path: Path
) -> None:
    assert size(draw_hero(chromium, sites, tmp_path)) == size(DOCS / NAME)

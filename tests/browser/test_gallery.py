"""The pictures of the pages in the documentation: every state is in them, and they are small."""

from pathlib import Path

from playwright.sync_api import Browser

from tests.browser.gallery import DOCS, SCHEMES, SHEETS, draw, size, states
from tests.browser.pin_site import PinSite

BYTES_MAX = 1_500_000


def shown(png: Path) -> tuple[int, int]:
    """Return width and height, as the header of a PNG has them."""
    header = png.read_bytes()[16:24]
    return int.from_bytes(header[:4], "big"), int.from_bytes(header[4:], "big")


def sizes(count: int) -> dict[str, tuple[int, int]]:
    return {f"{width}-{scheme}.png": size(width, count) for width in SHEETS for scheme in SCHEMES}


def test_the_pictures_in_the_documentation_show_every_state() -> None:
    kept = {path.name: shown(path) for path in DOCS.glob("*.png")}
    # Letters differ from machine to machine. A row of states more or less is another size.
    assert kept == sizes(len(states()))
    assert sum(path.stat().st_size for path in DOCS.glob("*.png")) < BYTES_MAX


def test_a_sheet_has_a_picture_of_each_state(
    chromium: Browser, sites: list[PinSite], tmp_path: Path
) -> None:
    # The tests of how pages look reach each state; here, some of both kinds do.
    names = ("entry", "ended-page", "ended-page-of-client", "app: view", "app: waiting")
    assert {*names} < {*states()}
    drawn = draw(chromium, sites, tmp_path, names)
    assert {path.name: shown(path) for path in drawn} == sizes(len(names))

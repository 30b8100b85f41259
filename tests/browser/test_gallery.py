"""The pictures of the pages in the documentation: every state is in them, and they are small."""

from pathlib import Path

from playwright.sync_api import Browser

from tests.browser.gallery import DOCS, draw
from tests.browser.pin_site import PinSite

BYTES_MAX = 1_500_000


def size(png: Path) -> bytes:
    """Return width and height, as the header of a PNG has them."""
    return png.read_bytes()[16:24]


def test_the_pictures_in_the_documentation_show_every_state(
    chromium: Browser, sites: list[PinSite], tmp_path: Path
) -> None:
    drawn = draw(chromium, sites, tmp_path)
    kept = sorted(DOCS.glob("*.png"))
    assert [path.name for path in kept] == sorted(path.name for path in drawn)
    # Letters differ from machine to machine. A state more or less is another size.
    assert [size(path) for path in kept] == [size(tmp_path / path.name) for path in kept]
    assert sum(path.stat().st_size for path in kept) < BYTES_MAX

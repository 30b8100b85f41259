"""The picture of the pages that readers see first: phone and desktop, light and dark."""

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from playwright.sync_api import Browser

from tests.browser.chromium import new_context
from tests.browser.palette import with_palette
from tests.browser.pin_site import PinSite
from tests.browser.states import reached

NAME: Final = "hero.png"
#: Pixels of the picture for one of CSS.
SCALE: Final = 2


@dataclass(frozen=True)
class Shot:
    """A screen with a page, in CSS pixels."""

    state: str
    scheme: str
    device: str
    width: int
    height: int


#: Two rows, each a window and a phone.
SHOTS: Final = (
    Shot("complete", "light", "desktop", 680, 640),
    Shot("app: view", "dark", "phone", 340, 640),
    Shot("done-with-app", "light", "phone", 340, 464),
    Shot("changed", "dark", "desktop", 680, 464),
)
STYLE: Final = """
body { margin: 0; }
main { display: flex; flex-wrap: wrap; justify-content: space-between; row-gap: 48px;
  width: 1176px; box-sizing: border-box; padding: 48px; background: #c5ced8; }
figure { margin: 0; overflow: hidden; background: #2b2f36; }
.phone { padding: 6px; border-radius: 30px; }
.phone img { border-radius: 24px; }
.desktop { padding-top: 12px; border-radius: 12px; }
img { display: block; }
"""


def draw_hero(browser: Browser, sites: list[PinSite], directory: Path) -> Path:
    """Write the picture into *directory*."""
    cells = "".join(
        f"<figure class={shot.device}><img width={shot.width} src='data:image/png;base64,"
        f"{base64.b64encode(_take(browser, sites, shot)).decode()}'></figure>"
        for shot in SHOTS
    )
    viewport = {"width": 1200, "height": 100}
    context = new_context(browser, viewport=viewport, device_scale_factor=SCALE)
    page = context.new_page()
    page.set_content(f"<!DOCTYPE html><style>{STYLE}</style><main>{cells}</main>")
    path = directory / NAME
    path.write_bytes(with_palette(page, page.locator("main").screenshot()))
    context.close()
    return path


def _take(browser: Browser, sites: list[PinSite], shot: Shot) -> bytes:
    options = {
        "viewport": {"width": shot.width, "height": shot.height},
        "color_scheme": shot.scheme,
        "reduced_motion": "reduce",
        "device_scale_factor": SCALE,
    }
    with reached(browser, sites, shot.state, **options) as page:
        return page.screenshot()

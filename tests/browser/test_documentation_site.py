"""The documentation site in a browser, which it has fetch nothing from elsewhere."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from playwright.sync_api import Page, expect

from tests.deployment import ROOT, wait_for


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    site = tmp_path_factory.mktemp("site")
    configuration = ROOT / "docs" / "site" / "mkdocs.yml"
    words = ("build", "--quiet", "--strict", "--config-file", configuration, "--site-dir", site)
    subprocess.run(
        [sys.executable, "-m", "mkdocs", *words],
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        check=True,
    )
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=site))
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def asked(page: Page) -> list[str]:
    """Every address that the browser asks for."""
    addresses: list[str] = []
    page.on("request", lambda request: addresses.append(request.url))
    return addresses


def test_a_word_is_found_and_nobody_else_is_asked(
    page: Page, address: str, asked: list[str]
) -> None:
    page.goto(address)
    expect(page.get_by_role("heading", name="Issuer PIN service", level=1)).to_be_visible()
    results = page.locator(".md-search-result__link")

    def is_found() -> bool:
        # The search follows keys, once its script listens.
        search = page.get_by_role("textbox", name="Search")
        search.clear()
        search.press_sequentially("decimalisation")
        page.wait_for_timeout(500)
        return results.count() > 0

    wait_for(is_found)
    results.first.click()
    expect(page.locator("article")).to_contain_text("ecimalisation")
    assert page.url != address
    assert [each for each in asked if not each.startswith((address, "data:", "blob:"))] == []


def test_every_page_is_reached_from_the_first_by_its_menus(page: Page, address: str) -> None:
    page.goto(address)
    links = page.locator("nav a[href]").evaluate_all("(links) => links.map((one) => one.href)")
    assert {
        f"{address}{name}.html" for name in ("tutorial", "embedding", "metrics", "security")
    } <= {link.partition("#")[0] for link in links}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_light_or_dark_as_the_reader_wants(
    new_page: Callable[..., Page], address: str, scheme: str
) -> None:
    page = new_page(color_scheme=scheme)
    page.goto(address + "manifest.html")
    colour = page.locator("body").evaluate("(body) => getComputedStyle(body).backgroundColor")
    red = int(colour.removeprefix("rgb(").split(",")[0])
    assert (red > 200) == (scheme == "light")


def test_a_narrow_screen_scrolls_in_one_direction(
    new_page: Callable[..., Page], address: str
) -> None:
    page = new_page(viewport={"width": 360, "height": 740})
    for name in ("index", "tutorial", "manifest", "architecture"):
        page.goto(f"{address}{name}.html")
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 360, name

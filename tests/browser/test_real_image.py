"""A PIN as an image on an app's own site, with the real service."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
from playwright.sync_api import Browser, Error, Page, Response

from tests.browser.real_site import APP_OF_IMAGES, EVIL, PINS, SHOP, RealSite

SIZE = [1020, 340]
SHOW = """async ([url, crossOrigin]) => {
    const image = new Image();
    if (crossOrigin) image.crossOrigin = crossOrigin;
    image.src = url;
    document.body.append(image);
    try {
        await image.decode();
    } catch {
        return null;
    }
    return [image.naturalWidth, image.naturalHeight];
}"""


@pytest.fixture(scope="module")
def chromium(real_chromium: Browser) -> Browser:
    return real_chromium


@pytest.fixture(scope="module", autouse=True)
def with_pin(real: RealSite) -> None:
    real.set_pin("4071")


class Shown(NamedTuple):
    """The answer, and the size of what is seen of it."""

    status: int
    result: str
    size: list[int] | None


def show(page: Page, url: str) -> tuple[Shown, Response]:
    with page.expect_response(url) as waiting:
        size = page.evaluate(SHOW, [url, None])
    answer = waiting.value
    return Shown(answer.status, answer.headers["x-pin-result"], size), answer


def test_an_app_of_another_site_shows_the_pin_once(page: Page, real: RealSite) -> None:
    page.goto(f"{SHOP}/card")
    answer = real.ask(page, "pin")
    assert answer["expiresAt"].endswith("Z")
    shown, response = show(page, answer["imageUrl"])
    pin = response.body()
    assert shown == (200, "shown", SIZE)
    page.reload()
    shown, response = show(page, answer["imageUrl"])
    assert shown == (410, "ended", SIZE)
    assert response.body() != pin
    assert len(response.body()) < len(pin)


def test_app_and_service_are_two_sites_and_both_are_reached_over_tls(
    page: Page, real: RealSite
) -> None:
    document = page.goto(f"{SHOP}/two-sites")
    assert document is not None
    _, answer = show(page, real.ask(page, "pin")["imageUrl"])
    for reached in (document, answer):
        details = reached.security_details()
        assert details is not None
        assert details["protocol"] == "TLS 1.3"
    assert answer.request.all_headers()["sec-fetch-site"] == "cross-site"
    (visit,) = real.apps.at("/two-sites")
    assert visit.url.scheme == "https"
    assert visit.headers["host"] == "www.shop.test"
    assert any(line["route"] == "/details-image" for line in real.service.lines("request"))


def test_a_failure_image_comes_with_the_status_that_the_app_wants(
    page: Page, real: RealSite
) -> None:
    page.goto(SHOP)
    url = real.ask(page, "pin", client_key=APP_OF_IMAGES)["imageUrl"]
    show(page, url)
    page.goto(SHOP)
    shown, _ = show(page, url)
    assert shown == (200, "ended", SIZE)


def test_no_script_of_a_page_can_read_the_image_it_shows(page: Page, real: RealSite) -> None:
    page.goto(SHOP)
    show(page, real.ask(page, "pin")["imageUrl"])
    read = page.evaluate(
        """async () => {
            const image = document.querySelector("img");
            const canvas = document.createElement("canvas");
            const context = canvas.getContext("2d");
            context.drawImage(image, 0, 0);
            const tries = {
                toDataURL: () => canvas.toDataURL(),
                getImageData: () => context.getImageData(0, 0, 1, 1),
                toBlob: () => canvas.toBlob(() => {}),
            };
            const outcome = {};
            for (const [name, attempt] of Object.entries(tries)) {
                try {
                    attempt();
                    outcome[name] = "read";
                } catch (error) {
                    outcome[name] = error.name;
                }
            }
            return outcome;
        }"""
    )
    assert set(read.values()) == {"SecurityError"}, read


@pytest.mark.parametrize("origin", [SHOP, EVIL])
def test_no_page_can_fetch_the_image(
    new_page: Callable[..., Page], real: RealSite, origin: str
) -> None:
    page = new_page()
    page.goto(SHOP)
    urls = [real.ask(page, "pin")["imageUrl"] for _ in range(3)]
    page.goto(origin)
    assert page.evaluate("(url) => fetch(url).catch((error) => error.name)", urls[0]) == "TypeError"
    unread = page.evaluate(
        """async (url) => {
            const answer = await fetch(url, { mode: "no-cors" });
            return [answer.type, answer.status, (await answer.blob()).size];
        }""",
        urls[1],
    )
    assert unread == ["opaque", 0, 0]
    assert page.evaluate(SHOW, [urls[2], "anonymous"]) is None


def test_a_page_of_another_site_gets_no_token(
    new_page: Callable[..., Page], real: RealSite
) -> None:
    page = new_page()
    page.goto(EVIL)
    before = real.newest()
    with pytest.raises(Error, match="Failed to fetch"):
        real.ask(page, "pin")
    assert real.newest() == before


def test_an_isolated_page_shows_the_image_though_it_shows_no_others(
    new_page: Callable[..., Page], real: RealSite
) -> None:
    page = new_page()
    page.goto(f"{SHOP}/isolated")
    assert page.evaluate("crossOriginIsolated")
    shown, _ = show(page, real.ask(page, "pin")["imageUrl"])
    assert shown == (200, "shown", SIZE)
    assert page.evaluate(SHOW, [f"{EVIL}/marker.png", None]) is None


def test_the_image_cannot_be_framed(new_page: Callable[..., Page], real: RealSite) -> None:
    page = new_page()
    page.goto(SHOP)
    url = real.ask(page, "pin")["imageUrl"]
    with page.expect_console_message(lambda message: "frame-ancestors" in message.text):
        page.evaluate(
            """(url) => document.body.append(
                Object.assign(document.createElement("iframe"), { src: url }))""",
            url,
        )
    assert PINS not in {frame.url[: len(PINS)] for frame in page.frames}

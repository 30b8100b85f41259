"""After the browser is closed nothing of a PIN is in its profile."""

import secrets
from pathlib import Path

from playwright.sync_api import Page, Playwright, expect

from tests.browser.chromium import open_profile, stop_clock
from tests.browser.real_site import LONG_APP, PINS, SHOP, RealSite, enter

PNG = b"\x89PNG\r\n\x1a\n"
PIN = "825380146729"


def leave_marker(page: Page) -> str:
    """Leave what is the app's: a search that found nothing at all would prove nothing."""
    marker = secrets.token_hex(16)
    page.goto(f"{SHOP}/?{marker}")
    return marker


def written(profile: Path) -> dict[Path, bytes]:
    """Every file that the browser left."""
    return {path: path.read_bytes() for path in profile.rglob("*") if path.is_file()}


def holding(files: dict[Path, bytes], wanted: str | bytes) -> list[str]:
    """Name the files that hold bytes, or a text in an encoding of Chromium's files."""
    forms = [wanted] if isinstance(wanted, bytes) else [wanted.encode(), wanted.encode("utf-16-le")]
    return [path.name for path, held in files.items() if any(form in held for form in forms)]


def test_nothing_of_a_pin_is_left_in_the_profile(
    playwright: Playwright, real: RealSite, tmp_path: Path
) -> None:
    context = open_profile(playwright, tmp_path, *real.arguments)
    page = context.pages[0]
    marker = leave_marker(page)
    asked = real.ask(page, "set-pin", {"redirectUrl": f"{SHOP}/done"}, LONG_APP)
    with page.expect_response(f"{PINS}/pin-direct/session") as opening:
        page.evaluate("(url) => { location = url; }", asked["hostedPageUrl"])
    session = opening.value.json()["session"]
    stop_clock(page)
    enter(page, PIN)
    expect(page.get_by_role("heading", name="Your new PIN is set")).to_be_visible()
    page.clock.fast_forward(2_100)
    page.wait_for_url(f"{SHOP}/done")

    view = real.ask(page, "pin", client_key=LONG_APP)
    with page.expect_response(view["imageUrl"]) as showing:
        for url in (view["imageUrl"], f"{SHOP}/marker.png"):
            page.evaluate(
                """(url) => {
                    const image = Object.assign(new Image(), { src: url });
                    document.body.append(image);
                    return image.decode();
                }""",
                url,
            )
    assert showing.value.headers["x-pin-result"] == "shown"
    image = showing.value.body()
    assert image.startswith(PNG)
    context.close()

    files = written(tmp_path)
    assert "History" in holding(files, marker)
    cached = holding(files, PNG)
    assert cached == holding(files, real.apps.image)
    assert len(cached) == 1
    # Its checksums, in case that the rest was written in another way.
    for secret in (image[-20:-12], PIN, view["token"], session):
        assert holding(files, secret) == []
    # The address of a visit is written down before any script runs: what is left of it is consumed.
    assert "History" in holding(files, asked["token"])
    assert real.get(f"/pin-direct/set?token={asked['token']}").status_code == 410

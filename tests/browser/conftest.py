"""One Chromium for a module's tests, and a page of it for each."""

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Playwright, sync_playwright

from cms.sandbox.machine.postgres import Postgres
from cms.sandbox.machine.softhsm import SoftHsm
from hsm.pkcs11.token import Pkcs11Token
from tests.browser.chromium import launch, new_context
from tests.browser.control_site import ControlSite
from tests.browser.pin_site import PinSite, serving
from tests.browser.real_site import RealSite, real_site
from tests.deployment import new_database


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    """A module's, not the session's: the driver holds the event loop."""
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="module")
def chromium(playwright: Playwright) -> Iterator[Browser]:
    """The browser of the stub's tests; it takes any certificate."""
    rules = "--host-resolver-rules=MAP *.test 127.0.0.1"
    browser = launch(playwright, rules, "--ignore-certificate-errors")
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def real(
    tmp_path_factory: pytest.TempPathFactory,
    postgres: Postgres,
    softhsm: SoftHsm,
    hsm_token: Pkcs11Token,
) -> Iterator[RealSite]:
    """The real service."""
    directory = tmp_path_factory.mktemp("real")
    with real_site(directory, new_database(postgres), softhsm, hsm_token) as site:
        yield site


@pytest.fixture(scope="module")
def real_chromium(playwright: Playwright, real: RealSite) -> Iterator[Browser]:
    """A browser that finds the real service."""
    browser = launch(playwright, *real.arguments)
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[PinSite]]:
    with serving(tmp_path_factory.mktemp("sites")) as sites:
        yield sites


@pytest.fixture
def site(sites: list[PinSite]) -> Iterator[PinSite]:
    """The server of one test."""
    sites[:] = [PinSite(sites[0].port)]
    yield sites[0]
    # An answer that is still held back would keep the server from stopping.
    sites[0].hold.set()


@pytest.fixture
def control(sites: list[PinSite]) -> Iterator[ControlSite]:
    """The server of one test of the pincontrol page."""
    site = ControlSite(sites[0].port)
    sites[:] = [site]
    yield site
    site.hold.set()


@pytest.fixture
def complaints() -> list[str]:
    """What the browser's console says of the pages: blocked by a policy, script errors."""
    return []


@pytest.fixture
def new_page(chromium: Browser, complaints: list[str]) -> Iterator[Callable[..., Page]]:
    """Make a page, of a context of its own, with Playwright's options for contexts."""
    contexts = []

    def heard(message: ConsoleMessage) -> None:
        # An answer that is no 2xx is noted by the browser as well, and is what a test asked for.
        if message.type in {"error", "warning"} and "Failed to load resource" not in message.text:
            complaints.append(message.text)

    def make(**options: object) -> Page:
        context = new_context(chromium, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", heard)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        return page

    yield make
    for context in contexts:
        context.close()


@pytest.fixture
def page(new_page: Callable[..., Page], complaints: list[str]) -> Iterator[Page]:
    """A page whose console stays silent."""
    yield new_page(locale="en-GB")
    assert complaints == []

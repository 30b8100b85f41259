"""The memory of the web's processes after PINs were set and shown: no PIN, no block, no PAN."""

import os
import secrets
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from cms.sandbox import HANG_SECONDS
from cms.sandbox.machine.postgres import Postgres
from cms.sandbox.machine.softhsm import SoftHsm
from cms.sandbox.partners.hosted_app import PageSession
from cms.sandbox.partners.pin_blocks import iso0_block
from hsm.pkcs11.token import Pkcs11Token
from tests import memory
from tests.bearers import bearer
from tests.deployment import Enrolled, Service, deployment, new_database, patiently
from tests.issuer_records import add_card, add_clients, app_client, change_manifest
from tests.processes import family

pytestmark = pytest.mark.slow

BANK, APP, CARD, HOLDER = "firstbank1", "firstbank1-app", "canary-card", "canary-holder"
PAN = "4539578763621486"
POLICY = {"length_max": 12, "page_length_max": 12}


def new_pin() -> str:
    """A PIN that stands nowhere by chance."""
    return "7391" + f"{secrets.randbelow(10**8):08}"


@dataclass(frozen=True)
class House:
    """A service that has set, exported and shown PINs."""

    service: Service
    pins: Mapping[str, str]
    hsm_pin: str

    def needles(self) -> Mapping[str, bytes]:
        """Every form of what must not be there."""
        hsm_pin = memory.text_forms(self.hsm_pin)
        secret = {"PAN": PAN, **self.pins}
        blocks = {f"block of the {name}": iso0_block(pin, PAN) for name, pin in self.pins.items()}
        return {f"user PIN of the HSM token: {form}": each for form, each in hsm_pin.items()} | {
            f"{name}: {form}": needle
            for name, digits in (secret | blocks).items()
            for form, needle in memory.digit_forms(digits).items()
        }


@pytest.fixture(scope="module")
def house(
    tmp_path_factory: pytest.TempPathFactory,
    postgres: Postgres,
    softhsm: SoftHsm,
    hsm_token: Pkcs11Token,
) -> Iterator[House]:
    directory = tmp_path_factory.mktemp("memory")
    prepared = deployment(directory, new_database(postgres), softhsm).for_cardholders()
    d1, vault = prepared.enrol(hsm_token, BANK), prepared.vault(hsm_token)
    change_manifest(vault, BANK, policy=POLICY)
    add_clients(vault, BANK, app_client(APP))
    issuer = d1.sample_issuer
    add_card(prepared.database_url, vault, issuer, CARD, PAN, cardholder_id=HOLDER)
    pins = {"PIN of D1": new_pin(), "PIN of the page": new_pin()}
    hsm_pin = Path(softhsm.environment["HSM_PIN_FILE"]).read_text().strip()
    tls = ssl.create_default_context(cafile=prepared.pki / "ca.pem")
    url = prepared.environment["CMS_CARDHOLDER_URL"]
    with (
        prepared.serving() as service,
        httpx.Client(base_url=url, verify=tls, timeout=HANG_SECONDS) as http,
    ):
        for _ in range(5):
            use(d1, http, pins)
        yield House(service, pins, hsm_pin)


def use(d1: Enrolled, http: httpx.Client, pins: Mapping[str, str]) -> None:
    """Set a PIN by D1 and one on a page; export and show each."""
    with d1.client() as partner:
        partner.set_pin(CARD, pins["PIN of D1"], PAN)
        assert partner.get_pin(CARD, PAN) == pins["PIN of D1"]
        show(http)
        set_on_page(http, pins["PIN of the page"])
        assert partner.get_pin(CARD, PAN) == pins["PIN of the page"]
        show(http)


def post(http: httpx.Client, path: str) -> dict[str, str]:
    headers = {"x-client-key": APP, "Authorization": f"Bearer {bearer(HOLDER, BANK)}"}
    answer = patiently(lambda: http.post(path, headers=headers))
    assert answer.status_code == 200, answer.text
    issued: dict[str, str] = answer.json()
    return issued


def show(http: httpx.Client) -> None:
    image = http.get(post(http, "/v1/card/pin/token")["imageUrl"])
    assert image.headers["X-Pin-Result"] == "shown"


def set_on_page(http: httpx.Client, pin: str) -> None:
    issued = post(http, "/v1/card/set-pin/token")
    opened = http.post("/pin-direct/session", json={"token": issued["token"]}).json()
    page = PageSession(opened["session"], issued["token"], opened["grantId"], opened["key"])
    sent = http.post("/pin-direct/submit", json=page.submission(pin))
    assert sent.status_code == 204, sent.text


def test_no_pin_no_block_and_no_pan_is_in_the_memory_of_the_web(house: House) -> None:
    web = [house.service.process.pid, *family(house.service.process.pid)]
    assert len(web) > 1
    for pid in web:
        assert memory.found_in(pid, house.needles()) == set()


def test_what_is_in_the_memory_of_a_process_is_found(house: House) -> None:
    """The test is D1, app and page at once: it has each PIN and the PAN."""
    found = memory.found_in(os.getpid(), house.needles())
    for name in ("PAN", *house.pins, *(f"block of the {name}" for name in house.pins)):
        assert f"{name}: ascii" in found


def test_the_web_has_no_setting_and_no_library_of_the_hsm_token(house: House) -> None:
    for pid in (house.service.process.pid, *family(house.service.process.pid)):
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        assert b"HSM_" not in environment
        assert b"SOFTHSM" not in environment
        maps = Path(f"/proc/{pid}/maps").read_text()
        assert "softhsm" not in maps
        assert "pkcs11" not in maps
        assert house.hsm_pin.encode() not in environment
    (worker,) = house.service.vault_workers()
    if os.geteuid() == 0:  # the control: nobody else may look
        assert b"HSM_PIN_FILE" in Path(f"/proc/{worker}/environ").read_bytes()
        assert "softhsm" in Path(f"/proc/{worker}/maps").read_text()

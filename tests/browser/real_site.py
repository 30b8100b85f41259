"""The real service, its apps' sites, and what a browser is told to find them.

The sites differ by their names, as sites do: each is at its scheme's own port, and the browser
is told where that is on this machine. It trusts no certificate but those with the key of ours.
"""

import base64
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from playwright.sync_api import FrameLocator, Page
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from cms.persistence import admin
from cms.sandbox import HANG_SECONDS
from cms.sandbox.machine import pki
from cms.sandbox.machine.softhsm import SoftHsm
from crypto.pin_image import ImageStyle, MessageKind, render_message
from hsm.pkcs11.token import Pkcs11Token
from hsm.vault import Vault
from tests.bearers import bearer
from tests.deployment import (
    ROOT,
    Enrolled,
    Service,
    deployment,
    lengthen_control_tokens,
    patiently,
    wait_for,
)
from tests.issuer_records import (
    SECRET,
    SampleIssuer,
    add_clients,
    app_client,
    change_manifest,
    name_card,
    open_issuer,
    run_sql,
    server_client,
)

PINS = "https://pins.issuer.test"
PIN_URL, FRAME_URL = f"{PINS}/pincontrol/pin", f"{PINS}/pincontrol/frame"
SHOP = "https://www.shop.test"
"""Where the app is; it may embed the page, and be led back to."""
SECOND_SHOP = "https://m.shop.test:8443"
"""May embed the page as well."""
EVIL = "https://evil.test"

BANK, APP = "firstbank1", "firstbank1-app"
APP_OF_IMAGES = "firstbank1-rn"
"""An app that wants failure images with status 200."""
LONG_BANK, LONG_APP = "longbank01", "longbank01-app"
"""A bank with PINs of 12 digits: such a PIN is nowhere by chance."""
MANY = {"handouts_card_day_max": 1_000}
"""Limits of a day for tests, which all look at the same cards."""
CARD, SECOND_CARD = "card-1", "card-2"
PLASTIC, SECOND_PLASTIC = "7001", "7002"
"""What the cards are called at the pincontrol face."""
SERVER, FRAME_KEY = "firstbank1-server", "firstbank1-frame"
OTHER_SERVER, OTHER_FRAME_KEY = "firstbank1-other", "firstbank1-frame2"
"""Another server of the same bank, with pages at the same origins."""
LONG_SERVER = "longbank01-server"

BLANK = """<!DOCTYPE html><html lang="en"><link rel="icon" href="data:,"><title>app</title>
<h1>app</h1>
<script>
  const received = [];
  addEventListener("message", ({ data, origin, source }) => {
    const frame = document.querySelector("iframe");
    received.push({ data, origin, framed: source === frame?.contentWindow });
  });
  addEventListener("pageshow", ({ persisted }) => { window.persisted = persisted; });
</script>
"""
#: How a site asks for isolation.
ISOLATED = {
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def cacheable_image() -> bytes:
    return render_message(MessageKind.FAILED, ImageStyle())


@dataclass(frozen=True)
class Apps:
    """Everybody's sites, all alike but for their names."""

    host_page: str
    image: bytes = field(default_factory=cacheable_image)
    requests: list[Request] = field(default_factory=list)

    def at(self, path: str) -> list[Request]:
        return [request for request in self.requests if request.url.path == path]

    def application(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/host-page", self._host_page),
                Route("/marker.png", self._marker),
                Route("/isolated", self._isolated),
                Route("/{path:path}", self._blank),
            ]
        )

    async def _host_page(self, _: Request) -> Response:
        return HTMLResponse(self.host_page, headers={"Cache-Control": "no-store"})

    async def _marker(self, _: Request) -> Response:
        headers = {"Cache-Control": "public, max-age=31536000"}
        return Response(self.image, media_type="image/png", headers=headers)

    async def _isolated(self, _: Request) -> Response:
        return HTMLResponse(BLANK, headers=ISOLATED)

    async def _blank(self, request: Request) -> Response:
        self.requests.append(request)
        return HTMLResponse(BLANK)


@dataclass(frozen=True)
class RealSite:
    """The running service, who may use it, and the sites around it."""

    service: Service
    d1: Enrolled
    apps: Apps
    arguments: list[str]
    """What a browser needs to find all this."""

    @property
    def database_url(self) -> str:
        return self.service.deployment.database_url

    def pin(self, card_id: str = CARD) -> str:
        """A card's PIN, as D1 reads it."""
        with self.d1.client() as d1:
            return d1.get_pin(card_id, self.d1.sample_issuer.pans[card_id])

    def set_pin(self, pin: str, card_id: str = CARD) -> None:
        with self.d1.client() as d1:
            d1.set_pin(card_id, pin, self.d1.sample_issuer.pans[card_id])

    def get(self, path: str) -> httpx.Response:
        """Ask the service without a browser."""
        return httpx.get(self._address(path), verify=False, timeout=HANG_SECONDS)

    def status(self) -> httpx.Response:
        """Ask for the status of the card as the app does."""
        headers = {"x-client-key": APP, "Authorization": f"Bearer {app_bearer(BANK)}"}
        url = self._address("/v1/card/status")
        return httpx.get(url, headers=headers, verify=False, timeout=HANG_SECONDS)

    def _address(self, path: str) -> str:
        port = self.service.deployment.cardholder_port
        return f"https://127.0.0.1:{port}{path}"

    def control_id(self, scope: str, plastic_id: str = PLASTIC, user: str = SERVER) -> str:
        """Ask for a control id as the bank's own server does."""
        answer = httpx.post(
            self._address(f"/pincontrol/v2/plastic/{plastic_id}?auditUser=clerk"),
            json={"scope": scope},
            auth=httpx.BasicAuth(user, SECRET),
            verify=False,
            timeout=HANG_SECONDS,
        )
        assert answer.status_code == 201, answer.text
        members: dict[str, str] = answer.json()
        assert members["pinURL"] == PIN_URL
        assert members["pinFrameURL"] == FRAME_URL
        return members["id"]

    def age_newest(self, seconds: int) -> None:
        """Let time pass for the newest token."""
        run_sql(
            self.database_url,
            "UPDATE control_tokens SET expires_at = expires_at - make_interval(secs => %s)"
            " WHERE issued_at = (SELECT max(issued_at) FROM control_tokens)",
            seconds,
        )

    def produce(self, card_id: str) -> None:
        """Note that a card is personalised, as the bank's operator does."""
        with admin.transaction(self.database_url) as database:
            admin.mark_personalised(database, self.d1.sample_issuer.card(card_id))

    def newest(self) -> tuple[bool, str | None]:
        """Whether the newest token is consumed, and how its use ended."""
        (row,) = run_sql(
            self.database_url,
            "SELECT consumed_at IS NOT NULL, end_reason FROM control_tokens"
            " ORDER BY issued_at DESC LIMIT 1",
        )
        return row

    def wait_until_cancelled(self) -> None:
        """Wait until the page has said so: it does not wait for the answer."""
        wait_for(lambda: self.newest() == (True, "cancelled"))

    def ask(
        self,
        page: Page,
        purpose: str,
        body: Mapping[str, object] | None = None,
        client_key: str = APP,
    ) -> dict[str, str]:
        """Ask for a token as the app's own script does, from the page that is open."""
        answer: dict[str, Any] = page.evaluate(
            """async ([url, key, bearer, body]) => {
                const answer = await fetch(url, {
                    method: "POST",
                    headers: {
                        "x-client-key": key,
                        Authorization: "Bearer " + bearer,
                        "Content-Type": "application/json",
                    },
                    body: JSON.stringify(body),
                });
                return { ...(await answer.json()), expiresAt: answer.headers.get("X-Expires-At") };
            }""",
            [
                f"{PINS}/v1/card/{purpose}/token",
                client_key,
                app_bearer(client_key[:10]),
                body or {},
            ],
        )
        assert "token" in answer, answer
        return answer

    def embedded(self, page: Page) -> str:
        """Ask for a page that the app embeds; return its address."""
        return self.ask(page, "set-pin", {"isEmbedded": True})["hostedPageUrl"]


def enter(page: Page | FrameLocator, pin: str) -> None:
    """Enter a PIN twice and send it."""
    page.locator("#first-pin").fill(pin)
    page.locator("#second-pin").fill(pin)
    page.locator("#confirm").click()


def app_bearer(issuer_id: str) -> str:
    """The access token of the one cardholder of a bank."""
    return bearer(f"holder-of-{issuer_id}", issuer_id)


def add_apps(vault: Vault) -> None:
    for issuer, client, status in (
        (BANK, APP, 410),
        (BANK, APP_OF_IMAGES, 200),
        (LONG_BANK, LONG_APP, 410),
    ):
        app = app_client(
            client,
            redirect_origins=[SHOP],
            embed_origins=[SHOP, SECOND_SHOP],
            failure_image_status=status,
        )
        add_clients(vault, issuer, app)


def add_backends(vault: Vault) -> None:
    """Add the banks' own servers, and let the first bank's PINs be had as text."""
    change_manifest(vault, BANK, policy={"text_reveal": True}, limits=MANY)
    for issuer, client, key in (
        (BANK, SERVER, FRAME_KEY),
        (BANK, OTHER_SERVER, OTHER_FRAME_KEY),
        (LONG_BANK, LONG_SERVER, None),
    ):
        server = server_client(
            client,
            frame_key=key,
            frame_origins=[] if key is None else [SHOP, SECOND_SHOP],
            hide_seconds=120,
        )
        add_clients(vault, issuer, server)


def name_cards(database_url: str, vault: Vault, sample_issuer: SampleIssuer) -> None:
    """Give the first card a holder, and both of them numbers."""
    holder = f"holder-of-{sample_issuer.issuer_id}"
    for card_id, plastic_id, cardholder_id in (
        (CARD, PLASTIC, holder),
        (SECOND_CARD, SECOND_PLASTIC, None),
    ):
        name_card(
            *(database_url, vault, sample_issuer, card_id),
            plastic_id=plastic_id,
            cardholder_id=cardholder_id,
        )


def host_page(access_token: str) -> str:
    """The sample page of the documentation, with the names and keys of the test."""
    page = (ROOT / "docs" / "host-page.html").read_text()
    for sample, value in (
        ("https://pins.example", PINS),
        ("CLIENT_KEY", APP),
        ("ACCESS_TOKEN", access_token),
    ):
        assert page.count(sample) == 1
        page = page.replace(sample, value)
    return page


@contextmanager
def listening(application: Starlette, credential: pki.Credential | None = None) -> Iterator[int]:
    """Serve on a free port of loopback, with TLS if there is a credential."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        application,
        lifespan="off",
        log_level="error",
        ssl_certfile=None if credential is None else str(credential.certificate),
        ssl_keyfile=None if credential is None else str(credential.key),
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    server.should_exit = True
    thread.join()


def trusted(certificate: Path) -> str:
    """The hash of a certificate's key (RFC 7469, section 2.4)."""
    loaded = x509.load_pem_x509_certificate(certificate.read_bytes())
    spki = loaded.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(sha256(spki).digest()).decode()


@contextmanager
def real_site(
    directory: Path, database_url: str, softhsm: SoftHsm, hsm_token: Pkcs11Token
) -> Iterator[RealSite]:
    """Run the service and the sites until the block ends."""
    hosts = ("pins.issuer.test", "*.shop.test", "shop.test", "*.test")
    server = pki.create(directory / "sites", hosts=hosts).server
    prepared = (
        deployment(directory, database_url, softhsm)
        .for_cardholders()
        .given(
            cardholder_url=PINS,
            cardholder_certificate_file=server.certificate,
            cardholder_key_file=server.key,
        )
    )
    port = prepared.cardholder_port
    d1, vault = prepared.enrol(hsm_token, BANK), prepared.vault(hsm_token)
    long_bank = open_issuer(
        *(database_url, vault, LONG_BANK),
        policy={"length_min": 12, "length_max": 12, "text_reveal": True},
        limits=MANY,
    )
    add_apps(vault)
    add_backends(vault)
    for sample_issuer in (d1.sample_issuer, long_bank):
        name_cards(database_url, vault, sample_issuer)
    lengthen_control_tokens(database_url)
    apps = Apps(host_page(app_bearer(BANK)))
    with (
        prepared.serving() as service,
        listening(apps.application(), server) as https,
        listening(apps.application()) as http,
    ):
        rules = (
            f"MAP pins.issuer.test 127.0.0.1:{port}",
            f"MAP *.test:80 127.0.0.1:{http}",
            f"MAP *.test 127.0.0.1:{https}",
            f"MAP *.test. 127.0.0.1:{https}",
        )
        # A browser has other rules for what is on its own machine.
        public = ",".join(f"127.0.0.1:{each}=public" for each in (port, http, https))
        arguments = [
            f"--ip-address-space-overrides={public}",
            f"--host-resolver-rules={','.join(rules)}",
            f"--ignore-certificate-errors-spki-list={trusted(server.certificate)}",
        ]
        site = RealSite(service, d1, apps, arguments)
        assert patiently(site.status).status_code == 200
        yield site

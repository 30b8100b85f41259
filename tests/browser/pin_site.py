"""The server behind the set page, as a test wants it to answer, and the sites around it.

One TLS port; what is served depends on the host's name. ``pins.issuer.test`` has the page and
its four POSTs; every other name is somebody else's site, which can embed the page.
"""

import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio.to_thread
import uvicorn
from jwcrypto.jwe import JWE
from jwcrypto.jwk import JWK
from playwright.sync_api import Page
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from cms.faces.cardholder.page.assets import ASSETS
from cms.faces.cardholder.page.messages import negotiate
from cms.faces.cardholder.page.render import (
    Owner,
    ended_headers,
    ended_page,
    ended_page_of,
    page_headers,
    set_page,
)
from cms.faces.cardholder.page.style import PageStyle
from cms.sandbox.machine import pki
from crypto.pinblock import iso1
from crypto.types import PinBlock

PINS, APP = "pins.issuer.test", "www.shop.test"
TOKEN = "100a99cf-f4d3-4fa1-9be9-2e9828b20ebb"
#: One that is over, of a client that is known.
OVER = "0d5c2f4e-64a3-4c0e-8a1b-6f1a4f0f3c77"
NONCE = "bm9uY2Utb2YtdGhlLXRlc3Q"

HOST_PAGE = """<!DOCTYPE html><title>app</title><h1>app</h1>
<script>
  const received = [];
  addEventListener("message", (event) => {
    received.push({ data: event.data, origin: event.origin,
                    framed: event.source === document.querySelector("iframe").contentWindow });
  });
</script>
"""


def leave_and_return(page: Page) -> None:
    """Have a page left, and shown again as the browser kept it."""
    page.evaluate("""() => {
        dispatchEvent(new PageTransitionEvent("pagehide", { persisted: true }));
        dispatchEvent(new PageTransitionEvent("pageshow", { persisted: true }));
    }""")


@dataclass(frozen=True)
class Submitted:
    """What the vault would find in a JWE."""

    header: Mapping[str, Any]
    grant_id: str
    block: bytes

    @property
    def pin(self) -> str:
        return iso1.decode(PinBlock(self.block)).reveal()


@dataclass
class PinSite:
    """How the server answers, and what it was sent."""

    port: int
    style: PageStyle = field(default_factory=PageStyle)
    embed_origins: list[str] = field(default_factory=list)
    opening: dict[str, Any] = field(default_factory=dict)
    """Members of the answer to ``session`` that differ from the usual."""
    answers: dict[str, list[tuple[int, dict[str, Any]]]] = field(default_factory=dict)
    """The next answers of a path; without any, the usual one."""
    posts: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    key: JWK = field(default_factory=lambda: JWK.generate(kty="EC", crv="P-256", kid="page-1"))
    hold: threading.Event = field(default_factory=threading.Event)
    """Cleared, the path that is *held* waits for it."""
    held: str = "submit"
    failed: str | None = None
    """Why the page cannot be made: ``away``, ``limited`` or, for a webview, ``malformed``."""

    session = "c2Vzc2lvbi1zZWNyZXQtb2YtdGhlLXRlc3QtMzItYnl0"
    grant_id = "Z3JhbnQtb2YtdGhlLXRlc3Q"
    control_token = TOKEN

    def __post_init__(self) -> None:
        self.hold.set()

    def origin(self, host: str) -> str:
        return f"https://{host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.origin(PINS)}/pin-direct/set?token={TOKEN}"

    def sent(self, path: str) -> list[dict[str, Any]]:
        return [members for name, members in self.posts if name == path]

    def submitted(self) -> Submitted:
        """Open the one JWE that was sent."""
        (sent,) = self.sent("submit")
        assert sent.keys() == {"session", "controlToken", "jwe"}
        assert (sent["session"], sent["controlToken"]) == (self.session, self.control_token)
        jwe = JWE()
        jwe.deserialize(sent["jwe"], self.key)
        plaintext = json.loads(jwe.payload)
        assert list(plaintext) == ["grantId", "controlToken", "block"]
        assert plaintext["controlToken"] == self.control_token
        header = json.loads(jwe.objects["protected"])
        return Submitted(header, plaintext["grantId"], bytes.fromhex(plaintext["block"]))

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/pin-direct/set", self._page),
                Route("/pin-direct/{verb}", self._post, methods=["POST"]),
                Route("/pin-assets/{hash}/{name}", self._asset),
                Route("/{path:path}", self._somebody_else),
            ]
        )

    async def _page(self, request: Request) -> Response:
        self.requests.append(request)
        language = negotiate(request.headers.get("accept-language"))
        if self.failed is not None:
            return Response(ended_page(language, self.failed), 503, ended_headers(language))
        if request.query_params.get("token") == OVER:
            owner = Owner(self.style, "Demo Bank", None)
            page = ended_page_of(owner, language, "ended", NONCE)
            return Response(page, 410, ended_headers(language, NONCE))
        if request.query_params.get("token") != TOKEN:
            return Response(ended_page(language), 410, ended_headers(language))
        headers = page_headers(NONCE, self.embed_origins, language)
        return Response(set_page(self.style, language, NONCE, "Demo Bank"), headers=headers)

    async def _post(self, request: Request) -> Response:
        verb, members = request.path_params["verb"], await request.json()
        self.requests.append(request)
        self.posts.append((verb, members))
        if verb == self.held:
            await anyio.to_thread.run_sync(self.hold.wait)
        waiting = self.answers.get(verb)
        status, answer = waiting.pop(0) if waiting else self._usual(verb)
        return JSONResponse(answer, status) if answer else Response(status_code=status)

    def _usual(self, verb: str) -> tuple[int, dict[str, Any]]:
        opening = {
            "session": self.session,
            "grantId": self.grant_id,
            "lastFour": "1111",
            "expiresInSeconds": 600,
            "warnSeconds": 20,
            "digitsMin": 4,
            "digitsMax": 4,
            "key": self.key.export_public(as_dict=True),
            "embedded": False,
            "targetOrigins": [],
            "redirectUrl": None,
        }
        usual = {
            "session": (200, opening | self.opening),
            "extend": (200, {"expiresInSeconds": 600}),
        }
        return usual.get(verb, (204, {}))

    async def _asset(self, request: Request) -> Response:
        self.requests.append(request)
        asset = ASSETS[request.url.path]
        return Response(asset.body, headers=asset.headers)

    async def _somebody_else(self, request: Request) -> Response:
        self.requests.append(request)
        return HTMLResponse(HOST_PAGE)


@contextmanager
def serving(directory: Path) -> Iterator[list[PinSite]]:
    """Serve the last site of the list, which starts with one, on a free port of loopback."""
    credential = pki.create(directory, hosts=(PINS, APP)).server
    listener = socket.create_server(("127.0.0.1", 0))
    sites = [PinSite(listener.getsockname()[1])]

    async def current(scope: Scope, receive: Receive, send: Send) -> None:
        await sites[-1].app()(scope, receive, send)

    config = uvicorn.Config(
        current,
        lifespan="off",
        log_level="error",
        ssl_certfile=str(credential.certificate),
        ssl_keyfile=str(credential.key),
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    yield sites
    server.should_exit = True
    thread.join()

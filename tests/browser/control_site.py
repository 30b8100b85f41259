"""The server behind the pincontrol page, as a test wants it to answer."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import parse_qs

from jwcrypto.jwe import JWE
from jwcrypto.jwk import JWK
from playwright.sync_api import Page
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cms.faces.cardholder.page.messages import negotiate
from cms.faces.cardholder.page.render import (
    ControlPage,
    control_page,
    ended_headers,
    ended_page,
    ended_webview_page,
    page_headers,
)
from cms.faces.cardholder.page.style import ViewStyle
from cms.sandbox import HANG_SECONDS
from crypto.pin_image import ImageStyle, render
from crypto.types import Pin
from tests.browser.pin_site import NONCE, PINS, PinSite

#: As some apps write it; the page sends it with a PIN as the vault wrote it.
CONTROL_ID = "0B3C1A9E-5F64-4E2E-9D0C-3E1B7A2F6D58"
FRAME_KEY = "frame-key-of-the-app"

# Both native apps. A method that is called without its handler cannot find its list.
APPS = """
window.calls = [];
class AndroidHandler {
  #calls = window.calls;
  #note(event, given) { this.#calls.push(["android", event, ...given]); }
  view_pin_success(...given) { this.#note("view_pin_success", given); }
  view_pin_error(...given) { this.#note("view_pin_error", given); }
  set_pin_success(...given) { this.#note("set_pin_success", given); }
  set_pin_error(...given) { this.#note("set_pin_error", given); }
  set_pin_validation_error(...given) { this.#note("set_pin_validation_error", given); }
  pin_valid(...given) { this.#note("pin_valid", given); }
}
class IosHandler {
  #calls = window.calls;
  postMessage(...given) { this.#calls.push(["ios", ...given]); }
}
window.android_handler = new AndroidHandler();
window.webkit = { messageHandlers: { ios_handler: new IosHandler() } };
"""


def lots(size: int) -> bytes:
    """Draw the digits of a PIN in several hands, and always the same."""
    return bytes(range(size))


@cache
def picture(pin: str, style: ImageStyle) -> bytes:
    return render(Pin(pin), style, lots)


def event(name: str, *valid: bool) -> list[list[object]]:
    """Return what both apps note when the page calls back."""
    message = {"event": name, **({"pin_valid": valid[0]} if valid else {})}
    return [["android", name, *valid], ["ios", message]]


def calls(page: Page) -> list[list[object]]:
    """Return what both apps have noted."""
    return page.evaluate("window.calls")  # type: ignore[no-any-return]


@dataclass
class ControlSite(PinSite):
    """How the server answers, and what it was sent."""

    pin: str = "8253"
    view_style: ViewStyle = field(default_factory=ViewStyle)
    purpose: str = "set"
    show_button: bool = True
    hide_seconds: int = HANG_SECONDS
    ancestors: list[str] | None = None
    """Who may frame the page; None: the origins from which it hears messages."""
    has_text: bool = False
    """Whether the issuer allows the digits as text."""
    digits_for: str | None = None
    """The grant that the digits are for; None: the one that the page knows."""

    control_token = CONTROL_ID.lower()

    @property
    def pin_url(self) -> str:
        return f"{self.origin(PINS)}/pincontrol/pin"

    @property
    def frame_url(self) -> str:
        return f"{self.origin(PINS)}/pincontrol/frame?key={FRAME_KEY}"

    def app(self) -> Starlette:
        app = super().app()
        app.router.routes[:0] = [
            Route("/pincontrol/pin", self._webview, methods=["GET", "POST"]),
            Route("/pincontrol/frame", self._frame),
            Route("/pincontrol/page/{verb}", self._post, methods=["POST"]),
        ]
        return app

    async def _webview(self, request: Request) -> Response:
        self.requests.append(request)
        (control_id,) = parse_qs(await request.body()).get(b"controlId", [b""])
        used = {members.get("controlId") for _, members in self.posts}
        if request.method == "GET":
            return self._ended(request)
        state = "ended" if control_id.decode() in {"", *used} else self.failed
        if state is not None:
            language = negotiate(request.headers.get("accept-language"))
            page = ended_webview_page(language, state, NONCE)
            return Response(page, 410, ended_headers(language, NONCE))
        start = {"flow": "webview", "purpose": self.purpose, "controlId": control_id.decode()}
        return self._control(request, start, [])

    async def _frame(self, request: Request) -> Response:
        self.requests.append(request)
        if request.query_params.get("key") != FRAME_KEY:
            return self._ended(request)
        start = {"flow": "frame", "key": FRAME_KEY, "targetOrigins": self.embed_origins}
        ancestors = self.embed_origins if self.ancestors is None else self.ancestors
        return self._control(request, start, ancestors)

    def _control(
        self, request: Request, start: Mapping[str, object], ancestors: list[str]
    ) -> Response:
        language = negotiate(request.headers.get("accept-language"))
        page = ControlPage(self.view_style, self.show_button, self.hide_seconds, start, "Demo Bank")
        headers = page_headers(NONCE, ancestors, language)
        return Response(control_page(page, language, NONCE), headers=headers)

    def _ended(self, request: Request) -> Response:
        language = negotiate(request.headers.get("accept-language"))
        return Response(ended_page(language), 410, ended_headers(language))

    def _usual(self, verb: str) -> tuple[int, dict[str, Any]]:
        if verb == "digits":
            return 200, {"jwe": self._digits(self.sent("digits")[-1])}
        return super()._usual(verb)

    def _digits(self, asked: dict[str, Any]) -> str:
        plaintext = {"grantId": self.digits_for or self.grant_id, "digits": self.pin}
        jwe = JWE(
            json.dumps(plaintext).ljust(96),
            json.dumps({"alg": "ECDH-ES", "enc": "A256GCM"}),
            recipient=JWK(**asked["key"]),
        )
        return str(jwe.serialize(compact=True))

    async def _post(self, request: Request) -> Response:
        answer = await super()._post(request)
        if request.path_params["verb"] != "view" or answer.status_code != 204:
            return answer
        style = ImageStyle(self.view_style.background, self.view_style.digit)
        headers = {"X-Pin-Result": "shown", "X-Pin-Last-Four": "1111", "Cache-Control": "no-store"}
        if self.has_text:
            headers |= {"X-Pin-Session": self.session, "X-Pin-Grant": self.grant_id}
        return Response(render(Pin(self.pin), style, lots), headers=headers, media_type="image/png")


def browse(page: Page, site: ControlSite) -> None:
    """Have a webview POST the id, from a page without an origin."""
    page.set_content(
        f'<form method="post" action="{site.pin_url}">'
        f'<input name="controlId" value="{CONTROL_ID}"></form>'
    )
    with page.expect_navigation():
        page.locator("input").press("Enter")

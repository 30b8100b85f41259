"""A client that simulates an app of the hosted face, and the script of the page that it opens.

An app holds no PIN; the page's script does, on the cardholder's device.
"""

import json
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import httpx

from cms.sandbox.partners.client import TIMEOUT_SECONDS, Client, json_object
from cms.sandbox.partners.jwe import encrypt
from cms.sandbox.partners.pin_blocks import iso1_block

BUSY: Final = HTTPStatus.SERVICE_UNAVAILABLE
#: What a HostedError says when an answer has the right status and cannot be used.
UNREADABLE: Final = "unreadable answer"


class HostedError(Exception):
    """The service refused a call, or gave an answer that an app cannot use."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status} {message}")
        self.status = status


@dataclass(frozen=True)
class HostedConfig:
    """What an app holds, and the access token of its cardholder, in a file."""

    base_url: str
    ca: Path
    client_key: str
    access_token_file: Path
    issuer_id: str
    card_id: str

    def access_token(self) -> str:
        """Read it; it is another one after each start of the demo."""
        return self.access_token_file.read_text().strip()


@dataclass(frozen=True)
class ControlToken:
    """A control token, and the address that it is good for."""

    value: str
    url: str


@dataclass(frozen=True)
class PageSession:
    """What the script of an open page holds."""

    session: str
    control_token: str
    grant_id: str
    key: Mapping[str, str]

    def submission(self, pin: str) -> dict[str, str]:
        """Say what the script sends: only the vault can open the PIN."""
        named = {"grantId": self.grant_id, "controlToken": self.control_token}
        jwe = encrypt({**named, "block": iso1_block(pin)}, self.key)
        return {"session": self.session, "controlToken": self.control_token, "jwe": jwe}


def load(sandbox: Path) -> HostedConfig:
    """Read *sandbox*; its paths start at the repository's root."""
    content = json.loads(sandbox.read_text())
    root = sandbox.absolute().parent.parent
    hosted = content["hosted"]
    return HostedConfig(
        base_url=hosted["baseUrl"],
        ca=root / content["ca"],
        client_key=hosted["clientKey"],
        access_token_file=root / hosted["accessTokenFile"],
        issuer_id=hosted["issuerId"],
        card_id=hosted["cardId"],
    )


class HostedClient(Client):
    """An app's calls for one cardholder, and those of the page's script."""

    def __init__(self, config: HostedConfig, transport: httpx.BaseTransport | None = None) -> None:
        tls = ssl.create_default_context(cafile=config.ca)
        super().__init__(config.base_url, transport or httpx.HTTPTransport(verify=tls))
        self._config = config

    def card(self) -> dict[str, Any]:
        """Return the cardholder's card."""
        return json_object(_expect(self._call("GET", "/v1/card/status"), 200))

    def ask_to_view(self) -> ControlToken:
        """Ask for an image of the PIN."""
        return self._ask("/v1/card/pin/token", "imageUrl")

    def ask_to_set(self) -> ControlToken:
        """Ask for a page to set the PIN on."""
        return self._ask("/v1/card/set-pin/token", "hostedPageUrl")

    def image(self, control_token: ControlToken) -> httpx.Response:
        """Fetch the image as a browser does, without a bearer, whatever becomes of it."""
        return self._send("GET", control_token.url)

    def page(self, control_token: ControlToken) -> httpx.Response:
        """Load the page."""
        return _expect(self._send("GET", control_token.url), 200)

    def open(self, control_token: ControlToken) -> PageSession:
        """Consume the control token for a session, as the page's script does."""
        response = self._send("POST", "/pin-direct/session", json={"token": control_token.value})
        answer = json_object(_expect(response, 200))
        try:
            return PageSession(
                answer["session"], control_token.value, answer["grantId"], answer["key"]
            )
        except KeyError:
            raise HostedError(200, UNREADABLE) from None

    def submit(self, opened: PageSession, pin: str) -> None:
        """Send the PIN as the page's script does."""
        _expect(self._send("POST", "/pin-direct/submit", json=opened.submission(pin)), 204)

    def _ask(self, path: str, member: str) -> ControlToken:
        answer = json_object(_expect(self._call("POST", path), 200))
        try:
            return ControlToken(answer["token"], answer[member])
        except KeyError:
            raise HostedError(200, UNREADABLE) from None

    def _call(self, method: str, path: str) -> httpx.Response:
        """Call; where the service asks to be called again later, do."""
        bearer = f"Bearer {self._config.access_token()}"
        headers = {"x-client-key": self._config.client_key, "authorization": bearer}
        give_up_at = time.monotonic() + TIMEOUT_SECONDS
        response = self._send(method, path, headers=headers)
        while response.status_code == BUSY and time.monotonic() < give_up_at:
            time.sleep(float(response.headers.get("Retry-After", 1)))
            response = self._send(method, path, headers=headers)
        return response


def _expect(response: httpx.Response, status: int) -> httpx.Response:
    if response.status_code != status:
        message = str(json_object(response).get("message", UNREADABLE))
        raise HostedError(response.status_code, message)
    return response

"""A client that simulates an issuer's server at the pincontrol face, and the script of its page.

The server holds the password and no PIN; the page's script, on the cardholder's device, holds the
PIN and no password.
"""

import json
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
from jwcrypto.jwk import JWK

from cms.sandbox.partners.client import Client, json_object
from cms.sandbox.partners.hosted_app import PageSession
from cms.sandbox.partners.jwe import decrypt

VIEW: Final = "VIEW_PIN"
SET: Final = "SET_PIN"
PUBLIC_MEMBERS: Final = ("kty", "crv", "x", "y")
#: What a PinControlError says when an answer has the right status and cannot be used.
UNREADABLE: Final = "UNREADABLE_ANSWER"


class PinControlError(Exception):
    """The service refused a call, or gave an answer that cannot be used."""

    def __init__(self, status: int, error_type: str, error_code: str = "") -> None:
        super().__init__(f"{status} {error_type} {error_code}".rstrip())
        self.status = status
        self.error_type = error_type


@dataclass(frozen=True)
class PinControlConfig:
    """What an issuer's server holds; its password is in a file."""

    base_url: str
    ca: Path
    user: str
    password_file: Path
    frame_key: str
    audit_user: str
    personalised_plastic_id: str
    unpersonalised_plastic_id: str

    def password(self) -> str:
        """Read the password."""
        return self.password_file.read_text().strip()


@dataclass(frozen=True)
class ControlId:
    """An id, and the address to which a webview posts it."""

    id: str
    pin_url: str


def load(sandbox: Path) -> PinControlConfig:
    """Read *sandbox*; its paths start at the repository's root."""
    content = json.loads(sandbox.read_text())
    root = sandbox.absolute().parent.parent
    pincontrol = content["pincontrol"]
    return PinControlConfig(
        base_url=pincontrol["baseUrl"],
        ca=root / content["ca"],
        user=pincontrol["user"],
        password_file=root / pincontrol["passwordFile"],
        frame_key=pincontrol["frameKey"],
        audit_user=pincontrol["auditUser"],
        personalised_plastic_id=pincontrol["producedPlasticId"],
        unpersonalised_plastic_id=pincontrol["unproducedPlasticId"],
    )


class PinControlClient(Client):
    """The calls of an issuer's server, and those of the page's script."""

    def __init__(
        self, config: PinControlConfig, transport: httpx.BaseTransport | None = None
    ) -> None:
        tls = ssl.create_default_context(cafile=config.ca)
        super().__init__(config.base_url, transport or httpx.HTTPTransport(verify=tls))
        self.config = config

    def ask(self, plastic_id: str, scope: str) -> httpx.Response:
        """Ask for a control id, as the server does; returns whatever the answer is."""
        return self._post(
            f"/pincontrol/v2/plastic/{plastic_id}",
            params={"auditUser": self.config.audit_user},
            auth=(self.config.user, self.config.password()),
            json={"scope": scope},
        )

    def control_id(self, plastic_id: str, scope: str) -> ControlId:
        """Get a control id."""
        answer = json_object(_expect(self.ask(plastic_id, scope), 201))
        try:
            return ControlId(answer["id"], answer["pinURL"])
        except KeyError:
            raise PinControlError(201, UNREADABLE) from None

    def webview(self, control: ControlId) -> httpx.Response:
        """Load the page as a webview does."""
        return _expect(self._post(control.pin_url, data={"controlId": control.id}), 200)

    def open(self, control: ControlId) -> PageSession:
        """Consume an id for a session to set the PIN, as the page's script does."""
        response = self._post("/pincontrol/page/session", json=_consumed(control))
        answer = json_object(_expect(response, 200))
        try:
            return PageSession(answer["session"], control.id, answer["grantId"], answer["key"])
        except KeyError:
            raise PinControlError(200, UNREADABLE) from None

    def submit(self, opened: PageSession, pin: str) -> None:
        """Send the PIN as the page's script does."""
        _expect(self._post("/pincontrol/page/submit", json=opened.submission(pin)), 204)

    def view(self, control: ControlId) -> httpx.Response:
        """Consume an id for an image, as the page's script does."""
        return _expect(self._post("/pincontrol/page/view", json=_consumed(control)), 200)

    def digits(self, control: ControlId, image: httpx.Response) -> str:
        """Consume the session of an *image* for the PIN as text, which only this call can open."""
        key = JWK.generate(kty="EC", crv="P-256")
        members: dict[str, str] = key.export_private(as_dict=True)
        public = {name: members[name] for name in PUBLIC_MEMBERS}
        session = image.headers.get("X-Pin-Session", "")
        body = {"session": session, "controlToken": control.id, "key": public}
        response = self._post("/pincontrol/page/digits", json=body)
        answer = json_object(_expect(response, 200))
        try:
            content = decrypt(answer["jwe"], JWK(**members | {"kid": key.thumbprint()}))
            if content["grantId"] == image.headers["X-Pin-Grant"]:
                return str(content["digits"])
        except (KeyError, TypeError, ValueError):
            pass
        raise PinControlError(200, UNREADABLE)

    def _post(self, path: str, **kwargs: Any) -> httpx.Response:  # noqa: ANN401 - httpx's
        return self._send("POST", path, **kwargs)


def _consumed(control: ControlId) -> dict[str, str | None]:
    """Say what the script of a page in a webview says of its id; in a frame there is a key."""
    return {"controlId": control.id, "key": None}


def _expect(response: httpx.Response, status: int) -> httpx.Response:
    if response.status_code != status:
        error = json_object(response)
        error_type, error_code = error.get("errorType", UNREADABLE), error.get("errorCode", "")
        raise PinControlError(response.status_code, str(error_type), str(error_code))
    return response

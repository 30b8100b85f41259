"""A client that simulates Thales D1: it calls the issuer as D1 does, and trusts no answer.

Source: Thales D1 "PIN Management API" and "D1 OAuth API" (outbound).
"""

import json
import ssl
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
from jwcrypto.jwk import JWK

from cms.sandbox.partners.client import Client, json_object
from cms.sandbox.partners.jwe import decrypt, encrypt
from cms.sandbox.partners.pin_blocks import iso0_block, iso0_pin

#: An access token is not used in its last seconds.
MARGIN_SECONDS: Final = 30
#: What a D1Error says when an answer has the right status and cannot be used.
UNREADABLE: Final = "UNREADABLE_ANSWER"


class D1Error(Exception):
    """The service refused a call, or gave an answer that D1 cannot use."""

    def __init__(self, status: int, error_code: str) -> None:
        super().__init__(f"{status} {error_code}")
        self.status = status
        self.error_code = error_code


@dataclass(frozen=True)
class D1Config:
    """What D1 holds for one issuer. Secrets are paths."""

    base_url: str
    ca: Path
    client_cert: Path
    client_key: Path
    client_id: str
    client_secret_file: Path
    token_path: str
    issuer_id: str
    issuer_jwk: Mapping[str, str]
    d1_private_jwk_file: Path


def load(sandbox: Path, issuer_index: int = 0) -> D1Config:
    """Read one issuer's configuration from *sandbox*; its paths start at the repository's root."""
    content = json.loads(sandbox.read_text())
    root = sandbox.absolute().parent.parent
    issuer = content["issuers"][issuer_index]
    d1 = issuer["d1"]
    return D1Config(
        base_url=content["baseUrl"],
        ca=root / content["ca"],
        client_cert=root / d1["clientCert"],
        client_key=root / d1["clientKey"],
        client_id=d1["clientId"],
        client_secret_file=root / d1["clientSecretFile"],
        token_path=d1["tokenPath"],
        issuer_id=issuer["issuerId"],
        issuer_jwk=d1["issuerJwk"],
        d1_private_jwk_file=root / d1["d1PrivateJwkFile"],
    )


class D1Client(Client):
    """D1's calls on one issuer, over mutual TLS."""

    def __init__(self, config: D1Config, transport: httpx.BaseTransport | None = None) -> None:
        super().__init__(config.base_url, transport or httpx.HTTPTransport(verify=_tls(config)))
        self._config = config
        self._private_jwk = JWK.from_json(config.d1_private_jwk_file.read_text())
        self._access_token = ""
        self._access_token_until_s = 0.0

    def access_token(self) -> str:
        """Return an access token, the same until 30 seconds before it expires."""
        if time.monotonic() < self._access_token_until_s:
            return self._access_token
        return self.new_access_token()

    def new_access_token(self) -> str:
        """Ask for an access token with the client credentials grant (RFC 6749, 4.4)."""
        secret = self._config.client_secret_file.read_text().strip()
        asked_s = time.monotonic()
        response = self._send(
            "POST",
            self._config.token_path,
            auth=(self._config.client_id, secret),
            data={"grant_type": "client_credentials"},
        )
        answer = json_object(expect(response, 200))
        try:
            # Thales publishes expires_in as a string, RFC 6749 as a number.
            lifetime_s = int(answer["expires_in"])
            self._access_token = str(answer["access_token"])
        except (KeyError, TypeError, ValueError):
            raise D1Error(200, UNREADABLE) from None
        self._access_token_until_s = asked_s + lifetime_s - MARGIN_SECONDS
        return self._access_token

    def activate(self, card_id: str) -> None:
        """Report the physical card as activated."""
        path = f"/cms/api/v1/issuers/{self._config.issuer_id}/physicalCards/{card_id}/activate"
        expect(self.request("POST", path), 204)

    def counter(self, card_id: str) -> int:
        """Return the card's PIN change counter."""
        path = f"{self._pin_path(card_id)}/changeCounter"
        answer = json_object(expect(self.request("GET", path), 200))
        if type(answer.get("changeCounter")) is not int:
            raise D1Error(200, UNREADABLE)
        return int(answer["changeCounter"])

    def set_pin(self, card_id: str, pin: str, pan: str) -> str:
        """Set the PIN; returns the JWE that was sent, so that it can be sent again."""
        jwe = encrypt({"pinBlock": iso0_block(pin, pan)}, self._config.issuer_jwk)
        expect(self.put(card_id, jwe), 204)
        return jwe

    def set_pin_seccos(self, card_id: str, payload: Mapping[str, object], type_: str) -> str:
        """Set the PIN with a SECCOS *payload*; returns the JWE that was sent."""
        jwe = encrypt(payload, self._config.issuer_jwk)
        expect(self.put(card_id, jwe, type_), 204)
        return jwe

    def put(self, card_id: str, jwe: str, type_: str = "ISO0") -> httpx.Response:
        """Send *jwe* as the card's new PIN, whatever it is; returns whatever the answer is."""
        body = {"type": type_, "encryptedPinBlock": jwe}
        return self.request("PUT", self._pin_path(card_id), json=body)

    def get_pin(self, card_id: str, pan: str) -> str:
        """Return the card's PIN, decrypted with D1's key and taken out of its block."""
        answer = json_object(expect(self.request("GET", self._pin_path(card_id)), 200))
        try:
            content = decrypt(answer["encryptedPinBlock"], self._private_jwk)
            return iso0_pin(content["pinBlock"], pan)
        except (KeyError, TypeError, ValueError):
            raise D1Error(200, UNREADABLE) from None

    def request(self, method: str, path: str, **kwargs: Any) -> httpx.Response:  # noqa: ANN401 - httpx's
        """Send an authorised call with a correlation id of its own; *kwargs* are httpx's."""
        bearer, correlation_id = f"Bearer {self.access_token()}", str(uuid.uuid4())
        headers = httpx.Headers({"authorization": bearer, "x-correlation-id": correlation_id})
        headers.update(kwargs.pop("headers", None))
        return self._send(method, path, headers=headers, **kwargs)

    def _pin_path(self, card_id: str) -> str:
        return f"/cms/api/v1/issuers/{self._config.issuer_id}/cards/{card_id}/pin"


def _tls(config: D1Config) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=config.ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(config.client_cert, config.client_key)
    return context


def expect(response: httpx.Response, status: int) -> httpx.Response:
    """Return *response* if it has this *status*, else raise it as a D1Error."""
    if response.status_code != status:
        error_code = str(json_object(response).get("errorCode", UNREADABLE))
        raise D1Error(response.status_code, error_code)
    return response

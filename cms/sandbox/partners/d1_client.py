"""A client that plays Thales D1: it calls the issuer as D1 does and trusts nothing it gets back.

It imports nothing of this project and has its own ISO-0 and its own JWE, so that a
mistake in the service is not repeated, and hidden, here.

Source: Thales D1 "PIN Management API" and "D1 OAuth API" (outbound); JWE is RFC 7516
compact, ``ECDH-ES`` and ``A256GCM`` on P-256. On D1's side a clear PIN is at home.
"""

import json
import re
import ssl
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import httpx
from jwcrypto.common import JWException
from jwcrypto.jwe import JWE
from jwcrypto.jwk import JWK

JWE_ALGORITHMS: Final = ["ECDH-ES", "A256GCM"]
PIN: Final = re.compile(r"[0-9]{4,12}")
#: The PIN field of a format-0 block: control 0, length L, PIN, fill F.
PIN_FIELD: Final = re.compile(r"0([4-9A-C])([0-9]{4,12})(F{2,10})")
TIMEOUT_S: Final = 10
TOKEN_MARGIN_S: Final = 30
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
    d1 = content["d1"]
    return D1Config(
        base_url=content["baseUrl"],
        ca=root / content["ca"],
        client_cert=root / d1["clientCert"],
        client_key=root / d1["clientKey"],
        client_id=d1["clientId"],
        client_secret_file=root / d1["clientSecretFile"],
        token_path=d1["tokenPath"],
        issuer_id=content["issuers"][issuer_index]["issuerId"],
        issuer_jwk=d1["issuerJwk"],
        d1_private_jwk_file=root / d1["d1PrivateJwkFile"],
    )


def iso0_block(pin: str, pan: str) -> str:
    """Build the clear ISO 9564-1 format-0 block: 16 hexadecimal digits, upper case.

    Raises:
        ValueError: *pin* is not 4 to 12 digits.
    """
    if not PIN.fullmatch(pin):
        raise ValueError("a PIN is 4 to 12 digits")
    pin_field = f"0{len(pin):X}{pin}".ljust(16, "F")
    return f"{int(pin_field, 16) ^ _pan_field(pan):016X}"


def iso0_pin(block_hex: str, pan: str) -> str:
    """Recover the PIN from a clear format-0 block for *pan*.

    Raises:
        ValueError: it is not such a block.
    """
    if not re.fullmatch(r"[0-9A-F]{16}", block_hex):
        raise ValueError("not a format-0 block")
    match = PIN_FIELD.fullmatch(f"{int(block_hex, 16) ^ _pan_field(pan):016X}")
    if match is None or int(match[1], 16) != len(match[2]):
        raise ValueError("not a format-0 block")
    return match[2]


def _pan_field(pan: str) -> int:
    # The 12 digits left of the check digit, read as hexadecimal: one digit, one nibble.
    return int(pan[-13:-1], 16)


def encrypt(plaintext: Mapping[str, object], jwk: Mapping[str, str]) -> str:
    """Encrypt *plaintext* as JSON to the public key *jwk*; returns a compact JWE."""
    header = {"alg": "ECDH-ES", "enc": "A256GCM", "kid": jwk["kid"]}
    # Only the point: a "use" or "key_ops" of the issuer is no business of this library.
    recipient = JWK(**{member: jwk[member] for member in ("kty", "crv", "x", "y")})
    payload = json.dumps(plaintext).encode()
    jwe = JWE(payload, json.dumps(header), recipient=recipient, algs=JWE_ALGORITHMS)
    return str(jwe.serialize(compact=True))


def decrypt(jwe: str, private_jwk: JWK) -> Any:  # noqa: ANN401 - JSON
    """Open a compact JWE that names *private_jwk* by its kid; returns the JSON inside.

    Raises:
        ValueError: it is for another key, does not open, or does not hold JSON.
    """
    try:
        message = JWE(algs=JWE_ALGORITHMS)
        message.deserialize(jwe)
        if message.jose_header.get("kid") != private_jwk.get("kid"):
            raise ValueError("the JWE is for another key")
        message.decrypt(private_jwk)
    except JWException:
        raise ValueError("the JWE does not open") from None
    return json.loads(message.payload)


class D1Client:
    """D1's calls on one issuer, over one kept-alive connection with mutual TLS.

    Not for several threads. ``last_status`` and ``last_ms`` tell of the newest answer.
    """

    def __init__(self, config: D1Config, transport: httpx.BaseTransport | None = None) -> None:
        self._config = config
        self._private_jwk = JWK.from_json(config.d1_private_jwk_file.read_text())
        self._http = httpx.Client(
            base_url=config.base_url,
            transport=transport or httpx.HTTPTransport(verify=_tls(config)),
            timeout=TIMEOUT_S,
        )
        self._token = ""
        self._token_until_s = 0.0
        self.last_status = 0
        self.last_ms = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def token(self) -> str:
        """Return a bearer, from the cache until 30 seconds before it expires."""
        return self._token if time.monotonic() < self._token_until_s else self.new_token()

    def new_token(self) -> str:
        """Ask for a bearer with the client credentials grant, whatever is cached."""
        secret = self._config.client_secret_file.read_text().strip()
        asked_s = time.monotonic()
        response = self._send(
            "POST",
            self._config.token_path,
            auth=(self._config.client_id, secret),
            data={"grant_type": "client_credentials"},
        )
        answer = _json(expect(response, 200))
        try:
            # Thales publishes expires_in as a string, RFC 6749 as a number.
            lifetime_s = int(answer["expires_in"])
            self._token = str(answer["access_token"])
        except (KeyError, TypeError, ValueError):
            raise D1Error(200, UNREADABLE) from None
        self._token_until_s = asked_s + lifetime_s - TOKEN_MARGIN_S
        return self._token

    def activate(self, card_id: str) -> None:
        """Report the physical card as activated."""
        path = f"/cms/api/v1/issuers/{self._config.issuer_id}/physicalCards/{card_id}/activate"
        expect(self.request("POST", path), 204)

    def counter(self, card_id: str) -> int:
        """Return the card's PIN change counter."""
        path = f"{self._pin_path(card_id)}/changeCounter"
        answer = _json(expect(self.request("GET", path), 200))
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
        answer = _json(expect(self.request("GET", self._pin_path(card_id)), 200))
        try:
            content = decrypt(answer["encryptedPinBlock"], self._private_jwk)
            return iso0_pin(content["pinBlock"], pan)
        except (KeyError, TypeError, ValueError):
            raise D1Error(200, UNREADABLE) from None

    def request(self, method: str, path: str, **kwargs: Any) -> httpx.Response:  # noqa: ANN401 - httpx's
        """Send an authorised call with a correlation id of its own; *kwargs* are httpx's."""
        bearer, correlation_id = f"Bearer {self.token()}", str(uuid.uuid4())
        headers = httpx.Headers({"authorization": bearer, "x-correlation-id": correlation_id})
        headers.update(kwargs.pop("headers", None))
        return self._send(method, path, headers=headers, **kwargs)

    def _pin_path(self, card_id: str) -> str:
        return f"/cms/api/v1/issuers/{self._config.issuer_id}/cards/{card_id}/pin"

    def _send(self, method: str, path: str, **kwargs: Any) -> httpx.Response:  # noqa: ANN401 - httpx's
        started_s = time.perf_counter()
        response = self._http.request(method, path, **kwargs)
        self.last_ms = (time.perf_counter() - started_s) * 1000
        self.last_status = response.status_code
        return response


def _tls(config: D1Config) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=config.ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(config.client_cert, config.client_key)
    return context


def expect(response: httpx.Response, status: int) -> httpx.Response:
    """Return *response* if it has this *status*, else raise it as a D1Error."""
    if response.status_code != status:
        raise D1Error(response.status_code, _error_code(response))
    return response


def _error_code(response: httpx.Response) -> str:
    try:
        return str(_json(response)["errorCode"])
    except (D1Error, KeyError):
        return UNREADABLE


def _json(response: httpx.Response) -> dict[str, Any]:
    try:
        answer = response.json()
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise D1Error(response.status_code, UNREADABLE)
    return answer

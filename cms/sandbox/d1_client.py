"""A client that plays Thales D1: it calls the issuer as D1 does and trusts nothing it gets back.

It imports nothing of this project and has its own ISO-0 and its own JWE, so that a
mistake in the service is not repeated, and hidden, here.

Source: Thales D1 "PIN Management API" and "D1 OAuth API" (outbound); JWE is RFC 7516
compact, ``ECDH-ES`` and ``A256GCM`` on P-256. On D1's side a clear PIN is at home.
"""

import argparse
import getpass
import json
import re
import ssl
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
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


class TranscriptError(Exception):
    """The service did not behave as the transcript says."""


class UsageError(Exception):
    """The person at the terminal asked for something that cannot be done."""


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
        answer = _json(_expect(response, 200))
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
        _expect(self.request("POST", path), 204)

    def counter(self, card_id: str) -> int:
        """Return the card's PIN change counter."""
        path = f"{self._pin_path(card_id)}/changeCounter"
        answer = _json(_expect(self.request("GET", path), 200))
        if type(answer.get("changeCounter")) is not int:
            raise D1Error(200, UNREADABLE)
        return int(answer["changeCounter"])

    def set_pin(self, card_id: str, pin: str, pan: str) -> str:
        """Set the PIN; returns the JWE that was sent, so that it can be sent again."""
        jwe = encrypt({"pinBlock": iso0_block(pin, pan)}, self._config.issuer_jwk)
        _expect(self.put(card_id, jwe), 204)
        return jwe

    def put(self, card_id: str, jwe: str, type_: str = "ISO0") -> httpx.Response:
        """Send *jwe* as the card's new PIN, whatever it is; returns whatever the answer is."""
        body = {"type": type_, "encryptedPinBlock": jwe}
        return self.request("PUT", self._pin_path(card_id), json=body)

    def get_pin(self, card_id: str, pan: str) -> str:
        """Return the card's PIN, decrypted with D1's key and taken out of its block."""
        answer = _json(_expect(self.request("GET", self._pin_path(card_id)), 200))
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


def _expect(response: httpx.Response, status: int) -> httpx.Response:
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


@dataclass(frozen=True)
class Step:
    """One call of the transcript: what was sent, what it shows, never a PIN."""

    call: str
    shows: str
    status: int
    milliseconds: float


def transcript(client: D1Client, card_id: str, pan: str, pins: Sequence[str]) -> Iterator[Step]:
    """Set, read, repeat and change the PIN of one card, checking every answer.

    Args:
        client: D1 for the issuer of the card.
        card_id: the card, inactive or active.
        pan: its PAN.
        pins: two PINs, different and acceptable.

    Raises:
        D1Error: a call was refused.
        TranscriptError: a call was answered and the answer is wrong.
    """
    first, second = pins
    client.new_token()
    yield _step(client, "POST token", "a bearer for the issuer")
    client.activate(card_id)
    yield _step(client, "POST activate", "the card is active")
    before = client.counter(card_id)
    yield _step(client, "GET changeCounter", f"{before}")

    jwe = client.set_pin(card_id, first, pan)
    yield _step(client, "PUT pin", "a PIN is set")
    yield _counted(client, card_id, before + 1)
    yield _read(client, card_id, pan, first)
    _expect(client.put(card_id, jwe), 204)
    yield _step(client, "PUT pin, same JWE", "accepted again")
    yield _counted(client, card_id, before + 1)

    client.set_pin(card_id, second, pan)
    yield _step(client, "PUT pin", "another PIN is set")
    yield _read(client, card_id, pan, second)
    yield _counted(client, card_id, before + 2)
    yield _refused(client, card_id, pan, "1" * len(first))


def _read(client: D1Client, card_id: str, pan: str, pin: str) -> Step:
    if client.get_pin(card_id, pan) != pin:
        raise TranscriptError("GET pin: not the PIN just set")
    return _step(client, "GET pin", "decrypts to the PIN just set")


def _counted(client: D1Client, card_id: str, expected: int) -> Step:
    if client.counter(card_id) != expected:
        raise TranscriptError(f"GET changeCounter: not {expected}")
    return _step(client, "GET changeCounter", f"{expected}")


def _refused(client: D1Client, card_id: str, pan: str, weak_pin: str) -> Step:
    try:
        client.set_pin(card_id, weak_pin, pan)
    except D1Error as error:
        if error.status != 403:  # noqa: PLR2004 - the status of a refusal by policy
            raise
        return _step(client, "PUT pin, weak", f"refused, {error.error_code}")
    raise TranscriptError("PUT pin, weak: accepted")


def _step(client: D1Client, call: str, shows: str) -> Step:
    return Step(call, shows, client.last_status, client.last_ms)


def main(argv: list[str]) -> int:
    """Run one command as D1 and return the exit code."""
    options = _parser().parse_args(argv)
    try:
        _run(options)
    except (D1Error, UsageError, OSError, httpx.TransportError) as error:
        print(f"d1: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="d1", description="Play Thales D1 against the service.")
    parser.add_argument("command", choices=["activate", "set-pin", "get-pin", "counter"])
    parser.add_argument("card_id", metavar="CARD_ID")
    parser.add_argument("--sandbox", metavar="PATH", type=Path, default=Path("var/sandbox.json"))
    parser.add_argument("--issuer", metavar="ISSUER_ID", help="default: the first")
    return parser


def _run(options: argparse.Namespace) -> None:
    issuer_index, pan = _find(options.sandbox, options.issuer, options.card_id)
    with D1Client(load(options.sandbox, issuer_index)) as client:
        match options.command:
            case "activate":
                client.activate(options.card_id)
            case "set-pin":
                client.set_pin(options.card_id, _ask_pin(), pan)
            case "get-pin":
                print(client.get_pin(options.card_id, pan))
            case "counter":
                print(client.counter(options.card_id))


def _find(sandbox: Path, issuer_id: str | None, card_id: str) -> tuple[int, str]:
    """Return the issuer's index in *sandbox* and the card's PAN."""
    for index, issuer in enumerate(json.loads(sandbox.read_text())["issuers"]):
        if issuer_id in (None, issuer["issuerId"]):
            pans = {card["cardId"]: card["pan"] for card in issuer["cards"]}
            if card_id not in pans:
                raise UsageError("no such card in the sandbox")
            return index, pans[card_id]
    raise UsageError("no such issuer in the sandbox")


def _ask_pin() -> str:
    if sys.stdin.isatty():
        pin = getpass.getpass("New PIN: ")
        if getpass.getpass("Again: ") != pin:
            raise UsageError("the two entries differ")
    else:
        pin = sys.stdin.readline().strip()
    if not PIN.fullmatch(pin):
        raise UsageError("a PIN is 4 to 12 digits")
    return pin

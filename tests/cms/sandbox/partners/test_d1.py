"""D1's side, against a small issuer that can be told to misbehave."""

import base64
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest

from cms.sandbox.machine import pki
from cms.sandbox.partners import d1
from cms.sandbox.partners.d1 import D1Client, D1Error
from cms.sandbox.partners.jwe import encrypt
from cms.sandbox.partners.pin_blocks import iso0_block
from cms.sandbox.partners.transcript import TranscriptError, transcript
from tests.cms.sandbox.issuer import (
    CARD_ID,
    D1_KEY,
    ISSUER_ID,
    ISSUER_KEY,
    PAN,
    PINS,
    REFUSAL,
    Issuer,
    public,
)


def test_load_resolves_paths_from_the_root(sandbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = sandbox.parent.parent
    monkeypatch.chdir(root)
    config = d1.load(Path("var/sandbox.json"), 1)

    assert config == d1.load(sandbox, 1)
    assert config.ca == root / "var/pki/ca.pem"
    assert config.d1_private_jwk_file == root / "var/d1.jwk"
    assert config.issuer_id == "digibank02"
    assert config.issuer_jwk["kid"] == "issuer-1"


def test_each_issuer_has_a_certificate_and_credentials_of_its_own(sandbox: Path) -> None:
    first, second = d1.load(sandbox), d1.load(sandbox, 1)
    assert (first.client_cert.name, first.client_id) == ("d1.pem", "d1-client")
    assert (second.client_cert.name, second.client_key.name) == ("d1-2.pem", "d1-2.key")
    assert second.client_id == "digibank02-d1"
    assert second.client_secret_file.read_text() == "0ther\n"


def test_access_token_request(client: D1Client, issuer: Issuer) -> None:
    assert client.access_token() == "token-1"

    (request,) = issuer.requests
    basic = base64.b64encode(b"d1-client:s3cret").decode()
    assert request.url == "https://localhost:8443/authz/d1/v1/oauth2/token"
    assert request.headers["authorization"] == f"Basic {basic}"
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert parse_qs(request.content.decode()) == {"grant_type": ["client_credentials"]}


@pytest.mark.parametrize("lifetime", ["900", 900])
def test_access_token_is_the_same_until_shortly_before_it_expires(
    client: D1Client, issuer: Issuer, monkeypatch: pytest.MonkeyPatch, lifetime: object
) -> None:
    issuer.lifetime = lifetime
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    assert client.access_token() == "token-1"
    clock[0] += 869
    assert client.access_token() == "token-1"
    clock[0] += 1
    assert client.access_token() == "token-2"
    assert client.new_access_token() == "token-3"


def test_calls(client: D1Client, issuer: Issuer) -> None:
    with client:
        client.activate(CARD_ID)
        assert client.counter(CARD_ID) == 0
        jwe = client.set_pin(CARD_ID, "7392", PAN)
        assert client.get_pin(CARD_ID, PAN) == "7392"

    base = f"/cms/api/v1/issuers/{ISSUER_ID}"
    assert [(request.method, request.url.path) for request in issuer.requests[1:]] == [
        ("POST", f"{base}/physicalCards/{CARD_ID}/activate"),
        ("GET", f"{base}/cards/{CARD_ID}/pin/changeCounter"),
        ("PUT", f"{base}/cards/{CARD_ID}/pin"),
        ("GET", f"{base}/cards/{CARD_ID}/pin"),
    ]
    assert json.loads(issuer.requests[3].content) == {"type": "ISO0", "encryptedPinBlock": jwe}
    ids = {request.headers["x-correlation-id"] for request in issuer.requests[1:]}
    assert len(ids) == 4


def test_raw_request_keeps_the_callers_headers(client: D1Client, issuer: Issuer) -> None:
    path = f"/cms/api/v1/issuers/{ISSUER_ID}/cards/{CARD_ID}/pin"
    jwe = encrypt({"pinBlock": iso0_block("7392", PAN)}, public(ISSUER_KEY))
    body = json.dumps({"type": "ISO0", "encryptedPinBlock": jwe})
    client.request("PUT", path, content=body, headers={"X-Correlation-Id": "mine"})

    assert issuer.requests[-1].headers.get_list("x-correlation-id") == ["mine"]
    assert client.put(CARD_ID, jwe, "ISO_0").status_code == 204
    assert json.loads(issuer.requests[-1].content)["type"] == "ISO_0"


@pytest.mark.parametrize(
    ("call", "act"),
    [
        (("POST", "token"), lambda client: client.access_token()),
        (("POST", "activate"), lambda client: client.activate(CARD_ID)),
        (("GET", "changeCounter"), lambda client: client.counter(CARD_ID)),
        (("PUT", "pin"), lambda client: client.set_pin(CARD_ID, "7392", PAN)),
        (("GET", "pin"), lambda client: client.get_pin(CARD_ID, PAN)),
    ],
)
@pytest.mark.parametrize(
    ("answer", "error_code"),
    [
        ({"json": {"errorCode": "CARD_NOT_FOUND", "error": "no"}}, "CARD_NOT_FOUND"),
        ({"json": {"detail": "no"}}, "UNREADABLE_ANSWER"),
        ({"json": ["no"]}, "UNREADABLE_ANSWER"),
        ({"text": "<html>"}, "UNREADABLE_ANSWER"),
        ({"content": b"\xff"}, "UNREADABLE_ANSWER"),
    ],
)
def test_refusal(
    client: D1Client,
    issuer: Issuer,
    *,
    call: tuple[str, str],
    act: Callable[[D1Client], object],
    answer: dict[str, Any],
    error_code: str,
) -> None:
    issuer.answers[call] = httpx.Response(404, **answer)

    with pytest.raises(D1Error) as caught:
        act(client)

    assert (caught.value.status, caught.value.error_code) == (404, error_code)
    assert str(caught.value) == f"404 {error_code}"


@pytest.mark.parametrize(
    ("call", "body"),
    [
        (("POST", "token"), {"access_token": "t"}),
        (("POST", "token"), {"access_token": "t", "expires_in": "soon"}),
        (("GET", "changeCounter"), {}),
        (("GET", "changeCounter"), {"changeCounter": "1"}),
        (("GET", "changeCounter"), {"changeCounter": True}),
        (("GET", "pin"), {}),
        (("GET", "pin"), {"encryptedPinBlock": 1}),
        (("GET", "pin"), {"encryptedPinBlock": "a.b.c.d.e"}),
        (("GET", "pin"), {"encryptedPinBlock": encrypt({}, public(D1_KEY))}),
        (
            ("GET", "pin"),
            {"encryptedPinBlock": encrypt({"pinBlock": 1}, public(D1_KEY))},
        ),
        (
            ("GET", "pin"),
            {"encryptedPinBlock": encrypt({"pinBlock": "0" * 16}, public(D1_KEY))},
        ),
    ],
)
def test_answer_that_d1_cannot_use(
    client: D1Client, issuer: Issuer, call: tuple[str, str], body: object
) -> None:
    issuer.answers[call] = httpx.Response(200, json=body)
    act = client.counter if call[1] == "changeCounter" else lambda c: client.get_pin(c, PAN)

    with pytest.raises(D1Error, match="200 UNREADABLE_ANSWER"):
        act(CARD_ID)


@pytest.mark.parametrize(
    "jwk",
    [
        {**public(D1_KEY), "kid": "d1-2"},
        {**public(ISSUER_KEY), "kid": "d1-1"},
    ],
)
def test_pin_for_another_key_is_refused(
    client: D1Client, issuer: Issuer, jwk: Mapping[str, str]
) -> None:
    issuer.encrypts_to = jwk
    client.set_pin(CARD_ID, "7392", PAN)

    with pytest.raises(D1Error, match="200 UNREADABLE_ANSWER"):
        client.get_pin(CARD_ID, PAN)


def test_transcript(client: D1Client) -> None:
    client.access_token()
    steps = list(transcript(client, CARD_ID, PAN, PINS))

    assert [(step.call, step.shows, step.status) for step in steps] == [
        ("POST oauth2/token", "an access token for the issuer", 200),
        ("POST activate", "the card is active", 204),
        ("GET changeCounter", "0", 200),
        ("PUT pin", "a PIN is set", 204),
        ("GET changeCounter", "1", 200),
        ("GET pin", "decrypts to the PIN just set", 200),
        ("PUT pin, same JWE", "accepted again", 204),
        ("GET changeCounter", "1", 200),
        ("PUT pin", "another PIN is set", 204),
        ("GET pin", "decrypts to the PIN just set", 200),
        ("GET changeCounter", "2", 200),
        ("PUT pin, weak", "refused, PIN_CHANGE_FORBIDDEN", 403),
    ]
    assert all(step.milliseconds > 0 for step in steps)
    shown = repr([replace(step, milliseconds=0) for step in steps])
    assert not any(pin in shown for pin in (*PINS, "1111", PAN))


@pytest.mark.parametrize(
    ("switch", "message"),
    [
        ("forgets_the_new_pin", "GET pin: not the PIN just set"),
        ("counts_replays", "GET changeCounter: not 1"),
        ("counts_twice", "GET changeCounter: not 1"),
        ("accepts_weak_pins", "PUT pin, weak: accepted"),
    ],
)
def test_transcript_finds(client: D1Client, issuer: Issuer, switch: str, message: str) -> None:
    setattr(issuer, switch, True)

    with pytest.raises(TranscriptError, match=f"^{message}$"):
        list(transcript(client, CARD_ID, PAN, PINS))


def test_transcript_stops_at_a_refusal(client: D1Client, issuer: Issuer) -> None:
    issuer.answers["POST", "activate"] = httpx.Response(403, json=REFUSAL)
    steps = transcript(client, CARD_ID, PAN, PINS)

    assert next(steps).status == 200
    with pytest.raises(D1Error, match="403 PIN_CHANGE_FORBIDDEN"):
        next(steps)


@pytest.fixture(name="tls_issuer")
def _tls_issuer(tmp_path: Path) -> Iterator[tuple[int, list[tuple[int, str]]]]:
    """Serve on mutual TLS; yields the port, and each call's client port and certificate name."""
    calls: list[tuple[int, str]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            assert isinstance(self.connection, ssl.SSLSocket)
            certificate: Any = self.connection.getpeercert()
            calls.append((self.client_address[1], certificate["subject"][-1][0][1]))
            answer = b'{"access_token": "t", "expires_in": "900", "changeCounter": 7}'
            self.send_response(200)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST = _answer  # noqa: N815 - the library's names

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    made = pki.create(tmp_path / "var" / "pki")
    pki.issue_client(tmp_path / "var" / "pki", "d1", "d1.sandbox.test", "Thales D1 sandbox")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=made.ca.certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(made.server.certificate, made.server.key)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_port, calls
        server.shutdown()
        thread.join()


def test_one_connection_with_the_client_certificate(
    sandbox: Path, tls_issuer: tuple[int, list[tuple[int, str]]]
) -> None:
    port, calls = tls_issuer
    config = replace(d1.load(sandbox), base_url=f"https://127.0.0.1:{port}")

    with D1Client(config) as client:
        assert [client.counter(CARD_ID) for _ in range(3)] == [7, 7, 7]

    assert len(calls) == 4
    assert len(set(calls)) == 1
    assert calls[0][1] == "d1.sandbox.test"

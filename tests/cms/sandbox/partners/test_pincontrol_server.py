"""The client that simulates an issuer's server: what it sends, and that no wrong answer passes."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from jwcrypto.jwe import JWE
from jwcrypto.jwk import JWK

from cms.sandbox.machine import pki
from cms.sandbox.partners.d1 import D1Client
from cms.sandbox.partners.hosted_app import HostedClient, HostedConfig
from cms.sandbox.partners.jwe import encrypt
from cms.sandbox.partners.pin_blocks import iso0_block
from cms.sandbox.partners.pincontrol_server import (
    SET,
    VIEW,
    ControlId,
    PinControlClient,
    PinControlError,
    load,
)
from cms.sandbox.partners.transcript import PNG, TranscriptError, pincontrol_transcript
from tests.cms.sandbox.issuer import CARD_ID, PAN, PINS, Issuer

URL = "https://pins.test"
PERSONALISED, UNPERSONALISED = "9002", "9003"
ASK, PERSONALISED_ASK = (
    f"/pincontrol/v2/plastic/{each}" for each in (UNPERSONALISED, PERSONALISED)
)
SESSION, SUBMIT, VIEWED, DIGITS = (
    f"/pincontrol/page/{verb}" for verb in ("session", "submit", "view", "digits")
)
SHOWN = httpx.Response(
    200,
    content=PNG,
    headers={"X-Pin-Result": "shown", "X-Pin-Session": "v13w", "X-Pin-Grant": "gr4nt"},
)
CONTROL = ControlId("1d", f"{URL}/pincontrol/pin")


def refusal(status: int, code: str) -> httpx.Response:
    error = {"errorType": "DYNAMIC_VALIDATION_ERROR", "errorCode": code}
    return httpx.Response(status, json=error)


ENDED = refusal(410, "CONTROL_ENDED")


class Service:
    """Answers as the pincontrol and the hosted face do, or as it is told."""

    def __init__(self) -> None:
        self.key = JWK.generate(kty="EC", crv="P-256", kid="page")
        self.seen: list[httpx.Request] = []
        self.views = iter((SHOWN, ENDED))
        self.grant_id = "gr4nt"
        control = {"id": "1d", "pinURL": f"{URL}/pincontrol/pin", "pinFrameURL": f"{URL}/frame"}
        opened = {
            "session": "s3ss10n",
            "grantId": "gr4nt",
            "key": self.key.export_public(as_dict=True),
        }
        control_token = {"token": "t0k3n", "imageUrl": f"{URL}/details-image"}
        self.answers = {
            ASK: httpx.Response(201, json=control),
            PERSONALISED_ASK: refusal(403, "CARD_STATE_FORBIDDEN"),
            "/pincontrol/pin": httpx.Response(200, html="<!DOCTYPE html>"),
            SESSION: httpx.Response(200, json=opened),
            SUBMIT: httpx.Response(204),
            "/v1/card/pin/token": httpx.Response(200, json=control_token),
            "/details-image": SHOWN,
        }

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        path = request.url.path
        if path == VIEWED:
            return next(self.views)
        return self.digits(request) if path == DIGITS else self.answers[path]

    def digits(self, request: httpx.Request) -> httpx.Response:
        key = json.loads(request.content)["key"]
        named = {**key, "kid": JWK(**key).thumbprint()}
        jwe = encrypt({"grantId": self.grant_id, "digits": PINS[0]}, named)
        return httpx.Response(200, json={"jwe": jwe})


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def server(tmp_path: Path, service: Service) -> Iterator[PinControlClient]:
    var = tmp_path / "server" / "var"
    pki.create(var / "pki")
    (var / "password").write_text("p4ssw0rd\n")
    pincontrol = {
        "baseUrl": URL,
        "user": "server-user",
        "passwordFile": "var/password",
        "frameKey": "frame-key",
        "auditUser": "clerk 7",
        "issuerId": "digibank01",
        "producedPlasticId": PERSONALISED,
        "unproducedPlasticId": UNPERSONALISED,
    }
    content = {"ca": "var/pki/ca.pem", "pincontrol": pincontrol}
    (var / "sandbox.json").write_text(json.dumps(content))
    config = load(var / "sandbox.json")
    with PinControlClient(config, httpx.MockTransport(service)) as client:
        yield client


@pytest.fixture
def app(server: PinControlClient, service: Service) -> Iterator[HostedClient]:
    # Any file will do for the access token.
    config = HostedConfig(
        *(URL, server.config.ca, "app-key", server.config.password_file, "digibank01", CARD_ID)
    )
    with HostedClient(config, httpx.MockTransport(service)) as client:
        yield client


def test_a_server_shows_its_password_and_who_asks(
    server: PinControlClient, service: Service
) -> None:
    assert server.control_id(UNPERSONALISED, VIEW).pin_url == f"{URL}/pincontrol/pin"
    (sent,) = service.seen
    scheme, _, credentials = sent.headers["authorization"].partition(" ")
    assert (scheme, base64.b64decode(credentials)) == ("Basic", b"server-user:p4ssw0rd")
    assert dict(sent.url.params) == {"auditUser": "clerk 7"}
    assert json.loads(sent.content) == {"scope": "VIEW_PIN"}


def test_a_page_shows_no_password(server: PinControlClient, service: Service) -> None:
    control = server.control_id(UNPERSONALISED, SET)
    server.webview(control)
    assert service.seen[-1].content == b"controlId=1d"
    server.submit(server.open(control), PINS[0])
    server.digits(control, server.view(control))
    assert not any("authorization" in request.headers for request in service.seen[1:])


def test_a_pin_reaches_the_vaults_key_only_and_names_its_page(
    server: PinControlClient, service: Service
) -> None:
    server.submit(server.open(server.control_id(UNPERSONALISED, SET)), "4071")
    jwe = JWE(algs=["ECDH-ES", "A256GCM"])
    sent = json.loads(service.seen[-1].content)
    jwe.deserialize(sent["jwe"], service.key)
    inside = json.loads(jwe.payload)
    assert (sent["session"], sent["controlToken"]) == ("s3ss10n", "1d")
    assert (inside["grantId"], inside["controlToken"]) == ("gr4nt", "1d")
    assert inside["block"].startswith("144071")


def test_the_key_that_digits_come_to_is_another_each_time_and_its_secret_stays(
    server: PinControlClient, service: Service
) -> None:
    assert [server.digits(CONTROL, SHOWN) for _ in range(2)] == [PINS[0]] * 2
    sent = [json.loads(request.content) for request in service.seen]
    assert {(one["session"], one["controlToken"]) for one in sent} == {("v13w", "1d")}
    first, second = (one["key"] for one in sent)
    assert set(first) == {"kty", "crv", "x", "y"}
    assert first != second


def test_digits_of_another_grant_are_not_believed(
    server: PinControlClient, service: Service
) -> None:
    service.grant_id = "another"
    with pytest.raises(PinControlError, match="200 UNREADABLE"):
        server.digits(CONTROL, SHOWN)


@pytest.mark.parametrize("body", [b"no JSON", b"[]", b"{}"])
@pytest.mark.parametrize("path", [ASK, SESSION])
def test_an_answer_that_cannot_be_read_is_an_error(
    server: PinControlClient, service: Service, path: str, body: bytes
) -> None:
    status = service.answers[path].status_code
    service.answers[path] = httpx.Response(status, content=body)
    with pytest.raises(PinControlError, match=f"{status} UNREADABLE"):
        server.open(server.control_id(UNPERSONALISED, SET))


def test_the_transcript_ends_with_one_pin_at_three_faces(
    server: PinControlClient, app: HostedClient, client: D1Client, issuer: Issuer
) -> None:
    issuer.block = iso0_block(PINS[0], PAN)
    steps = list(pincontrol_transcript(server, app, client, CARD_ID, PAN, PINS[0]))
    assert [step.status for step in steps] == [
        *(403, 201, 200, 200, 204),
        *(201, 200, 200, 410),
        *(200, 200, 200),
    ]
    said = [(step.call, step.shows) for step in steps]
    assert not any(pin in repr(said) for pin in PINS)


def test_the_transcript_finds_that_a_face_has_another_pin(
    server: PinControlClient, app: HostedClient, client: D1Client, issuer: Issuer, service: Service
) -> None:
    issuer.block = iso0_block(PINS[1], PAN)
    with pytest.raises(TranscriptError, match="not the PIN set at pincontrol"):
        list(pincontrol_transcript(server, app, client, CARD_ID, PAN, PINS[0]))
    service.views = iter((SHOWN,))
    with pytest.raises(TranscriptError, match="not the PIN just set"):
        list(pincontrol_transcript(server, app, client, CARD_ID, PAN, PINS[1]))


def test_the_transcript_finds_that_a_personalised_plastic_takes_a_pin(
    server: PinControlClient, app: HostedClient, client: D1Client, service: Service
) -> None:
    service.answers[PERSONALISED_ASK] = service.answers[ASK]
    with pytest.raises(TranscriptError, match="accepted"):
        list(pincontrol_transcript(server, app, client, CARD_ID, PAN, PINS[0]))


def test_the_transcript_finds_that_an_id_shows_a_pin_twice(
    server: PinControlClient, app: HostedClient, client: D1Client, service: Service
) -> None:
    service.views = iter((SHOWN, SHOWN))
    with pytest.raises(TranscriptError, match="same id: accepted"):
        list(pincontrol_transcript(server, app, client, CARD_ID, PAN, PINS[0]))

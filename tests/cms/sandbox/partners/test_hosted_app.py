"""The client that simulates an app: what it sends, and that it believes no wrong answer."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from jwcrypto.jwe import JWE
from jwcrypto.jwk import JWK

from cms.sandbox.machine import pki
from cms.sandbox.partners.d1 import D1Client
from cms.sandbox.partners.hosted_app import HostedClient, HostedError, load
from cms.sandbox.partners.pin_blocks import iso0_block
from cms.sandbox.partners.transcript import PNG, TranscriptError, hosted_transcript
from tests.cms.sandbox.issuer import CARD_ID, PAN, PINS, Issuer

URL = "https://pins.test"
IMAGE = "/details-image"
SUBMIT = "/pin-direct/submit"


class Service:
    """Answers as the hosted face does, or as it is told."""

    def __init__(self) -> None:
        self.key = JWK.generate(kty="EC", crv="P-256", kid="page")
        public = self.key.export_public(as_dict=True)
        opened = {"session": "s3ss10n", "grantId": "gr4nt", "key": public}
        self.images = iter((answer(200, "shown"), answer(410, "ended")))
        self.seen: list[httpx.Request] = []
        self.busy = 0
        """How many calls are told to come again later."""
        self.answers = {
            "/v1/card/status": httpx.Response(200, json={"id": CARD_ID}),
            "/v1/card/pin/token": control_token("imageUrl", IMAGE),
            "/v1/card/set-pin/token": control_token("hostedPageUrl", "/pin-direct/set"),
            "/pin-direct/set": httpx.Response(200, html="<!DOCTYPE html>"),
            "/pin-direct/session": httpx.Response(200, json=opened),
            SUBMIT: httpx.Response(204),
        }

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        if self.busy > 0:
            self.busy -= 1
            return httpx.Response(503, headers={"Retry-After": "0"})
        path = request.url.path
        return next(self.images) if path == IMAGE else self.answers[path]


def answer(status: int, result: str) -> httpx.Response:
    return httpx.Response(status, content=PNG, headers={"X-Pin-Result": result})


def control_token(member: str, path: str) -> httpx.Response:
    return httpx.Response(200, json={"token": "t0k3n", member: f"{URL}{path}?token=t0k3n"})


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def app(tmp_path: Path, service: Service) -> Iterator[HostedClient]:
    var = tmp_path / "app" / "var"
    pki.create(var / "pki")
    (var / "access-token").write_text("b34r3r\n")
    hosted = {
        "baseUrl": URL,
        "clientKey": "app-key",
        "accessTokenFile": "var/access-token",
        "issuerId": "demobank01",
        "cardId": CARD_ID,
    }
    (var / "sandbox.json").write_text(json.dumps({"ca": "var/pki/ca.pem", "hosted": hosted}))
    config = load(var / "sandbox.json")
    with HostedClient(config, httpx.MockTransport(service)) as client:
        yield client


def test_an_app_shows_its_key_and_its_cardholders_access_token(
    app: HostedClient, service: Service
) -> None:
    assert app.card() == {"id": CARD_ID}
    headers = service.seen[0].headers
    assert (headers["x-client-key"], headers["authorization"]) == ("app-key", "Bearer b34r3r")


def test_an_app_calls_again_where_the_service_is_busy(app: HostedClient, service: Service) -> None:
    service.busy = 2
    assert app.card() == {"id": CARD_ID}
    assert len(service.seen) == 3


def test_neither_is_shown_where_a_browser_shows_none(app: HostedClient, service: Service) -> None:
    app.image(app.ask_to_view())
    assert not {"x-client-key", "authorization"} & set(service.seen[-1].headers)


def test_a_pin_reaches_the_vaults_key_only_and_names_its_page(
    app: HostedClient, service: Service
) -> None:
    app.submit(app.open(app.ask_to_set()), "4071")
    sent = json.loads(service.seen[-1].content)
    jwe = JWE(algs=["ECDH-ES", "A256GCM"])
    jwe.deserialize(sent["jwe"], service.key)
    inside = json.loads(jwe.payload)
    assert (sent["session"], sent["controlToken"]) == ("s3ss10n", "t0k3n")
    assert (inside["grantId"], inside["controlToken"]) == ("gr4nt", "t0k3n")
    assert inside["block"].startswith("144071")


@pytest.mark.parametrize("body", [b"no JSON", b"[]", b"{}"])
def test_an_answer_that_cannot_be_read_is_an_error(
    app: HostedClient, service: Service, body: bytes
) -> None:
    service.answers["/v1/card/pin/token"] = httpx.Response(200, content=body)
    with pytest.raises(HostedError, match="200 unreadable"):
        app.ask_to_view()


def test_a_refusal_is_an_error_with_its_status(app: HostedClient, service: Service) -> None:
    refusal = httpx.Response(403, json={"message": "Not allowed"})
    service.answers["/v1/card/set-pin/token"] = refusal
    with pytest.raises(HostedError, match="403 Not allowed"):
        app.ask_to_set()


def test_the_transcript_ends_with_what_d1_reads(
    app: HostedClient, client: D1Client, issuer: Issuer
) -> None:
    issuer.block = iso0_block(PINS[0], PAN)
    steps = list(hosted_transcript(app, client, CARD_ID, PAN, PINS[0]))
    assert [step.status for step in steps] == [200, 200, 410, 200, 200, 200, 204, 200]
    said = [(step.call, step.shows) for step in steps]
    assert not any(pin in repr(said) for pin in PINS)


def test_the_transcript_finds_that_d1_reads_another_pin(
    app: HostedClient, client: D1Client, issuer: Issuer
) -> None:
    issuer.block = iso0_block(PINS[1], PAN)
    with pytest.raises(TranscriptError, match="not the PIN set on the page"):
        list(hosted_transcript(app, client, CARD_ID, PAN, PINS[0]))


@pytest.mark.parametrize(
    "images",
    [
        pytest.param([answer(503, "failed")], id="no PIN"),
        pytest.param([httpx.Response(200, headers={"X-Pin-Result": "shown"})], id="no image"),
        pytest.param([answer(200, "shown"), answer(200, "shown")], id="shown twice"),
    ],
)
def test_the_transcript_finds_what_is_wrong_with_an_image(
    app: HostedClient, client: D1Client, service: Service, images: list[httpx.Response]
) -> None:
    service.images = iter(images)
    with pytest.raises(TranscriptError, match="not a PNG that is"):
        list(hosted_transcript(app, client, CARD_ID, PAN, PINS[0]))

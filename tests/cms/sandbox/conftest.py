"""A small issuer, what D1 holds of it, and D1's client over no network."""

import json
from pathlib import Path

import httpx
import pytest

from cms.sandbox.partners import d1
from cms.sandbox.partners.d1 import D1Client
from tests.cms.sandbox.issuer import (
    CARD_ID,
    D1_KEY,
    ISSUER_ID,
    ISSUER_KEY,
    PAN,
    SECCOS_CARD,
    SECCOS_KEYS,
    Issuer,
    public,
)
from tests.crypto.seccos.profiles import profile


@pytest.fixture(name="issuer")
def _issuer() -> Issuer:
    return Issuer()


@pytest.fixture(name="sandbox")
def _sandbox(tmp_path: Path) -> Path:
    var = tmp_path / "var"
    var.mkdir()
    (var / "secret").write_text("s3cret\n")
    (var / "d1.jwk").write_text(D1_KEY.export_private())
    keys = {"pinBlock": SECCOS_KEYS.spe, "prw": SECCOS_KEYS.prw, "mac": SECCOS_KEYS.mac}
    (var / "seccos.json").write_text(json.dumps({name: key.hex() for name, key in keys.items()}))
    d1_side = {
        "clientCert": "var/pki/d1.pem",
        "clientKey": "var/pki/d1.key",
        "clientId": "d1-client",
        "clientSecretFile": "var/secret",
        "tokenPath": "/authz/d1/v1/oauth2/token",
        "issuerJwk": public(ISSUER_KEY),
        "d1PrivateJwkFile": "var/d1.jwk",
    }
    cards = [{"cardId": CARD_ID, "pan": PAN}, {"cardId": "card-3", "pan": SECCOS_CARD.pan}]
    other_side = {
        **d1_side,
        "clientCert": "var/pki/d1-2.pem",
        "clientKey": "var/pki/d1-2.key",
        "clientId": "digibank02-d1",
        "clientSecretFile": "var/secret-2",
    }
    (var / "secret-2").write_text("0ther\n")
    other_cards = [{"cardId": "card-2", "pan": PAN}]
    issuers = [
        {"issuerId": ISSUER_ID, "cards": cards, "d1": d1_side},
        {"issuerId": "digibank02", "cards": other_cards, "d1": other_side},
    ]
    seccos = {
        "issuerId": ISSUER_ID,
        "cardId": "card-3",
        "pan": SECCOS_CARD.pan,
        "psn": SECCOS_CARD.psn,
        "expiry": SECCOS_CARD.expiry,
        "profile": profile({}).model_dump(mode="json"),
        "keysFile": "var/seccos.json",
        "type": "SECCOS",
    }
    content = {
        "baseUrl": "https://localhost:8443",
        "ca": "var/pki/ca.pem",
        "d1": d1_side,
        "issuers": issuers,
        "seccos": seccos,
    }
    path = var / "sandbox.json"
    path.write_text(json.dumps(content))
    return path


@pytest.fixture(name="client")
def _client(sandbox: Path, issuer: Issuer) -> D1Client:
    return D1Client(d1.load(sandbox), httpx.MockTransport(issuer))


@pytest.fixture(name="_stubbed")
def _stub_the_network(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(d1, "_tls", lambda _: True)
    transport = httpx.MockTransport(issuer)
    monkeypatch.setattr(httpx, "HTTPTransport", lambda **_: transport)

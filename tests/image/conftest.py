"""The trial deployment of docker-compose.yml with one issuer, made as the documentation says."""

import json
import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from jwcrypto.jwk import JWK

from cms.faces.d1.oauth import TOKEN_PATH
from cms.sandbox.machine import pki
from cms.sandbox.partners.d1 import D1Client, D1Config
from cms.sandbox.partners.hosted_app import HostedClient, HostedConfig
from cms.sandbox.partners.pincontrol_server import PinControlClient, PinControlConfig
from tests.bearers import bearer, identity_provider
from tests.deployment import ORGANISATION, free_ports, wait_for
from tests.image.podman import Compose, podman, project, why_not

BANK, CARD, HOLDER, PLASTIC = "firstbank1", "card-0001", "holder-1", "90000000000001"
PAN = "4111111111111111"
APP, SERVER = f"{BANK}-app", f"{BANK}-server"
VAULT, WEB, OPERATOR, PROXY, PROMETHEUS = 10001, 10002, 10003, 10004, 10005
HEALTH_CHECKED = ("db", "vault", "web")
SERVED = ("db", "vault", "web", "proxy", "prometheus")
STARTED_ONCE = ("roles", "migrate", "grants", "hsm-init")


@dataclass(frozen=True)
class Bank:
    """An issuer of the deployment, and its partners."""

    compose: Compose
    directory: Path
    """The partners' files, and the certificates."""
    d1_port: int
    cardholder_port: int

    @property
    def pki(self) -> Path:
        return self.directory / "pki"

    def d1(self) -> D1Client:
        jwks = json.loads((self.directory / "d1.jwks").read_text())
        return D1Client(
            D1Config(
                base_url=f"https://localhost:{self.d1_port}",
                ca=self.pki / "ca.pem",
                client_cert=self.pki / "d1.pem",
                client_key=self.pki / "d1.key",
                client_id=BANK,
                client_secret_file=self.compose.manifests / "d1.secret",
                token_path=TOKEN_PATH,
                issuer_id=BANK,
                issuer_jwk=jwks["keys"][0],
                d1_private_jwk_file=self.directory / "d1.jwk",
            )
        )

    def app(self) -> HostedClient:
        file = self.directory / "bearer"
        file.write_text(bearer(HOLDER, BANK))
        url = f"https://localhost:{self.cardholder_port}"
        return HostedClient(HostedConfig(url, self.pki / "ca.pem", APP, file, BANK, CARD))

    def server(self) -> PinControlClient:
        return PinControlClient(
            PinControlConfig(
                base_url=f"https://localhost:{self.cardholder_port}",
                ca=self.pki / "ca.pem",
                user=SERVER,
                password_file=self.compose.manifests / "server.password",
                frame_key=f"{BANK}-frame",
                audit_user="a test",
                personalised_plastic_id=PLASTIC,
                unpersonalised_plastic_id=PLASTIC,
            )
        )


@pytest.fixture(scope="session")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bank]:
    """Everything up, healthy, with one card."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    directory = tmp_path_factory.mktemp("image")
    d1_port, cardholder_port = free_ports(2)
    given = {
        "https://pins.example.com:8444": f"https://localhost:{cardholder_port}",
        "https://pins.example.com": f"https://localhost:{d1_port}",
        '"8443:8443"': f'"127.0.0.1:{d1_port}:8443"',
        '"8444:8444"': f'"127.0.0.1:{cardholder_port}:8444"',
        # Others may have the file's own network up on this machine.
        "10.213.0.": f"10.{128 + secrets.randbelow(127)}.{secrets.randbelow(256)}.",
    }
    with podman() as engine:
        engine.make_images()
        with project(engine, given) as compose:
            made = Bank(compose, directory, d1_port, cardholder_port)
            make_secrets(made)
            begin(made)
            with healthy(compose):
                compose.compose("up", "-d")
                wait_for(lambda: all(compose.is_healthy(name) for name in HEALTH_CHECKED))
                add_issuer(made)
                yield made


def make_secrets(bank: Bank) -> None:
    """Make the files of the table in docs/operating.md."""
    pki.create(bank.pki)
    pki.issue_client(bank.pki, "d1", "d1", ORGANISATION)
    passwords = {name: secrets.token_hex(16) for name in ("service", "owner", "superuser")}
    texts = {
        "hsm-pin": (VAULT, secrets.token_hex(8)),
        "hsm-so-pin": (VAULT, secrets.token_hex(8)),
        "database-url": (WEB, f"postgresql://cms_service:{passwords['service']}@db/cms"),
        "control-token-key": (WEB, secrets.token_hex(32)),
        "database-password": (OPERATOR, passwords["superuser"]),
        "database-owner-url": (OPERATOR, f"postgresql://cms_owner:{passwords['owner']}@db/cms"),
        "server.pem": (PROXY, (bank.pki / "server.pem").read_text()),
        "server.pem.key": (PROXY, (bank.pki / "server.key").read_text()),
        "d1-client-ca.pem": (PROXY, (bank.pki / "ca.pem").read_text()),
        "d1-client.crl": (PROXY, pki.revocation_list(bank.pki).decode()),
    }
    for name, (owner, text) in texts.items():
        file = bank.compose.secrets / name
        file.write_text(text)
        file.chmod(0o400)
        os.chown(file, owner, owner)
    shared = bank.compose.secrets / "database-url"
    os.chown(shared, WEB, WEB)
    shared.chmod(0o440)


def begin(bank: Bank) -> None:
    """Two operators, the trust file, and the minimum versions of the host."""
    compose = bank.compose
    os.chown(compose.manifests, OPERATOR, WEB)
    operators = []
    for name in ("Ann", "Bob"):
        words = ("key", f"{name.lower()}.pem", "--name", name, "--no-passphrase")
        operators.append(json.loads(compose.operator("manifest", *words)))
    trust = {"threshold": 2, "sandbox": True, "operators": operators}
    give(bank, "trust.json", json.dumps(trust))
    compose.operator("manifest", "minimum-versions", "--out", "minimum-versions.json")
    sign(bank, "minimum-versions.json")
    compose.operator("hsm-init")
    compose.operator("hsm", "manifest", "begin", "minimum-versions.json")


def give(bank: Bank, name: str, text: str) -> None:
    """Put a file where the operators' commands find it."""
    file = bank.compose.manifests / name
    file.write_text(text)
    os.chown(file, OPERATOR, WEB)


def sign(bank: Bank, name: str) -> None:
    for key in ("ann.pem", "bob.pem"):
        bank.compose.operator("manifest", "sign", name, "--key", key)


def add_issuer(bank: Bank) -> None:
    """Draft, sign and load a manifest, and bring one card by a feed."""
    compose = bank.compose
    d1_key = JWK.generate(kty="EC", crv="P-256")
    d1_key.update(kid=d1_key.thumbprint())
    (bank.directory / "d1.jwk").write_text(d1_key.export_private())
    (bank.directory / "d1.jwks").write_text(compose.operator("hsm", "jwks", "d1"))
    give(bank, "intake.jwks", compose.operator("hsm", "jwks", "intake"))
    give(bank, "d1.pem", (bank.pki / "d1.pem").read_text())
    words = ("feed-key", "feed.pem", "--name", "cards", "--no-passphrase")
    feed = json.loads(compose.operator("operator", "cards", *words))
    members = {
        "recipient": {"jwk": json.loads(d1_key.export_public())},
        "feeds": [feed],
        "identity_provider": identity_provider(BANK),
    }
    give(bank, "draft.json", compose.operator("manifest", "new", BANK, "--sandbox"))
    changes = [f"{name}={json.dumps(value)}" for name, value in members.items()]
    compose.operator("manifest", "change", "draft.json", *changes, "--out", "draft.json")
    for client in (
        ("add", "draft.json", BANK, "--certificate", "d1.pem", "--secret-file", "d1.secret"),
        ("add-app", "draft.json", APP, "--redirect-origin", "https://app.example"),
        ("add-backend", "draft.json", SERVER, "--password-file", "server.password"),
    ):
        compose.operator("operator", "clients", *client)
    sign(bank, "draft.json")
    compose.operator("operator", "issuers", "add", BANK, "--name", "First bank")
    compose.operator("operator", "manifest", "load", "draft.json", "--host", "pins")
    card = {
        "cardId": CARD,
        "pan": PAN,
        "expiry": "1230",
        "state": "active",
        "plasticId": PLASTIC,
        "cardholder": HOLDER,
        "personalised": False,
    }
    give(bank, "cards.jsonl", json.dumps(card) + "\n")
    key = ("--key", "feed.pem", "--name", "cards")
    to = ("--intake-jwk", "intake.jwks", "--out", "cards.feed")
    compose.operator("operator", "cards", "make-feed", BANK, "cards.jsonl", *key, *to)
    compose.operator("operator", "cards", "import", BANK, "cards.feed")


@contextmanager
def healthy(compose: Compose) -> Iterator[None]:
    """Run the health checks again and again, which systemd does for podman elsewhere."""
    over = threading.Event()

    def check() -> None:
        while not over.wait(1):
            for name in HEALTH_CHECKED:
                compose.is_healthy(name)

    thread = threading.Thread(target=check)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()

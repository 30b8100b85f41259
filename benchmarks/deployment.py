"""A whole deployment in a temporary directory: HSM token, PKI, Postgres, vault and web.

Postgres runs with its defaults, so a commit is on the disk before it is answered. Nothing
listens beyond this machine, and everything ends and goes when the block ends.
"""

import argparse
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final, Self
from urllib.request import urlopen

from cryptography.hazmat.primitives.asymmetric import ec
from jwcrypto.jwk import JWK

from benchmarks.operators import Operators
from benchmarks.processor_time import ProcessorTime
from cms.domain.cards import CardState
from cms.persistence import admin, card_feeds, tables
from cms.persistence.migrate import upgrade
from cms.persistence.tables import sealed_columns
from cms.sandbox.machine import pki
from cms.sandbox.machine.postgres import Postgres
from cms.sandbox.machine.softhsm import SoftHsm
from cms.sandbox.partners import d1_seccos, identity_provider
from cms.sandbox.partners.d1 import D1Config
from cms.sandbox.partners.identity_provider import IdentityProvider
from cms.sandbox.partners.pin_blocks import iso0_block
from cms.sandbox.service import stop
from crypto.jose import jwe
from crypto.jose.jwk import parse_public, public_jwk
from crypto.secret import Secret
from hsm import key_file
from hsm.feed_writer import FeedWriter
from hsm.feeds import CARDS_MAX
from hsm.local import vault_over
from hsm.manifest.client_secrets import hash_secret
from hsm.messages import SocketName
from hsm.pkcs11 import own_keys, shared_keys
from hsm.pkcs11.keys import KeyKind, KeyRole
from hsm.pkcs11.shared_keys import ClearKey
from hsm.pkcs11.token import Pkcs11Token
from hsm.port import (
    CardRef,
    PinBlockType,
    PublicKeyRole,
    SealedCard,
    SealedChange,
)
from hsm.settings import HsmTokenSettings, VaultSettings
from hsm.socket_files import path_of
from hsm.vault import Vault

ROOT: Final = Path(__file__).resolve().parents[1]
ISSUER: Final = "benchbank1"
ORGANISATION: Final = "Benchmark"
PAN: Final = "4111111111111111"
AUDIENCE: Final = "pins"
"""Of the access tokens that name a cardholder."""
APP: Final = f"{ISSUER}-app"
CARDS: Final = 200
"""Whose PINs come as ISO-0; as many others take them as SECCOS."""
SECCOS_CARD: Final = d1_seccos.Card(PAN, 0, "3012")
FEED: Final = "benchmark"
COPY: Final = "copy"
TOKEN_PATH: Final = "/authz/d1/v1/oauth2/token"
START_SECONDS_MAX: Final = 120.0
MARKS: Final = {"vault": b"hsm.server.start", "web": b"spawn_main"}
"""What stands in the command line of a worker."""


@dataclass(frozen=True)
class Workers:
    """How many processes serve."""

    vault: int
    web: int

    @classmethod
    def asked_for(cls) -> Self:
        """Read the words of this program."""
        parser = argparse.ArgumentParser()
        parser.add_argument("--vault-workers", type=int, default=1, metavar="N")
        parser.add_argument("--web-workers", type=int, default=2, metavar="N")
        given = parser.parse_args()
        return cls(given.vault_workers, given.web_workers)

    def __str__(self) -> str:
        return f"workers of the vault: {self.vault}, of the web: {self.web}"


@dataclass(frozen=True)
class Service:
    """All programs, as they run: the ids of their first processes."""

    vault: int
    web: int
    postgres: int

    def processor_time(self) -> ProcessorTime:
        """Begin to read what each program spends."""
        return ProcessorTime({"vault": self.vault, "web": self.web, "Postgres": self.postgres})

    def resident_mib(self) -> Mapping[str, Sequence[float]]:
        """Read the resident memory of each worker, by its program."""
        return {
            "vault": _resident_mib(self.vault, MARKS["vault"]),
            "web": _resident_mib(self.web, MARKS["web"]),
        }


@dataclass(frozen=True)
class Issuer:
    """An issuer with active cards, all of one PAN: ``card-0000`` and on; their plastics 0 and on.

    Whoever holds a card has its card id as a name.
    The first :data:`CARDS` of them take their PIN as ISO-0, and as many more as SECCOS.
    """

    sealed: Mapping[CardRef, SealedCard]
    feed_writer: FeedWriter
    d1: D1Config
    pin_jwe: str
    """A PIN for any of the cards."""
    seccos_keys: d1_seccos.Keys
    """What D1 shares with the issuer."""
    seccos_jwe: str
    """A PIN for any card whose PIN was never changed."""
    bearer: str
    """An access token of the holder of the first card."""

    def __getstate__(self) -> dict[str, object]:
        """Send to the processes that make the load all but the key of feeds, which cannot be."""
        return {**self.__dict__, "feed_writer": None}


def open_hsm_token(directory: Path) -> Pkcs11Token:
    """Make an HSM token with a key of each role; the environment of this process names it."""
    softhsm = SoftHsm(directory / "softhsm")
    softhsm.ensure()
    os.environ.update(softhsm.environment)
    hsm_token = Pkcs11Token.open(HsmTokenSettings(), writable=True)
    list(own_keys.create(hsm_token, own_keys.read_roles(ROOT / "hsm" / "roles.toml")))
    return hsm_token


@contextmanager
def directory_and_hsm_token() -> Iterator[tuple[Path, Pkcs11Token]]:
    """Make both, and take them away again."""
    with tempfile.TemporaryDirectory(prefix="pin-bench-") as name:
        hsm_token = open_hsm_token(Path(name))
        try:
            yield Path(name), hsm_token
        finally:
            hsm_token.close()


def make_issuer(
    directory: Path,
    hsm_token: Pkcs11Token,
    base_url: str,
    cards: int = 2 * CARDS,
    clients: Sequence[Mapping[str, object]] = (),
) -> Issuer:
    """Make a host whose vault has the issuer's manifest, keys and sealed cards.

    The environment of this process then names the host; the database has nothing yet. Other
    *clients* stand in the manifest beside D1 and an app.
    """
    seccos_keys = d1_seccos.Keys(*map(secrets.token_bytes, (16, 32, 16)))
    _import_seccos_keys(hsm_token, seccos_keys)
    operators = Operators()
    vault = operators.begin(directory, hsm_token)
    key = JWK.generate(kty="EC", crv="P-256", use="enc")
    members = {**key.export_private(as_dict=True), "kid": key.thumbprint()}
    (directory / "private.jwk").write_text(json.dumps(members))
    (directory / "client.secret").write_text(secrets.token_urlsafe())
    pki.create(directory / "pki")
    client = pki.issue_client(directory / "pki", "d1", "d1", ORGANISATION)
    recipient = {name: value for name, value in members.items() if name != "d"}
    d1 = {
        "kind": "d1",
        "client_id": ISSUER,
        "certificates": [f"CN=d1,O={ORGANISATION}"],
        "secrets": [{"sha256": hash_secret((directory / "client.secret").read_text())}],
    }
    provider = identity(directory)
    feed_key = ec.generate_private_key(ec.SECP256R1())
    manifest = operators.manifest(
        ISSUER,
        recipient={"jwk": recipient},
        seccos={},
        identity_provider={
            "issuer": identity_provider.ISSUER,
            "audience": AUDIENCE,
            "jwks": {"keys": [provider.public_jwk]},
        },
        clients=[d1, {"kind": "app", "client_id": APP}, *clients],
        feeds=[{"name": FEED, "jwk": public_jwk(key_file.public(feed_key), "sig")}],
    )
    vault.load_manifest(manifest)
    intake = parse_public(vault.public_jwks(PublicKeyRole.INTAKE)["keys"][0])
    feed_writer = FeedWriter(ISSUER, FEED, feed_key, intake, int(time.time()))
    d1_jwk = vault.public_jwks(PublicKeyRole.D1)["keys"][0]
    return Issuer(
        dict(_sealed_cards(vault, feed_writer, cards)),
        feed_writer,
        D1Config(
            base_url=base_url,
            ca=directory / "pki" / "ca.pem",
            client_cert=client.certificate,
            client_key=client.key,
            client_id=ISSUER,
            client_secret_file=directory / "client.secret",
            token_path=TOKEN_PATH,
            issuer_id=ISSUER,
            issuer_jwk=d1_jwk,
            d1_private_jwk_file=directory / "private.jwk",
        ),
        pin_jwe(d1_jwk),
        seccos_keys,
        seccos_jwe(d1_jwk, seccos_keys, 0),
        provider.issue("card-0000"),
    )


def identity(directory: Path) -> IdentityProvider:
    """Return the issuer's identity provider."""
    return IdentityProvider(directory / "identity", AUDIENCE)


def set_pins(hsm_token: Pkcs11Token, issuer: Issuer) -> dict[CardRef, SealedChange]:
    """Give every card the same PIN, as if it had been imported with it."""
    vault = vault_over(hsm_token, VaultSettings())
    return {
        card: vault.set_pin_from_jwe(
            issuer.pin_jwe,
            PinBlockType.ISO0,
            card,
            sealed.sealed_record,
            0,
            None,
        )
        for card, sealed in issuer.sealed.items()
    }


@contextmanager
def database(
    directory: Path, issuer: Issuer, pins: Mapping[CardRef, SealedChange] = MappingProxyType({})
) -> Iterator[tuple[str, str]]:
    """Run a Postgres that holds *issuer*; yield the URIs of its database and of a copy.

    Args:
        directory: where Postgres keeps its data.
        issuer: what is stored.
        pins: what cards already have; their counters are 0.
    """
    with Postgres(directory / "postgres") as postgres:
        upgrade(postgres.url())
        with admin.connect(postgres.url()).begin() as connection:
            admin.add_issuer(connection, ISSUER, "Benchmark bank")
            rows = [_row(sealed, pins.get(card)) for card, sealed in issuer.sealed.items()]
            card_feeds.add_cards(connection, ISSUER, rows)
            admin.analyze(connection)
        postgres.create_database(COPY, template="cms")
        yield postgres.url(), postgres.url(COPY)


def stored(url: str) -> Counter[str]:
    """Count what the database has of tokens and PINs: audit events, tokens' ends, changes."""
    found: Counter[str] = Counter()
    with admin.connect(url).begin() as connection:
        for event in admin.rows(connection, tables.audit_events, ISSUER):
            found[f"audit {event['event']}"] += 1
        for token in admin.rows(connection, tables.control_tokens, ISSUER):
            found["tokens"] += 1
            found[f"tokens {token['end_reason']}"] += 1
        for card in admin.rows(connection, tables.cards, ISSUER):
            found["changes"] += card["counter"]
    return found


def cardholder_settings(directory: Path, port: int) -> dict[str, str]:
    """Return the settings of a cardholder listener, for :func:`serving`."""
    key = directory / "control-token.key"
    key.write_bytes(os.urandom(32))
    key.chmod(0o600)
    return {
        "CMS_CARDHOLDER_URL": f"https://localhost:{port}",
        "CMS_CARDHOLDER_PORT": str(port),
        "CMS_CARDHOLDER_CERTIFICATE_FILE": str(directory / "pki" / "server.pem"),
        "CMS_CARDHOLDER_KEY_FILE": str(directory / "pki" / "server.key"),
        "CMS_CONTROL_TOKEN_KEY_FILE": str(key),
    }


@contextmanager
def serving(
    directory: Path,
    ports: Sequence[int],
    url: str,
    workers: Workers,
    settings: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Service]:
    """Run the vault, and the web on the ports given, D1's and the operator's, until the end."""
    public_url = f"https://localhost:{ports[0]}"
    with (
        serving_vault(directory, workers.vault, public_url) as vault,
        serving_web(directory, ports, public_url, url, workers.web, settings) as process,
    ):
        (pid_file,) = (directory / "postgres").rglob("postmaster.pid")
        postgres = int(pid_file.read_text().split()[0])
        yield Service(vault.pid, process.pid, postgres)


@contextmanager
def serving_web(
    directory: Path,
    ports: Sequence[int],
    public_url: str,
    url: str,
    workers: int,
    settings: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[subprocess.Popen[bytes]]:
    """Run the web alone, on a database and on the ports given, beside a vault that runs."""
    url_file = directory / f"database-url-{ports[0]}"
    url_file.write_text(url)
    url_file.chmod(0o600)
    os.environ.update(
        {
            "CMS_DATABASE_URL_FILE": str(url_file),
            "CMS_PUBLIC_URL": public_url,
            "CMS_VAULT_SOCKET_DIRECTORY": str(directory / "sockets"),
            "CMS_WORKERS": str(workers),
            "CMS_D1_PORT": str(ports[0]),
            "CMS_OPS_PORT": str(ports[1]),
            "CMS_D1_CERTIFICATE_FILE": str(directory / "pki" / "server.pem"),
            "CMS_D1_KEY_FILE": str(directory / "pki" / "server.key"),
            "CMS_D1_CLIENT_CA_FILE": str(directory / "pki" / "ca.pem"),
            **settings,
        }
    )
    web = ("-m", "cms", "serve", "--sandbox")
    log = directory / f"service-{ports[0]}.log"
    with running(web, log, without=("HSM_", "SOFTHSM2_")) as process:
        wait_until_ready(process, ports[1])
        yield process


@contextmanager
def serving_vault(
    directory: Path, workers: int, token_issuer: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run the vault alone, on sockets that the environment of this process then names."""
    sockets = directory / "sockets"
    sockets.mkdir(mode=0o700)
    os.environ.update(
        {
            "HSM_SOCKET_DIRECTORY": str(sockets),
            "HSM_WORKERS": str(workers),
            "HSM_TOKEN_ISSUER": token_issuer,
        }
    )
    vault = ("-m", "hsm", "serve", "--sandbox")
    with running(vault, directory / "vault.log", without=("CMS_",)) as process:
        deadline = time.monotonic() + START_SECONDS_MAX
        while not all(
            path_of(sockets, name, slot).exists() for name in SocketName for slot in range(workers)
        ):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("the vault did not start")
            time.sleep(0.05)
        yield process


@contextmanager
def running(
    arguments: Sequence[str],
    log: Path,
    without: tuple[str, ...] = (),
    settings: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[subprocess.Popen[bytes]]:
    """Run Python with *arguments* until the block ends, without settings that begin so.

    Those that are given are set afterwards.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(without)}
    environment = {**kept, **settings}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=ROOT, env=environment, stdout=output, stderr=output
        )
    try:
        yield process
    finally:
        stop(process)


def pin_jwe(jwk: Mapping[str, str]) -> str:
    """Make what D1 sends: a new PIN as an ISO-0 block in a new JWE."""
    return encrypt_json({"pinBlock": iso0_block(random_pin(), PAN)}, jwk)


def seccos_jwe(jwk: Mapping[str, str], keys: d1_seccos.Keys, counter: int) -> str:
    """Make what D1 sends: a new PIN as SECCOS for a card that was changed *counter* times."""
    pin, random = random_pin(), secrets.token_bytes(d1_seccos.RANDOM_BYTES)
    block_key, mac_key = (
        d1_seccos.session_key(master, SECCOS_CARD, counter) for master in (keys.pin_block, keys.mac)
    )
    block = d1_seccos.pin_block(pin, block_key)
    payload = {
        "pinBlock": block.hex(),
        "prw": d1_seccos.prw(pin, SECCOS_CARD, counter, random, keys.prw).hex(),
        "prwRandom": random.hex(),
        "mac": d1_seccos.mac(block, counter, mac_key).hex(),
        "pinChangeCounter": counter,
    }
    return encrypt_json(payload, jwk)


def encrypt_json(content: Mapping[str, object], jwk: Mapping[str, str]) -> str:
    """Make a JWE, faster than the libraries of those who play a partner."""
    return jwe.encrypt(
        json.dumps(content).encode(),
        parse_public(jwk),
        ephemeral=ec.generate_private_key(ec.SECP256R1()),
        random=os.urandom,
    )


def random_pin() -> str:
    """Draw a PIN of four digits that no policy calls weak: three of them differ."""
    while len(set(pin := f"{secrets.randbelow(10_000):04}")) != 3:
        pass
    return pin


def free_ports(count: int) -> list[int]:
    """Find ports of the loopback address that nobody uses."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _resident_mib(parent: int, mark: bytes) -> Sequence[float]:
    """Read the resident memory of each worker of a program."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    # A spawned worker is told apart from the resource tracker beside it.
    workers = [pid for pid in children if mark in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return [_status_kib(pid, "VmRSS") / 1024 for pid in workers]


def _status_kib(pid: str, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    return 0


def _import_seccos_keys(hsm_token: Pkcs11Token, keys: d1_seccos.Keys) -> None:
    """Import the keys as if key blocks had been opened: opening them is not measured."""
    for role, kind, value in (
        (KeyRole.SECCOS_PIN, KeyKind.TDES_2KEY, keys.pin_block),
        (KeyRole.SECCOS_PRW, KeyKind.AES_256, keys.prw),
        (KeyRole.SECCOS_MAC_MASTER, KeyKind.TDES_2KEY, keys.mac),
    ):
        shared_keys.store(hsm_token, role, ISSUER, ClearKey(kind, Secret(value)))


def described(number: int) -> dict[str, object]:
    """Describe a card for a feed: active, personalised, held by somebody of the same name."""
    name = f"card-{number:04}"
    plastic_id = str(number)
    return {
        "cardId": name,
        "pan": PAN,
        "expiry": "1230",
        "plasticId": plastic_id,
        "cardholder": name,
        "state": "active",
    }


def _sealed_cards(
    vault: Vault, feed_writer: FeedWriter, count: int
) -> Iterator[tuple[CardRef, SealedCard]]:
    for first in range(0, count, CARDS_MAX):
        cards = map(described, range(first, min(first + CARDS_MAX, count)))
        for sealed in vault.seal_cards(feed_writer.write(cards), ISSUER):
            assert isinstance(sealed, SealedCard)
            yield sealed.card, sealed


def _row(sealed: SealedCard, pin: SealedChange | None) -> Mapping[str, object]:
    """Return the columns of a card that is stored."""
    with_pin = {} if pin is None else {**sealed_columns(pin), "pin_type": PinBlockType.ISO0.value}
    return {
        "card_id": sealed.card.card_id,
        "sealed_record": sealed.sealed_record,
        "last_four": sealed.last_four,
        "expiry": sealed.expiry,
        "psn": sealed.psn,
        "plastic_id": sealed.plastic_id,
        "cardholder_id": sealed.cardholder_id,
        "state": CardState.ACTIVE.value,
        "personalised": True,
        **with_pin,
    }


def wait_until_ready(process: subprocess.Popen[bytes], ops_port: int) -> None:
    """Wait until a web is ready, or end with an error."""
    deadline = time.monotonic() + START_SECONDS_MAX
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urlopen(f"http://127.0.0.1:{ops_port}/readyz", timeout=1) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.05)
    raise SystemExit("the service did not start")

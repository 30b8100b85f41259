"""A sample issuer for tests: its manifest, cards, and the keys of D1's side."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, LiteralString

import psycopg
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from jwcrypto.jwk import JWK

from cms.domain.cards import CardState
from cms.operator.card_import import CardImport
from cms.persistence import admin
from cms.sandbox.partners.jwe import encrypt
from cms.sandbox.partners.pin_blocks import iso0_block
from crypto.jose import base64url
from hsm.manifest.client_secrets import hash_secret
from hsm.port import CardRef, PublicKeyRole
from hsm.vault import Vault
from hsm.verbs import PinVault
from tests.bearers import identity_provider
from tests.feeds import described, feed
from tests.in_process_admin import InProcessAdmin
from tests.operators import VALID_FROM, VALID_UNTIL, manifest, signed

SECRET = "correct horse battery staple"
PAN = "4111111111111111"
PANS = (PAN, "5555555555554444", "4012888888881881", "5105105105105100")


@dataclass(frozen=True)
class Certificate:
    """A client certificate as the service sees it."""

    der: bytes
    subject: str

    @property
    def thumbprint(self) -> str:
        return base64url.encode(hashlib.sha256(self.der).digest())


@cache
def certificate(common_name: str, *alternative_names: x509.GeneralName) -> Certificate:
    """A certificate with these names, without a subject where the common name is empty.

    Chains are the TLS layer's: it signs itself.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else []
    name = x509.Name(subject)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(VALID_FROM)
        .not_valid_after(VALID_UNTIL)
    )
    if alternative_names:
        extension = x509.SubjectAlternativeName(alternative_names)
        builder = builder.add_extension(extension, critical=False)
    built = builder.sign(key, hashes.SHA256())
    return Certificate(
        built.public_bytes(serialization.Encoding.DER), built.subject.rfc4514_string()
    )


@dataclass(frozen=True)
class SampleIssuer:
    """An issuer in the database. Every card is active and without a PIN unless said."""

    issuer_id: str
    certificate: Certificate
    d1_key: JWK
    d1_jwk: dict[str, str]
    """Our public key, to which D1 encrypts PIN blocks."""
    intake_jwk: dict[str, str]
    secret: str = SECRET
    pans: dict[str, str] = field(default_factory=dict)

    @property
    def client_id(self) -> str:
        return self.issuer_id

    def pin_jwe(self, pin: str, card_id: str = "card-1", pan: str | None = None) -> str:
        """What D1 sends for *pin*: a JWE of an ISO-0 block, new each time."""
        return encrypt({"pinBlock": iso0_block(pin, pan or self.pans[card_id])}, self.d1_jwk)

    @property
    def feed(self) -> Callable[..., str]:
        """Writes a feed of its cards (:func:`tests.feeds.feed`)."""
        return partial(feed, self.issuer_id, self.intake_jwk)

    def card(self, card_id: str = "card-1") -> CardRef:
        return CardRef(self.issuer_id, card_id)


def open_issuer(
    url: str,
    vault: Vault,
    issuer_id: str = "testbank01",
    *,
    auth: str = "oauth",
    **members: object,
) -> SampleIssuer:
    """Add an issuer with its manifest, its client, and cards ``card-1`` to ``card-4``.

    With *auth* ``certificate`` the client's certificate alone names it. Other *members* are those
    of the manifest.
    """
    d1_key = JWK.generate(kty="EC", crv="P-256", use="enc")
    recipient = json.loads(d1_key.export_public())
    recipient["kid"] = d1_key.thumbprint()
    sample_issuer = SampleIssuer(
        issuer_id,
        certificate(f"d1-{issuer_id}"),
        d1_key,
        vault.public_jwks(PublicKeyRole.D1)["keys"][0],
        vault.public_jwks(PublicKeyRole.INTAKE)["keys"][0],
    )
    client = d1_client(
        sample_issuer.client_id,
        sample_issuer.certificate.subject,
        secret=SECRET if auth == "oauth" else None,
    )
    always = {
        "recipient": {"jwk": recipient},
        "identity_provider": identity_provider(issuer_id),
        "clients": [client],
    }
    load_manifest(vault, issuer_id, **{**always, **members})
    with admin.connect(url).begin() as connection:
        admin.add_issuer(connection, issuer_id, "A test bank")
    pans = {f"card-{number}": pan for number, pan in enumerate(PANS, start=1)}
    load_cards(url, vault, sample_issuer, *(active(*card) for card in pans.items()))
    sample_issuer.pans.update(pans)
    return sample_issuer


def d1_client(client_id: str, *certificates: str, secret: str | None = None) -> dict[str, object]:
    """D1 as a manifest has it; without a secret its certificate alone names it."""
    secrets = [] if secret is None else [secret_hash(secret)]
    return {
        "kind": "d1",
        "client_id": client_id,
        "certificates": list(certificates),
        "secrets": secrets,
    }


def app_client(client_id: str, **members: object) -> dict[str, object]:
    """An app as a manifest has it."""
    return {"kind": "app", "client_id": client_id, **members}


def server_client(client_id: str, secret: str = SECRET, **members: object) -> dict[str, object]:
    """An issuer's own server as a manifest has it."""
    secrets = [secret_hash(secret)]
    return {"kind": "server", "client_id": client_id, "secrets": secrets, **members}


def secret_hash(secret: str, **members: object) -> dict[str, object]:
    """A secret as a manifest has it."""
    return {"sha256": hash_secret(secret), **members}


def load_manifest(vault: PinVault, issuer_id: str, **members: object) -> None:
    """Have the vault take a manifest that has these members, and defaults for the others."""
    version = vault.manifest_version(issuer_id) + 1
    vault.load_manifest(signed(manifest(issuer_id, version, **members)))


def change_manifest(vault: PinVault, issuer_id: str, **members: object) -> None:
    """Have the vault take a manifest that differs from the one in force in these members."""
    body = vault.read_manifest(issuer_id).model_dump(mode="json")
    del body["issuer_id"], body["version"]
    load_manifest(vault, issuer_id, **{**body, **members})


def add_clients(vault: PinVault, issuer_id: str, *clients: Mapping[str, object]) -> None:
    """Register clients."""
    change_manifest(vault, issuer_id, clients=[*_clients(vault, issuer_id), *clients])


def change_client(vault: PinVault, issuer_id: str, client_id: str, /, **members: object) -> None:
    """Register a client anew, with other members."""
    clients = [
        {**client, **members} if client["client_id"] == client_id else client
        for client in _clients(vault, issuer_id)
    ]
    change_manifest(vault, issuer_id, clients=clients)


def remove_client(vault: PinVault, issuer_id: str, client_id: str) -> None:
    """Take a client out of service."""
    clients = _clients(vault, issuer_id)
    others = [client for client in clients if client["client_id"] != client_id]
    change_manifest(vault, issuer_id, clients=others)


def _clients(vault: PinVault, issuer_id: str) -> list[dict[str, object]]:
    clients = vault.read_manifest(issuer_id).clients
    return [client.model_dump(mode="json") for client in clients]


def add_card(
    url: str,
    vault: Vault,
    sample_issuer: SampleIssuer,
    card_id: str,
    pan: str,
    state: CardState = CardState.ACTIVE,
    *,
    plastic_id: str | None = None,
    cardholder_id: str | None = None,
) -> CardRef:
    """Add one card."""
    members = {"state": state.value, "plasticId": plastic_id, "cardholder": cardholder_id}
    load_cards(url, vault, sample_issuer, active(card_id, pan, **members))
    sample_issuer.pans[card_id] = pan
    return sample_issuer.card(card_id)


def active(card_id: str, pan: str, **members: object) -> dict[str, object]:
    """Describe a card that is active unless said, and not personalised."""
    return described(card_id, pan, **{"state": "active", "personalised": False, **members})


def load_cards(
    url: str, vault: PinVault, sample_issuer: SampleIssuer, *cards: Mapping[str, object]
) -> None:
    """Add or renew cards, by a feed."""
    with admin.transaction(url) as database:
        importing = CardImport(database, InProcessAdmin(vault), sample_issuer.issuer_id)
        (result,) = importing.run([sample_issuer.feed(*cards).encode()])
    assert (result.added + result.renewed, result.refused) == (len(cards), [])


def name_card(
    url: str,
    vault: Vault,
    sample_issuer: SampleIssuer,
    card_id: str,
    *,
    plastic_id: str | None = None,
    cardholder_id: str | None = None,
) -> None:
    """Give a card other names; a PIN stays only if its holder does."""
    pan = sample_issuer.pans[card_id]
    named = described(card_id, pan, plasticId=plastic_id, cardholder=cardholder_id)
    load_cards(url, vault, sample_issuer, named)


def run_sql(url: str, statement: LiteralString, *parameters: object) -> list[tuple[Any, ...]]:
    """Run one statement on the database at *url*, outside the service, and return its rows."""
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement, parameters)
        return cursor.fetchall() if cursor.description else []

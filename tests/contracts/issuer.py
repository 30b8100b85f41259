"""An issuer whose manifest is in force at a vault, with D1's side of it and without a database."""

import json
import os
import shutil
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from jwcrypto.jwe import JWE
from jwcrypto.jwk import JWK

from cms.sandbox.partners.jwe import decrypt
from cms.sandbox.partners.pin_blocks import iso0_pin
from crypto.pin_image import ImageStyle
from crypto.pinblock import iso1
from crypto.secret import Secret
from crypto.types import Pin
from hsm.log import files
from hsm.manifest.client_secrets import hash_secret
from hsm.pkcs11.hsm_token import HsmToken
from hsm.port import (
    CardRef,
    DeviceKey,
    GrantedToken,
    PinBlockType,
    PublicKeyRole,
    Purpose,
    SealedCard,
    SealedChange,
    SealedPin,
    SealedRecord,
)
from hsm.verbs import PinVault
from tests.bearers import bearer, identity_provider
from tests.devices import PythonDevice
from tests.feeds import described, feed
from tests.operators import manifest, now, open_vault, reopen_vault, signed
from tests.pans import PAN

ISSUER_ID = "testbank01"
OTHER_ISSUER_ID = "testbank02"
CARD = CardRef(ISSUER_ID, "card-1")
PIN = "4071"
HOLDER = "holder-1"
PLASTIC_ID = "70001"
SERVER_SECRET = "a secret of the issuer's own server"
LONG_PINS: Mapping[str, object] = {"length_max": 12, "page_length_max": 12}


@dataclass(frozen=True)
class Host:
    """A vault over an HSM token, which hosts may share, and a state directory of its own."""

    hsm_token: HsmToken
    directory: Path
    vault: PinVault

    def another(self) -> "Host":
        """Open a new host over the same HSM token."""
        return open_host(self.hsm_token, self.directory.parent)

    def reopened(self, clock: Callable[[], datetime] = now) -> "Host":
        """Start another process on this host."""
        return self.in_this_process(clock)

    def in_this_process(self, clock: Callable[[], datetime] = now) -> "Host":
        """Open its vault here, where a test can change what it does and the time it has."""
        return Host(
            self.hsm_token, self.directory, reopen_vault(self.hsm_token, self.directory, clock)
        )

    def at(self, moment: datetime) -> "Host":
        """Open a host with what this one has but its log, whose clock stands still."""
        directory = Path(mkdtemp(dir=self.directory.parent))
        shutil.copytree(
            self.directory, directory, ignore=lambda *_: [files.DIRECTORY], dirs_exist_ok=True
        )
        vault = reopen_vault(self.hsm_token, directory, lambda: moment)
        vault._log.begin()
        return replace(self, directory=directory, vault=vault)


def open_host(hsm_token: HsmToken, hosts: Path) -> Host:
    """Open a new host over *hsm_token*, whose state is in a new directory in *hosts*."""
    directory = Path(mkdtemp(dir=hosts))
    return Host(hsm_token, directory, open_vault(hsm_token, directory))


@dataclass(frozen=True)
class Issuer:
    """An issuer at a host, what its manifest there says, and D1's private key."""

    host: Host
    members: Mapping[str, object]
    d1_key: JWK
    issuer_id: str = ISSUER_ID

    @property
    def vault(self) -> PinVault:
        return self.host.vault

    def signed(self, version: int = 1, **members: object) -> str:
        """What operators sign for it; *members* take the place of those that it has."""
        return signed(manifest(self.issuer_id, version, **{**self.members, **members}))

    def with_members(self, **members: object) -> "Issuer":
        """Take it to a host of its own, where *members* of its manifest are others."""
        there = replace(self, host=self.host.another(), members={**self.members, **members})
        there.vault.load_manifest(there.signed())
        return there

    @property
    def d1_jwk(self) -> dict[str, str]:
        """Our key, to which D1 encrypts PIN blocks."""
        return self.vault.public_jwks(PublicKeyRole.D1)["keys"][0]

    @property
    def intake_jwk(self) -> dict[str, str]:
        """Our key, to which PANs are encrypted on their way in."""
        return self.vault.public_jwks(PublicKeyRole.INTAKE)["keys"][0]

    @property
    def feed(self) -> Callable[..., str]:
        """Writes a feed of cards (:func:`tests.feeds.feed`)."""
        return partial(feed, self.issuer_id, self.intake_jwk)

    def sealed_card(
        self, card_id: str = CARD.card_id, pan: str = PAN, **members: object
    ) -> SealedCard:
        """Bring one card."""
        text = self.feed(described(card_id, pan, **members))
        (sealed,) = self.vault.seal_cards(text, self.issuer_id)
        assert isinstance(sealed, SealedCard)
        return sealed

    def pin_jwe(self, plaintext: object) -> str:
        return jwe_to(self.d1_jwk, plaintext)

    def seal_record(
        self,
        pan: str = PAN,
        card: CardRef = CARD,
        psn: int = 1,
        expiry: str = "1229",
        holder: str | None = HOLDER,
        plastic_id: str | None = PLASTIC_ID,
    ) -> SealedRecord:
        """Seal a card of this issuer, or of another at the same host."""
        if self.vault.manifest_version(card.issuer_id) == 0:
            self.vault.load_manifest(signed(manifest(card.issuer_id)))
        owner = replace(self, issuer_id=card.issuer_id)
        members = {"psn": psn, "expiry": expiry, "cardholder": holder, "plasticId": plastic_id}
        return owner.sealed_card(card.card_id, pan, **members).sealed_record

    @property
    def app_id(self) -> str:
        return f"{self.issuer_id}-app"

    @property
    def server_id(self) -> str:
        return f"{self.issuer_id}-server"

    def grant_view(
        self, sealed_record: SealedRecord, card: CardRef = CARD, counter: int = 1
    ) -> GrantedToken:
        """Let the app of the holder show the PIN of change *counter*."""
        return self._grant(Purpose.VIEW, sealed_record, card, counter)

    def grant_set(
        self, sealed_record: SealedRecord, card: CardRef = CARD, counter: int = 0
    ) -> GrantedToken:
        """Let the app of the holder set the PIN after change *counter*."""
        return self._grant(Purpose.SET, sealed_record, card, counter)

    def grant_plastic(
        self,
        purpose: Purpose,
        sealed_record: SealedRecord,
        card: CardRef = CARD,
        counter: int = 1,
        plastic_id: str = PLASTIC_ID,
    ) -> GrantedToken:
        """Let the issuer's own server show or set the PIN of a plastic."""
        secret = Secret(SERVER_SECRET)
        return self.vault.grant_server(
            self.server_id, secret, plastic_id, purpose, card, sealed_record, counter
        )

    def _grant(
        self, purpose: Purpose, sealed_record: SealedRecord, card: CardRef, counter: int
    ) -> GrantedToken:
        token = Secret(bearer(HOLDER, self.issuer_id))
        return self.vault.grant_bearer(token, self.app_id, purpose, card, sealed_record, counter)

    def change(
        self,
        jwe: str,
        sealed_record: SealedRecord,
        block_type: PinBlockType = PinBlockType.ISO0,
        card: CardRef = CARD,
        counter: int = 1,
    ) -> SealedChange:
        """Set a PIN as an operator does, however many have failed."""
        self.vault.forget_failures(card)
        return self.vault.set_pin_from_jwe(jwe, block_type, card, sealed_record, counter, None)

    def set_jwe(
        self, jwe: str, sealed_record: SealedRecord, card: CardRef = CARD, counter: int = 1
    ) -> SealedPin:
        sealed_pin = self.change(jwe, sealed_record, card=card, counter=counter).sealed_pin
        assert sealed_pin is not None
        return sealed_pin

    def set_pin(
        self,
        pin: str,
        sealed_record: SealedRecord,
        pan: str = PAN,
        card: CardRef = CARD,
        counter: int = 1,
    ) -> SealedPin:
        jwe = self.pin_jwe({"pinBlock": block(pin, pan)})
        return self.set_jwe(jwe, sealed_record, card, counter)

    def export(
        self,
        sealed_pin: SealedPin,
        sealed_record: SealedRecord,
        card: CardRef = CARD,
        counter: int = 1,
    ) -> str:
        return self.vault.export_jwe(sealed_pin, sealed_record, card, counter).value

    def set_on_page(
        self,
        granted: GrantedToken,
        sealed_record: SealedRecord,
        pin: str = PIN,
        role: PublicKeyRole = PublicKeyRole.PAGE,
        **members: object,
    ) -> SealedChange:
        """Encrypt as a page does, to a key of *role*; *members* replace those of the page."""
        jwe = self.page_jwe(granted, pin, role, **members)
        return self.vault.set_pin_from_page(
            granted.grant, granted.control_token, jwe, sealed_record
        )

    def page_jwe(
        self,
        granted: GrantedToken,
        pin: str = PIN,
        role: PublicKeyRole = PublicKeyRole.PAGE,
        **members: object,
    ) -> str:
        clear = iso1.encode(Pin(pin), os.urandom).reveal().hex()
        key = self.vault.public_jwks(role)["keys"][0]
        named = {"grantId": granted.grant_id, "controlToken": granted.control_token}
        return jwe_to(key, {**named, "block": clear, **members})

    def draw(
        self, granted: GrantedToken, sealed_pin: SealedPin, sealed_record: SealedRecord
    ) -> bytes:
        return self.vault.render_image(
            granted.grant, granted.control_token, sealed_pin, sealed_record, ImageStyle()
        ).value

    def digits(
        self,
        granted: GrantedToken,
        sealed_pin: SealedPin,
        sealed_record: SealedRecord,
        key: Mapping[str, object],
    ) -> str:
        return self.vault.digits_jwe(
            granted.grant, granted.control_token, sealed_pin, sealed_record, key
        ).value

    def view_on_device(
        self,
        granted: GrantedToken,
        device: PythonDevice,
        sealed_pin: SealedPin,
        sealed_record: SealedRecord,
    ) -> str:
        """Have a device see the PIN."""
        key = b64decode(device.public_key)
        shown = self.vault.export_device_block(
            granted.grant, granted.control_token, key, sealed_pin, sealed_record
        ).value
        return device.read(b64encode(shown.tzpk).decode(), b64encode(shown.block).decode())

    def key_of_device(
        self, granted: GrantedToken, device: PythonDevice, sealed_record: SealedRecord
    ) -> DeviceKey:
        key = b64decode(device.public_key)
        return self.vault.make_device_key(granted.grant, granted.control_token, key, sealed_record)

    def set_on_device(
        self,
        granted: GrantedToken,
        made: DeviceKey,
        device: PythonDevice,
        sealed_record: SealedRecord,
        pin: str = PIN,
    ) -> SealedChange:
        """Have a device set the PIN under the key that was made for it."""
        block = b64decode(device.write(b64encode(made.tzpk).decode(), pin))
        return self.vault.set_pin_from_device(
            granted.grant, granted.control_token, made.sealed_tzpk, block, sealed_record
        )

    def pin(
        self,
        sealed_pin: SealedPin,
        sealed_record: SealedRecord,
        pan: str = PAN,
        card: CardRef = CARD,
        counter: int = 1,
    ) -> str:
        """Export the PIN and open the JWE as D1 does."""
        content = decrypt(self.export(sealed_pin, sealed_record, card, counter), self.d1_key)
        (text,) = content.values()
        return iso0_pin(text, pan)


def open_issuer(host: Host, issuer_id: str = ISSUER_ID, **members: object) -> Issuer:
    """Have a manifest taken at *host*: defaults, a new recipient key of D1, and *members*."""
    d1_key = JWK.generate(kty="EC", crv="P-256", kid="d1-2026")
    recipient = {"jwk": json.loads(d1_key.export_public())}
    always = {
        "recipient": recipient,
        "identity_provider": identity_provider(issuer_id),
        "clients": clients(issuer_id),
        "limits": {"handouts_card_day_max": 1_000},
    }
    issuer = Issuer(host, {**always, **members}, d1_key, issuer_id)
    issuer.vault.load_manifest(issuer.signed())
    return issuer


def clients(issuer_id: str) -> list[dict[str, object]]:
    """An app and a server, as a manifest has them."""
    secrets = [{"sha256": hash_secret(SERVER_SECRET)}]
    return [
        {"kind": "app", "client_id": f"{issuer_id}-app"},
        {"kind": "server", "client_id": f"{issuer_id}-server", "secrets": secrets},
    ]


def page_key() -> tuple[JWK, dict[str, object]]:
    """Make a page's ephemeral key: its private half, and what WebCrypto exports of the public."""
    key = JWK.generate(kty="EC", crv="P-256")
    return key, {**json.loads(key.export_public()), "ext": True, "key_ops": []}


def jwe_to(jwk: Mapping[str, Any], plaintext: object, **header: object) -> str:
    """Encrypt *plaintext* to *jwk* with jwcrypto: bytes as they are, anything else as JSON."""
    payload = plaintext if isinstance(plaintext, bytes) else json.dumps(plaintext).encode()
    protected = {"alg": "ECDH-ES", "enc": "A256GCM", "kid": jwk["kid"], **header}
    recipient = JWK(**{member: jwk[member] for member in ("kty", "crv", "x", "y")})
    return str(JWE(payload, json.dumps(protected), recipient=recipient).serialize(compact=True))


def block(
    pin: str, pan: str = PAN, *, control: str = "0", length: str = "", fill: str = "F"
) -> str:
    """Lay out an ISO-0 block, or one that is wrong where the test says; *fill* is repeated."""
    field = f"{control}{length or format(len(pin), 'X')}{pin}".ljust(16, fill)
    return format(int(field, 16) ^ int(pan[-13:-1].rjust(16, "0"), 16), "016X")

"""Whoever owns the database: reads and writes every row, and has keys of its own."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, LiteralString

from jwcrypto.common import JWException
from jwcrypto.jwe import JWE
from jwcrypto.jwk import JWK

from cms.sandbox.partners.pin_blocks import iso0_pin
from crypto.types import Pan
from hsm.manifest.model import Manifest
from hsm.port import CardRef, SealedValue, ValueKind
from hsm.records import CardRecord
from hsm.seals import PinOf
from hsm.vault import Vault
from hsm.verification import Value
from tests.cms.faces.d1_face import D1Face
from tests.issuer_records import SECRET, certificate, d1_client, run_sql
from tests.operators import manifest, signed
from tests.pans import PAN
from tests.service import D1, d1

CERTIFICATE = certificate("the owner of the database")
#: Its manifest named the attacker once; operators replaced it by the one in force.
FORMER, IN_FORCE = 2, 3
FORGED = 9
HOLDER = "ann"


@dataclass(frozen=True)
class DatabaseOwner:
    """An attacker, and the issuer that it attacks, whose D1 is honest."""

    d1_face: D1Face
    bank: D1
    host_key: JWK
    """The private key of the issuer's authorisation host, which the attacker does not have."""
    key: JWK = field(default_factory=lambda: JWK.generate(kty="EC", crv="P-256"))

    @property
    def issuer_id(self) -> str:
        return self.bank.sample_issuer.issuer_id

    def run(self, statement: LiteralString, *parameters: object) -> list[tuple[Any, ...]]:
        return run_sql(self.d1_face.url, statement, *parameters)

    # Manifests

    def text(self, version: int) -> str:
        """Read a signed manifest."""
        statement: LiteralString = (
            "SELECT text FROM manifests WHERE issuer_id = %s AND version = %s"
        )
        ((text,),) = self.run(statement, self.issuer_id, version)
        return str(text)

    def store(self, version: int, text: str) -> None:
        """Write a text as that version of the issuer's manifest."""
        self.run(
            "INSERT INTO manifests (issuer_id, version, text) VALUES (%s, %s, %s)",
            *(self.issuer_id, version, text),
        )

    async def wanted(self, version: int = FORGED) -> bytes:
        """Make the manifest that it wants: it is a client, and both recipients."""
        body = await self._in_force()
        mine = {"jwk": json.loads(self.key.export_public())}
        client = d1_client(f"{self.issuer_id}-evil", CERTIFICATE.subject, secret=SECRET)
        body |= {"clients": [*body["clients"], client], "recipient": mine}
        # No two issuers may name one identity provider, and it needs none.
        body |= {"verification_host": mine, "identity_provider": None}
        return manifest(self.issuer_id, version, **body)

    async def publish(self, version: int, payload: bytes) -> None:
        """Do what operators do: sign, store, and have the vault take it."""
        self.store(version, signed(payload))
        await self.carry()

    async def honest(self, version: int) -> bytes:
        """Make the next version of what is in force."""
        return manifest(self.issuer_id, version, **await self._in_force())

    async def carry(self) -> None:
        """Wait until the host has looked at what the database offers."""
        await self.d1_face.application.manifests.carry()

    async def version_in_force(self) -> int:
        """Return the version that the host serves by."""
        return int((await self._read()).version)

    async def _in_force(self) -> dict[str, Any]:
        body = (await self._read()).model_dump(mode="json")
        del body["issuer_id"], body["version"]
        return body

    async def _read(self) -> Manifest:
        issuer_id = self.issuer_id
        read: Manifest = await self.d1_face.in_vault(lambda vault: vault.read_manifest(issuer_id))
        return read

    # What it gets

    async def ask_token(self) -> int:
        """Ask for an access token with its own certificate and secret; return the status."""
        sample_issuer = self.bank.sample_issuer
        async with d1(self.d1_face.application, sample_issuer, CERTIFICATE) as caller:
            answer = await caller.ask_token(f"{self.issuer_id}-evil:{SECRET}")
        return answer.status_code

    async def read_pin(self, card_id: str = "card-1") -> str | None:
        """Have D1 read a PIN; return it if the answer can be opened with the attacker's key."""
        answer = await self.bank.get(card_id)
        assert answer.status_code == 200, answer.text
        content = self.open(answer.json()["encryptedPinBlock"])
        if content is None:
            return None
        return iso0_pin(content["pinBlock"], self.bank.sample_issuer.pans[card_id])

    def open(self, jwe: str) -> dict[str, Any] | None:
        """Open a JWE with the attacker's key; None: it is for somebody else."""
        try:
            return decrypted(jwe, self.key)
        except JWException:
            return None

    # Sealed values

    async def seal_pvv(self, pvv: str, owner: PinOf) -> SealedValue:
        """Have what is in the database: a PIN verification value that the vault sealed."""
        sealed: SealedValue = await self.d1_face.in_vault(
            lambda vault: vault._seals.seal_value(Value.of(pvv=pvv), ValueKind.PVV, owner)
        )
        return sealed

    async def export(self, sealed: SealedValue, owner: PinOf) -> str:
        """Have the issuer's operator export the value of a card, under the record of its holder."""

        def export(vault: Vault) -> str:
            record = vault._seals.seal_record(owner.record, owner.card)
            values = {ValueKind.PVV: sealed}
            return vault.export_values(values, record, owner.card, owner.counter).value

        jwe: str = await self.d1_face.in_vault(export)
        return jwe


def pin_of(card: CardRef, counter: int, holder: str = HOLDER) -> PinOf:
    """Name a PIN of *holder*'s card, whose PAN is :data:`tests.pans.PAN`."""
    return PinOf(CardRecord(Pan(PAN), 1, "1229", cardholder_id=holder), card, counter)


def decrypted(jwe: str, key: JWK) -> dict[str, Any]:
    """Open a compact JWE, whatever key it names.

    Raises:
        JWException: it does not open with *key*.
    """
    message = JWE(algs=["ECDH-ES", "A256GCM"])
    message.deserialize(jwe, key)
    content: dict[str, Any] = json.loads(message.payload)
    return content


@asynccontextmanager
async def opened(d1_face: D1Face, issuer_id: str) -> AsyncIterator[DatabaseOwner]:
    """Add an issuer to attack, with a history of manifests."""
    host_key = JWK.generate(kty="EC", crv="P-256")
    host = {"jwk": json.loads(host_key.export_public())}
    async with d1_face.d1_of(issuer_id, verification_host=host) as bank:
        owner = DatabaseOwner(d1_face, bank, host_key)
        now, former = await owner.honest(IN_FORCE), await owner.wanted(FORMER)
        await owner.publish(FORMER, former)
        await owner.publish(IN_FORCE, now)
        yield owner

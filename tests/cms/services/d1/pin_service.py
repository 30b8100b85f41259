"""The PIN use cases of one bank in this process: real vault, real database, no HTTP."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace

from jwcrypto.jwe import JWE

from cms.domain.errors import ServiceUnavailable, StoredValueBroken
from cms.domain.records import Actor
from cms.persistence.store import Store
from cms.sandbox.partners.pin_blocks import iso0_pin
from cms.services.audit import Audit
from cms.services.d1.pins import PinEnvelope, Pins
from crypto.jose import jwe
from hsm.port import PinBlockType
from hsm.vault import Vault
from tests.in_process_vault import InProcessVault
from tests.issuer_records import SampleIssuer, open_issuer, run_sql

ACTOR = Actor("testbank01", "call-1")
TRIES_MAX = 100


def envelope(text: str, block_type: PinBlockType = PinBlockType.ISO0) -> PinEnvelope:
    return PinEnvelope(block_type, text, jwe.parse(text).digest)


@dataclass(frozen=True)
class PinService:
    """One bank with ``card-1`` to ``card-4``, and the service's way to their PINs."""

    url: str
    sample_issuer: SampleIssuer
    store: Store
    vault: InProcessVault

    @classmethod
    @asynccontextmanager
    async def opened(cls, url: str, vault: Vault) -> AsyncIterator["PinService"]:
        async with cls.over(open_issuer(url, vault), url, vault) as pin_service:
            yield pin_service

    @classmethod
    @asynccontextmanager
    async def over(
        cls, sample_issuer: SampleIssuer, url: str, vault: Vault
    ) -> AsyncIterator["PinService"]:
        """Open the use cases of a bank that is there."""
        store = Store.connect(url)
        await store.open()
        called = InProcessVault(vault)
        try:
            yield cls(url, sample_issuer, store, called)
        finally:
            await called.close()
            await store.close()

    def through(self, store: Store) -> "PinService":
        """Return the same use cases over another store."""
        return replace(self, store=store)

    @property
    def pins(self) -> Pins:
        return Pins(self.store, self.vault, Audit(self.store))

    @property
    def actor(self) -> Actor:
        """D1, as a client of the bank."""
        return Actor(self.sample_issuer.client_id, "call-1")

    async def put(self, text: str, card_id: str = "card-1") -> None:
        """Set a PIN, once."""
        await self.pins.set_pin(self.sample_issuer.card(card_id), envelope(text), self.actor)

    async def put_until_done(self, text: str) -> None:
        """Set a PIN as D1 does, which repeats a call that was answered with 503."""
        for _ in range(TRIES_MAX):
            with suppress(ServiceUnavailable):
                return await self.put(text)
        raise AssertionError("never accepted")

    async def pin(self, card_id: str = "card-1") -> str:
        """Read the PIN back as D1 does."""
        answer = await self.pins.get_pin(self.sample_issuer.card(card_id), ACTOR)
        return self.decrypt(answer, card_id)

    def decrypt(self, answer: str, card_id: str = "card-1") -> str:
        encrypted = JWE(algs=["ECDH-ES", "A256GCM"])
        encrypted.deserialize(answer, self.sample_issuer.d1_key)
        return iso0_pin(json.loads(encrypted.payload)["pinBlock"], self.sample_issuer.pans[card_id])

    async def counter(self, card_id: str = "card-1") -> int:
        return await self.pins.change_counter(self.sample_issuer.card(card_id))

    def rows(self, card_id: str = "card-1") -> tuple[object, ...]:
        """Return all that a PIN change writes."""
        return (
            run_sql(
                self.url,
                "SELECT to_jsonb(cards) FROM cards WHERE card_id = %s",
                card_id,
            ),
            run_sql(self.url, "SELECT * FROM pin_changes WHERE card_id = %s", card_id),
            run_sql(
                self.url,
                "SELECT counter FROM audit_events WHERE card_id = %s AND event = 'pin.set'",
                card_id,
            ),
        )

    async def _pin_if_it_opens(self, card_id: str) -> str | None:
        with suppress(StoredValueBroken):
            return await self.pin(card_id)
        return None

    async def faults(self, accepted: Mapping[str, str], card_id: str = "card-1") -> list[str]:
        """Check the books of a card whose accepted JWEs held these PINs; name what is wrong."""
        changes = run_sql(
            self.url,
            "SELECT counter, request_key FROM pin_changes WHERE card_id = %s ORDER BY counter",
            card_id,
        )
        audited = run_sql(
            self.url,
            "SELECT counter FROM audit_events WHERE card_id = %s AND event = 'pin.set'"
            " ORDER BY counter",
            card_id,
        )
        pins = {envelope(text).request_key: pin for text, pin in accepted.items()}
        counters = list(range(1, len(accepted) + 1))
        checks = {
            "the counter is not the number of accepted PINs": await self.counter(card_id)
            == len(accepted),
            "history has a gap or a double": [counter for counter, _ in changes] == counters,
            "audit has a gap or a double": [counter for (counter,) in audited] == counters,
            "history has other requests than were accepted": {key for _, key in changes}
            == set(pins),
            "the PIN is not the one of the last change": bool(changes)
            and await self._pin_if_it_opens(card_id) == pins.get(changes[-1][1]),
        }
        return [fault for fault, holds in checks.items() if not holds]

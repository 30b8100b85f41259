"""SECCOS PINs that meet others, and in which order they are refused: no guess is free."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from cms.domain.errors import (
    BadRequest,
    CardForbids,
    CardNotFound,
    DomainError,
    Field,
    PinRefused,
    Refusal,
    TooManyFailures,
)
from cms.domain.records import Actor
from cms.services.d1.pins import PinEnvelope, Pins
from hsm.port import CLIENT_WINDOW_SECONDS, PinBlockType
from tests import counted
from tests.cms.services.d1.pin_service import PinService, envelope
from tests.cms.services.d1.test_pins_at_once import Between, Change
from tests.in_process_vault import InProcessVault
from tests.issuer_records import run_sql
from tests.operators import TRUST_FILE, now
from tests.seccos_issuer import SeccosIssuer, Watched, open_girobank, watched_vault

pytestmark = pytest.mark.anyio

PIN, OTHER_PIN = "4071", "9382"


@dataclass(frozen=True)
class Giro:
    """The PIN use cases of an issuer whose cards take SECCOS."""

    pin_service: PinService
    vault: Watched
    seccos_issuer: SeccosIssuer

    async def put(self, jwe: str, pins: Pins | None = None) -> None:
        await self.send(envelope(jwe, PinBlockType.SECCOS), pins=pins)

    async def send(
        self,
        sent: PinEnvelope | BadRequest,
        card_id: str = "card-1",
        *,
        pins: Pins | None = None,
    ) -> None:
        """Set a PIN, through another process' *pins* where the test says."""
        card, actor = (
            self.pin_service.sample_issuer.card(card_id),
            Actor(self.pin_service.sample_issuer.client_id, "call-1"),
        )
        await (pins or self.pin_service.pins).set_pin(card, sent, actor)

    def failures(self) -> dict[str, int]:
        """Count those of all cards and of all clients, by their kind."""
        return counted.failures(self.vault, self.pin_service.sample_issuer.issuer_id)

    async def fail(self, jwe: str, times: int, card_id: str = "card-1") -> None:
        for _ in range(times):
            with pytest.raises(PinRefused):
                await self.send(envelope(jwe, PinBlockType.SECCOS), card_id)


@pytest.fixture
async def giro(database_url: str, tmp_path: Path) -> AsyncIterator[Giro]:
    vault = watched_vault(tmp_path)
    seccos_issuer = open_girobank(database_url, vault, profile={})
    async with PinService.over(seccos_issuer.sample_issuer, database_url, vault) as pin_service:
        yield Giro(pin_service, vault, seccos_issuer)


async def test_of_several_reasons_to_refuse_the_first_one_is_answered(giro: Giro) -> None:
    accepted = giro.seccos_issuer.seccos(PIN, 0)
    await giro.put(accepted)
    await giro.fail(giro.seccos_issuer.wrong_prw(1), 5)
    await giro.fail(giro.seccos_issuer.wrong_mac(0, "card-3"), 60, "card-3")
    run_sql(giro.pin_service.url, "UPDATE cards SET state = 'blocked' WHERE card_id = 'card-2'")
    new = envelope(giro.seccos_issuer.seccos(PIN, 1), PinBlockType.SECCOS)
    tried, before = giro.vault.tried, giro.failures()

    async def refused(sent: PinEnvelope | BadRequest, card_id: str = "card-1") -> DomainError:
        with pytest.raises(DomainError) as raised:
            await giro.send(sent, card_id)
        return raised.value

    assert type(await refused(new, "unknown")) is CardNotFound
    assert type(await refused(new, "card-2")) is CardForbids
    assert type(await refused(BadRequest(Field.BODY))) is BadRequest
    await giro.put(accepted)
    assert type(await refused(new)) is TooManyFailures
    counted.age(giro.vault, giro.pin_service.sample_issuer.issuer_id, CLIENT_WINDOW_SECONDS)
    last = await refused(new)
    assert isinstance(last, PinRefused)
    assert last.refusal is Refusal.CARD_REFUSED
    assert (giro.vault.tried, giro.failures()) == (tried, before)


async def test_a_pin_whose_counter_was_taken_meanwhile_is_stale_and_counts_for_the_client(
    giro: Giro,
) -> None:
    async def another_is_first(change: Change) -> bool:
        await giro.put(giro.seccos_issuer.seccos(OTHER_PIN, 0))
        return await change()

    store = Between(giro.pin_service.store, another_is_first)
    slow = giro.pin_service.through(store).pins
    with pytest.raises(PinRefused) as refused:
        await giro.put(giro.seccos_issuer.seccos(PIN, 0), slow)
    assert refused.value.refusal is Refusal.NOT_GENUINE
    assert store.tries == 1  # the second time the vault has seen the new counter
    assert await giro.pin_service.counter() == 1
    assert giro.failures() == {"client.seccos": 1}


async def test_guesses_through_two_processes_are_no_more(giro: Giro, tmp_path: Path) -> None:
    another = Watched(giro.vault._hsm_token, tmp_path, tmp_path / TRUST_FILE, now)
    beside = replace(giro.pin_service, vault=InProcessVault(another))
    guesses = [
        giro.put(giro.seccos_issuer.wrong_prw(0), process.pins)
        for _ in range(10)
        for process in (giro.pin_service, beside)
    ]
    outcomes = await asyncio.gather(*guesses, return_exceptions=True)
    assert all(isinstance(outcome, PinRefused) for outcome in outcomes)
    assert giro.vault.tried + another.tried == 5
    await beside.vault.close()

"""SECCOS PINs that meet others, and failures that cannot be counted: no guess is free."""

import asyncio
import gc
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import LiteralString
from unittest.mock import AsyncMock

import pytest

from cms.domain.errors import (
    BadRequest,
    CardForbids,
    CardNotFound,
    DomainError,
    Field,
    PinRefused,
    Refusal,
    ServiceUnavailable,
    TooManyFailures,
)
from cms.domain.records import Actor
from cms.persistence.store import Store
from cms.sandbox import HANG_SECONDS
from cms.services.d1.pins import PinEnvelope, Pins
from hsm.port import PinBlockType
from tests.cms.services.d1.pin_service import PinService, envelope
from tests.cms.services.d1.test_pins_at_once import Between, Change
from tests.issuer_records import run_sql
from tests.seccos_issuer import SeccosIssuer, Watched, open_girobank, watched_vault

pytestmark = pytest.mark.anyio

PIN, OTHER_PIN = "4071", "9382"
CARDS: LiteralString = "UPDATE cards SET seccos_failed_at = array_fill(now(), ARRAY[5])"
CLIENTS: LiteralString = (
    "INSERT INTO client_failures (issuer_id, client_id, seccos_failed_at)"
    " SELECT issuer_id, issuer_id, array_fill(now(), ARRAY[60]) FROM issuers"
)


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
        await (pins or self.pin_service.pins).set_pin(self.pin_service.policy, card, sent, actor)

    def failures(self) -> tuple[int, int]:
        """Count those of all cards and those of all clients."""
        cards = run_sql(
            self.pin_service.url, "SELECT sum(cardinality(seccos_failed_at)) FROM cards"
        )
        clients = run_sql(
            self.pin_service.url,
            "SELECT coalesce(sum(cardinality(seccos_failed_at)), 0) FROM client_failures",
        )
        return int(cards[0][0]), int(clients[0][0])


@pytest.fixture
async def giro(database_url: str, tmp_path: Path) -> AsyncIterator[Giro]:
    vault = watched_vault(tmp_path)
    seccos_issuer = open_girobank(database_url, vault, profile={})
    async with PinService.over(seccos_issuer.sample_issuer, database_url, vault) as pin_service:
        yield Giro(pin_service, vault, seccos_issuer)


async def test_of_several_reasons_to_refuse_the_first_one_is_answered(giro: Giro) -> None:
    accepted = giro.seccos_issuer.seccos(PIN, 0)
    await giro.put(accepted)
    for failed in (CARDS, CLIENTS):
        run_sql(giro.pin_service.url, failed)
    run_sql(giro.pin_service.url, "UPDATE cards SET state = 'blocked' WHERE card_id = 'card-2'")
    new = envelope(giro.seccos_issuer.seccos(PIN, 1), PinBlockType.SECCOS)
    asked, before = giro.vault.asked, giro.failures()

    async def refused(sent: PinEnvelope | BadRequest, card_id: str = "card-1") -> DomainError:
        with pytest.raises(DomainError) as raised:
            await giro.send(sent, card_id)
        return raised.value

    assert type(await refused(new, "unknown")) is CardNotFound
    assert type(await refused(new, "card-2")) is CardForbids
    assert type(await refused(BadRequest(Field.BODY))) is BadRequest
    await giro.put(accepted)
    assert type(await refused(new)) is TooManyFailures
    run_sql(giro.pin_service.url, "DELETE FROM client_failures")
    last = await refused(new)
    assert isinstance(last, PinRefused)
    assert last.refusal is Refusal.CARD_REFUSED
    assert (giro.vault.asked, giro.failures()) == (asked, (before[0], 0))


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
    assert giro.failures() == (0, 1)


async def test_a_card_that_is_refused_while_the_vault_works_keeps_its_pin(giro: Giro) -> None:
    async def refuse_first(change: Change) -> bool:
        run_sql(giro.pin_service.url, CARDS)
        return await change()

    slow = giro.pin_service.through(Between(giro.pin_service.store, refuse_first)).pins
    with pytest.raises(PinRefused) as refused:
        await giro.put(giro.seccos_issuer.seccos(PIN, 0), slow)
    assert refused.value.refusal is Refusal.CARD_REFUSED
    assert await giro.pin_service.counter() == 0


async def test_guesses_through_two_processes_are_at_most_one_more(giro: Giro) -> None:
    processes = [giro.pin_service.pins, giro.pin_service.pins]
    guesses = [
        giro.put(giro.seccos_issuer.wrong_prw(0), pins) for _ in range(10) for pins in processes
    ]
    outcomes = await asyncio.gather(*guesses, return_exceptions=True)
    assert all(isinstance(outcome, PinRefused) for outcome in outcomes)
    assert 5 <= giro.vault.asked <= 6


async def test_pins_of_different_cards_do_not_wait_for_each_other(giro: Giro) -> None:
    both_sealed = asyncio.Barrier(2)

    async def meet(change: Change) -> bool:
        await both_sealed.wait()
        return await change()

    pins = giro.pin_service.through(Between(giro.pin_service.store, meet)).pins
    async with asyncio.timeout(HANG_SECONDS):
        await asyncio.gather(
            *(
                giro.send(
                    envelope(giro.seccos_issuer.seccos(PIN, 0, card_id), PinBlockType.SECCOS),
                    card_id,
                    pins=pins,
                )
                for card_id in ("card-1", "card-2")
            )
        )


async def test_a_guess_that_cannot_be_counted_gets_no_verdict(
    giro: Giro, monkeypatch: pytest.MonkeyPatch
) -> None:
    for count in ("count_card_failure", "count_client_failure"):
        monkeypatch.setattr(Store, count, AsyncMock(side_effect=ServiceUnavailable))
    pins = giro.pin_service.pins
    for jwe in (giro.seccos_issuer.wrong_prw(0), giro.seccos_issuer.wrong_mac(0)):
        with pytest.raises(ServiceUnavailable):
            await giro.put(jwe, pins)
    await giro.put(giro.seccos_issuer.seccos(PIN, 0), pins)  # and the card's turn went on


async def test_a_put_that_is_cancelled_leaves_the_turn_to_the_next(giro: Giro) -> None:
    sealed = asyncio.Event()

    async def never(_: Change) -> bool:
        sealed.set()
        return await asyncio.Event().wait()

    pins = giro.pin_service.through(Between(giro.pin_service.store, never)).pins
    first = asyncio.create_task(giro.put(giro.seccos_issuer.seccos(PIN, 0), pins))
    await sealed.wait()
    second = asyncio.create_task(giro.put(giro.seccos_issuer.wrong_mac(0), pins))
    first.cancel()
    with pytest.raises(PinRefused):
        await second
    del first, second
    gc.collect()
    assert len(pins._turns) == 0

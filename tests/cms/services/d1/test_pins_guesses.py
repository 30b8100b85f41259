"""ISO-0 blocks for other PANs: guesses at once, over many cards, and by the issuer's policy."""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest

from cms.domain.errors import (
    PinForbidden,
    PinRefused,
    Refusal,
    ServiceUnavailable,
    TooManyFailures,
    Unauthorized,
)
from cms.services.d1.pins import Pins
from hsm.counts import DAY_SECONDS, Counts
from hsm.errors import CountsUnavailable
from hsm.vault import Vault
from tests import counted
from tests.cms.services.d1.pin_service import ACTOR, PinService, envelope
from tests.issuer_records import PANS, add_clients, d1_client, open_issuer
from tests.seccos_issuer import Watched, watched_vault

pytestmark = pytest.mark.anyio

PIN = "4071"
OTHER_PAN = PANS[3]
OTHER = replace(ACTOR, client_id="testbank01-b")


@pytest.fixture
async def strict(database_url: str, vault: Vault) -> AsyncIterator[PinService]:
    """A bank whose policy allows few failures."""
    policy: dict[str, object] = {
        "failures_card_max": 2,
        "refusals_card_max": 3,
        "failures_client_max": 4,
    }
    sample_issuer = open_issuer(database_url, vault, policy=policy)
    async with PinService.over(sample_issuer, database_url, vault) as pin_service:
        yield pin_service


async def guess(pin_service: PinService, card_id: str = "card-1") -> Refusal | None:
    """Send a block for another PAN; tell what the audit is told."""
    with pytest.raises(PinRefused) as refused:
        await pin_service.put(pin_service.sample_issuer.pin_jwe(PIN, card_id, OTHER_PAN), card_id)
    return refused.value.refusal


async def send(pin_service: PinService, pin: str, card_id: str = "card-1") -> None:
    await pin_service.put(pin_service.sample_issuer.pin_jwe(pin, card_id), card_id)


async def test_the_policy_says_how_many_blocks_may_fail(strict: PinService) -> None:
    assert [await guess(strict) for _ in range(2)] == [Refusal.WRONG_PIN_DATA] * 2
    for pin in (PIN, "1111"):
        with pytest.raises(PinRefused) as refused:
            await send(strict, pin)
        assert refused.value.refusal is Refusal.CARD_REFUSED
    await send(strict, PIN, "card-2")


async def test_the_policy_says_how_many_pins_it_may_refuse(strict: PinService) -> None:
    for _ in range(3):
        with pytest.raises(PinForbidden):
            await send(strict, "1111")
    with pytest.raises(PinRefused):
        await send(strict, PIN)


async def test_a_refused_card_takes_pins_again_a_day_later_or_once_an_operator_says_so(
    strict: PinService, vault: Vault
) -> None:
    for _ in range(2):
        await guess(strict)
    counted.age(vault, strict.sample_issuer.issuer_id, DAY_SECONDS)
    await send(strict, PIN)
    for _ in range(2):
        await guess(strict)
    vault.forget_failures(strict.sample_issuer.card())
    await send(strict, PIN)


async def test_blocks_for_many_cards_stop_the_client_and_are_an_alarm(
    strict: PinService, vault: Vault, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "hsm.budgets"):
        for card_id in ("card-1", "card-2", "card-3", "card-1"):
            assert await guess(strict, card_id) is Refusal.WRONG_PIN_DATA
        with pytest.raises(TooManyFailures):
            await send(strict, PIN, "card-2")
    assert sorted((record.levelname, record.getMessage()) for record in caplog.records) == [
        ("ERROR", "alarm.iso0_client"),
        ("WARNING", "iso0.card_refused"),
    ]
    add_clients(vault, strict.sample_issuer.issuer_id, d1_client(OTHER.client_id, "dns:d1.test"))
    jwe = strict.sample_issuer.pin_jwe(PIN, "card-2")
    await strict.pins.set_pin(strict.sample_issuer.card("card-2"), envelope(jwe), OTHER)


async def test_a_client_that_the_manifest_does_not_have_sets_no_pin(strict: PinService) -> None:
    jwe = strict.sample_issuer.pin_jwe(PIN)
    with pytest.raises(Unauthorized):
        await strict.pins.set_pin(strict.sample_issuer.card(), envelope(jwe), OTHER)


async def test_pins_that_the_policy_refuses_do_not_stop_the_client(strict: PinService) -> None:
    for card_id in ("card-1", "card-2", "card-3") * 2:
        with pytest.raises(PinForbidden):
            await send(strict, "1234", card_id)
    await send(strict, PIN)


async def test_of_20_guesses_at_once_5_are_tried(database_url: str, tmp_path: Path) -> None:
    vault: Watched = watched_vault(tmp_path)
    sample_issuer = open_issuer(database_url, vault)
    async with PinService.over(sample_issuer, database_url, vault) as pin_service:
        pins: Pins = pin_service.pins
        await asyncio.gather(
            *(
                pins.set_pin(
                    sample_issuer.card(),
                    envelope(sample_issuer.pin_jwe(PIN, "card-1", OTHER_PAN)),
                    ACTOR,
                )
                for _ in range(20)
            ),
            return_exceptions=True,
        )
    assert vault.tried == 5


@pytest.mark.parametrize("count", ["begin", "take_back"])
async def test_a_pin_that_cannot_be_counted_gets_no_verdict(
    pin_service: PinService, vault: Vault, count: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Counts, count, Mock(side_effect=CountsUnavailable))
        for pan, pin in ((OTHER_PAN, PIN), (PANS[0], "1111"), (PANS[0], PIN)):
            with pytest.raises(ServiceUnavailable):
                await pin_service.put(pin_service.sample_issuer.pin_jwe(pin, "card-1", pan))
    counted.forget(vault)
    await send(pin_service, PIN)

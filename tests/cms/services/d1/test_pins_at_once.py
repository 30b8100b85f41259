"""Changes of one card's PIN that meet: none is lost, none counts twice, none is half done."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import AsyncConnection

from cms.domain.errors import CardForbids, ServiceUnavailable
from cms.domain.records import Actor, CardToChange
from cms.persistence.pool import Pool
from cms.persistence.store import Store
from cms.sandbox import HANG_SECONDS
from hsm.port import CardRef, PinBlockType, SealedChange
from hsm.vault import Vault
from tests.cms.services.d1.pin_service import PinService
from tests.feeds import described
from tests.issuer_records import load_cards, run_sql

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[4]
WRITERS = 32

Change = Callable[[], Awaitable[bool]]


class Between(Store):
    """A store with something between what the vault made and the statement that stores it."""

    def __init__(self, store: Store, change: Callable[[Change], Awaitable[bool]]) -> None:
        super().__init__(store.pool)
        self._change = change
        self.tries = 0

    async def change_pin(self, *given: Any, **named: Any) -> bool:  # noqa: ANN401 - passed on
        self.tries += 1
        go = super().change_pin
        return await self._change(lambda: go(*given, **named))


class Meeting(Between):
    """A store whose first two changes wait for one another."""

    def __init__(self, store: Store) -> None:
        super().__init__(store, self._meet)
        self._both_sealed = asyncio.Barrier(2)

    async def _meet(self, change: Change) -> bool:
        if self.tries <= 2:
            await self._both_sealed.wait()
        return await change()


class WithoutTheCondition(Store):
    """A store as it must not be: it writes what it computed, whatever the counter is by then."""

    def __init__(self, pool: Pool, url: str) -> None:
        super().__init__(pool)
        self._url = url

    async def change_pin(
        self,
        card: CardRef,
        read: CardToChange,
        change: SealedChange,
        pin_type: PinBlockType,
        request_key: bytes,
        actor: Actor,
    ) -> bool:
        counter, ids = read.counter + 1, (card.issuer_id, card.card_id)
        async with await AsyncConnection.connect(self._url, autocommit=True) as connection:
            await connection.execute(
                "UPDATE cards SET counter = %s, sealed_pin = %s, pin_type = %s"
                " WHERE issuer_id = %s AND card_id = %s",
                (counter, change.sealed_pin, pin_type, *ids),
            )
            await connection.execute(
                "INSERT INTO pin_changes (counter, issuer_id, card_id, actor, request_key)"
                " VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
                (counter, *ids, actor.client_id, request_key),
            )
            await connection.execute(
                "INSERT INTO audit_events (counter, issuer_id, card_id, actor, event)"
                " VALUES (%s, %s, %s, %s, 'pin.set')",
                (counter, *ids, actor.client_id),
            )
        return True


def different_pins(pin_service: PinService, count: int = WRITERS) -> dict[str, str]:
    """Make that many JWEs, each of a PIN of its own."""
    return {
        pin_service.sample_issuer.pin_jwe(pin): pin
        for pin in (f"92{number:02}" for number in range(count))
    }


async def test_of_32_writers_on_one_card_all_are_counted_and_the_last_one_holds(
    pin_service: PinService,
) -> None:
    accepted = different_pins(pin_service)
    await asyncio.gather(*map(pin_service.put_until_done, accepted))
    assert await pin_service.counter() == WRITERS
    assert await pin_service.faults(accepted) == []


async def test_the_check_of_the_books_finds_a_store_that_loses_changes(
    pin_service: PinService,
) -> None:
    accepted = different_pins(pin_service)
    broken = pin_service.through(WithoutTheCondition(pin_service.store.pool, pin_service.url))
    await asyncio.gather(*map(broken.put_until_done, accepted))
    assert "the counter is not the number of accepted PINs" in await pin_service.faults(accepted)


async def test_two_writers_that_read_the_same_counter_are_two_changes(
    pin_service: PinService,
) -> None:
    accepted, store = different_pins(pin_service, 2), Meeting(pin_service.store)
    await asyncio.gather(*map(pin_service.through(store).put, accepted))
    assert store.tries == 3  # one of them had to start again
    assert await pin_service.faults(accepted) == []


async def test_8_identical_puts_at_once_all_succeed_and_count_once(pin_service: PinService) -> None:
    jwe = pin_service.sample_issuer.pin_jwe("4071")
    await asyncio.gather(*(pin_service.put(jwe) for _ in range(8)))
    assert await pin_service.faults({jwe: "4071"}) == []


async def test_identical_puts_that_both_found_the_request_unknown_count_once(
    pin_service: PinService,
) -> None:
    jwe, store = pin_service.sample_issuer.pin_jwe("4071"), Meeting(pin_service.store)
    twin = pin_service.through(store)
    await asyncio.gather(twin.put(jwe), twin.put(jwe))
    assert store.tries == 2
    assert await pin_service.faults({jwe: "4071"}) == []


async def test_writers_on_different_cards_do_not_make_each_other_try_again(
    pin_service: PinService,
) -> None:
    cards = [f"card-{number}" for number in range(1, 5)]
    jwes = {card: pin_service.sample_issuer.pin_jwe("4071", card) for card in cards}
    store = Between(pin_service.store, lambda change: change())
    counting = pin_service.through(store)
    await asyncio.gather(*(counting.put(jwe, card) for card, jwe in jwes.items()))
    assert store.tries == len(cards)
    for card, jwe in jwes.items():
        assert await pin_service.faults({jwe: "4071"}, card) == []


async def test_a_card_that_is_never_as_it_was_read_is_tried_three_times(
    pin_service: PinService,
) -> None:
    async def somebody_else_was_first(_: Change) -> bool:
        return False

    before, store = pin_service.rows(), Between(pin_service.store, somebody_else_was_first)
    with pytest.raises(ServiceUnavailable):
        await pin_service.through(store).put(pin_service.sample_issuer.pin_jwe("4071"))
    assert store.tries == 3
    assert pin_service.rows() == before


async def test_a_card_that_is_blocked_while_the_vault_works_keeps_its_pin(
    pin_service: PinService,
) -> None:
    accepted = pin_service.sample_issuer.pin_jwe("4071")
    await pin_service.put(accepted)

    async def block_first(change: Change) -> bool:
        run_sql(pin_service.url, "UPDATE cards SET state = 'blocked' WHERE card_id = 'card-1'")
        return await change()

    with pytest.raises(CardForbids):
        await pin_service.through(Between(pin_service.store, block_first)).put(
            pin_service.sample_issuer.pin_jwe("9382")
        )
    run_sql(pin_service.url, "UPDATE cards SET state = 'active' WHERE card_id = 'card-1'")
    assert await pin_service.faults({accepted: "4071"}) == []


async def test_a_card_that_is_given_to_another_holder_while_the_vault_works_gets_a_pin_of_that_one(
    pin_service: PinService, vault: Vault
) -> None:
    bank = pin_service.sample_issuer
    renewed = described("card-1", bank.pans["card-1"], cardholder="bob")

    async def renew_first(change: Change) -> bool:
        if store.tries == 1:
            load_cards(pin_service.url, vault, bank, renewed)
        return await change()

    store, accepted = Between(pin_service.store, renew_first), bank.pin_jwe("4071")
    await pin_service.through(store).put(accepted)
    assert store.tries == 2
    assert await pin_service.faults({accepted: "4071"}) == []


async def test_a_change_whose_connection_breaks_before_its_commit_leaves_nothing(
    pin_service: PinService,
) -> None:
    async with undone_change(pin_service) as (change, backend):
        run_sql(pin_service.url, "SELECT pg_terminate_backend(%s)", backend)
        with pytest.raises(ServiceUnavailable):
            await change


async def test_a_change_that_is_cancelled_before_its_commit_leaves_nothing(
    pin_service: PinService,
) -> None:
    async with undone_change(pin_service) as (change, _):
        change.cancel()
        with suppress(asyncio.CancelledError):
            await change


async def test_a_process_that_is_killed_between_vault_and_commit_leaves_nothing(
    pin_service: PinService, vault: Vault
) -> None:
    jwe = pin_service.sample_issuer.pin_jwe("4071")
    before = pin_service.rows()
    service = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", KILLED, pin_service.url, pin_service.sample_issuer.issuer_id, jwe),
        cwd=ROOT,
    )
    assert await asyncio.wait_for(service.wait(), HANG_SECONDS) == -signal.SIGKILL
    assert pin_service.rows() == before
    await pin_service.put(jwe)
    assert await pin_service.faults({jwe: "4071"}) == []


KILLED = """
import asyncio, os, signal, sys
from cms.persistence.pool import Pool
from cms.persistence.store import Store
from cms.services.audit import Audit
from cms.services.d1.pins import Pins
from hsm.local import open_vault
from hsm.port import CardRef
from tests.cms.services.d1.pin_service import ACTOR, envelope
from tests.in_process_vault import InProcessVault

class Killed(Store):
    async def change_pin(self, card, read, change, *rest):
        assert change.sealed_pin
        os.kill(os.getpid(), signal.SIGKILL)

async def main(url, issuer_id, jwe):
    store = Killed.connect(url)
    await store.open()
    vault = open_vault()
    pins = Pins(store, InProcessVault(vault), Audit(store))
    await pins.set_pin(CardRef(issuer_id, "card-1"), envelope(jwe), ACTOR)

asyncio.run(main(*sys.argv[1:]))
"""


@asynccontextmanager
async def undone_change(
    pin_service: PinService,
) -> AsyncIterator[tuple[asyncio.Task[None], int]]:
    """Begin a change that cannot end, since its card's row is held, and that the block undoes.

    Afterwards nothing of it is there, and the same change succeeds.

    Yields:
        The change, and the process id of its database connection.
    """
    jwe, before = pin_service.sample_issuer.pin_jwe("4071"), pin_service.rows()
    with psycopg.connect(pin_service.url) as other:
        other.execute("SELECT FROM cards WHERE card_id = 'card-1' FOR UPDATE")
        change = asyncio.create_task(pin_service.put(jwe))
        waiting: list[tuple[int, ...]] = []
        while not waiting:
            assert not change.done()
            await asyncio.sleep(0.01)
            waiting = run_sql(
                pin_service.url,
                "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                " AND datname = current_database()",
            )
        yield change, waiting[0][0]
    assert pin_service.rows() == before
    await pin_service.put_until_done(jwe)
    assert await pin_service.faults({jwe: "4071"}) == []

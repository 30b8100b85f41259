"""What a PIN change leaves in ``card_scripts``: in its own statement, whatever comes at once."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from psycopg import errors

from cms.domain.cards import CardState
from cms.domain.errors import StoredValueBroken
from cms.domain.records import CardToChange
from cms.persistence.store import Store
from hsm.port import PinBlockType, SealedChange, SealedPin, SealedRecord
from tests.cms.persistence.stored_tokens import ACTOR, CARD, OTHER_CARD, StoredTokens, opened
from tests.issuer_records import run_sql

pytestmark = pytest.mark.anyio

CHANGES = 12


@pytest.fixture
async def stored(database_url: str) -> AsyncIterator[StoredTokens]:
    async with opened(database_url) as stored:
        yield stored


def due(name: str) -> SealedChange:
    return SealedChange(SealedPin(name.encode()), {}, "receipt", script_due=True)


async def change(store: Store, made: SealedChange, key: bytes) -> bool:
    found = await store.read_for_set(CARD, key)
    assert found is not None
    return await store.change_pin(CARD, found, made, PinBlockType.ISO0, key, ACTOR)


def scripts(url: str) -> list[tuple[object, ...]]:
    return run_sql(
        url,
        "SELECT card_id, counter, state, sealed_earlier_pin, superseded_at IS NOT NULL"
        " FROM card_scripts ORDER BY card_id, counter",
    )


async def test_a_change_begins_a_script_with_the_pin_before(stored: StoredTokens) -> None:
    assert await change(stored.store, due("first"), b"1")
    assert scripts(stored.url) == [("card-1", 1, "pending", None, False)]
    assert await change(stored.store, due("second"), b"2")
    assert scripts(stored.url) == [
        ("card-1", 1, "superseded", None, True),
        ("card-1", 2, "pending", b"first", False),
    ]


async def test_a_change_from_a_page_does_too(stored: StoredTokens) -> None:
    page = await stored.session()
    found = await stored.read()
    assert await stored.control_store.change_pin(
        *(CARD, found, due("first"), b"a request", page.session, ACTOR)
    )
    assert scripts(stored.url) == [("card-1", 1, "pending", None, False)]


async def test_where_none_is_due_the_last_is_superseded_and_none_begins(
    stored: StoredTokens,
) -> None:
    assert await change(stored.store, due("first"), b"1")
    assert await change(stored.store, SealedChange(None, {}, "receipt"), b"2")
    assert scripts(stored.url) == [("card-1", 1, "superseded", None, True)]


async def test_a_change_that_is_refused_leaves_the_scripts_alone(stored: StoredTokens) -> None:
    assert await change(stored.store, due("first"), b"1")
    old = CardToChange(CardState.ACTIVE, 0, SealedRecord(b"another"), False, False)
    with_old_record = (CARD, old, due("second"), PinBlockType.ISO0, b"2", ACTOR)
    assert not await stored.store.change_pin(*with_old_record)
    assert not await change(stored.store, due("second"), b"1")
    run_sql(stored.url, "UPDATE cards SET counter = 0")
    with pytest.raises(StoredValueBroken):
        await change(stored.store, due("second"), b"3")
    assert scripts(stored.url) == [("card-1", 1, "pending", None, False)]


async def test_a_change_touches_no_script_of_another_card(stored: StoredTokens) -> None:
    assert await change(stored.store, due("first"), b"1")
    found = await stored.read(OTHER_CARD)
    assert await stored.store.change_pin(
        *(OTHER_CARD, found, due("other"), PinBlockType.ISO0, b"1", ACTOR)
    )
    assert scripts(stored.url) == [
        ("card-1", 1, "pending", None, False),
        ("card-2", 1, "pending", None, False),
    ]


async def test_of_changes_at_once_each_supersedes_the_one_before(stored: StoredTokens) -> None:
    async def until_stored(number: int) -> None:
        while not await change(stored.store, due(str(number)), str(number).encode()):
            pass

    await asyncio.gather(*map(until_stored, range(CHANGES)))
    found = scripts(stored.url)
    assert [(counter, state) for _, counter, state, *_ in found] == [
        *((counter, "superseded") for counter in range(1, CHANGES)),
        (CHANGES, "pending"),
    ]
    assert [pin is None for *_, pin, _ in found] == [True] * (CHANGES - 1) + [False]


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE card_scripts SET state = 'confirmed'",
        "UPDATE card_scripts SET state = 'confirmed', confirmed_at = now()",
        "UPDATE card_scripts SET state = 'superseded', superseded_at = now()",
        "UPDATE card_scripts SET superseded_at = now()",
        "UPDATE card_scripts SET state = 'gone'",
    ],
)
async def test_a_closed_script_has_no_pin_and_its_time(stored: StoredTokens, sql: str) -> None:
    assert await change(stored.store, due("first"), b"1")
    assert await change(stored.store, due("second"), b"2")
    with pytest.raises(errors.CheckViolation):
        run_sql(stored.url, sql + " WHERE counter = 2")

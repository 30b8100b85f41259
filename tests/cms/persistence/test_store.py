"""Each request path is one round trip, and each statement does all or nothing."""

import re
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import LiteralString

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DataError

from cms.domain.cards import CardState, Verb
from cms.domain.errors import StoredValueBroken
from cms.domain.records import TAKEN, Actor, CardToChange, CardToRead, ManifestAnswer
from cms.persistence import admin, connection, pool
from cms.persistence.causes import Cause
from cms.persistence.store import Store
from cms.persistence.tables import VALUE_COLUMNS
from cms.sandbox.machine.postgres import Postgres
from hsm.port import (
    CardRef,
    PinBlockType,
    SealedChange,
    SealedPin,
    SealedRecord,
    SealedValue,
    ValueKind,
)
from tests.cms.audit_counts import counted_as_audited
from tests.issuer_records import run_sql
from tests.stored_cards import store_card

pytestmark = pytest.mark.anyio
CARD = CardRef("testbank01", "card-1")
ACTOR = Actor("testbank01", "call-1")
CLIENT = (CARD.issuer_id, ACTOR.client_id)
SEALED = SealedPin(b"sealed PIN")
ISO0_CHANGE = SealedChange(SEALED, {}, "receipt")
EVERY_VALUE = SealedChange(
    None, {kind: SealedValue(kind.value.encode()) for kind in ValueKind}, "receipt"
)
VALUES: LiteralString = (
    "SELECT sealed_pin, sealed_pvv, sealed_offset_3624, sealed_prw, sealed_script FROM cards"
)
KEY = b"this request"


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    """A store with one active card."""
    with admin.transaction(database_url) as database:
        admin.add_issuer(database, CARD.issuer_id, "A bank")
        store_card(database, CARD)
    store = Store.connect(database_url)
    await store.open()
    yield store
    await store.close()


async def read(store: Store, key: bytes = KEY) -> CardToChange:
    found = await store.read_for_set(CARD, key)
    assert found is not None
    return found


async def change(
    store: Store,
    found: CardToChange,
    key: bytes = KEY,
    change: SealedChange = ISO0_CHANGE,
    pin_type: PinBlockType = PinBlockType.ISO0,
) -> bool:
    return await store.change_pin(CARD, found, change, pin_type, key, ACTOR)


def as_read(state: CardState) -> CardToChange:
    return CardToChange(state, 0, SealedRecord(b"sealed record"), False, False)


def everything(url: str) -> tuple[list[tuple[object, ...]], ...]:
    return (
        run_sql(url, "SELECT * FROM cards"),
        run_sql(url, "SELECT * FROM pin_changes"),
        run_sql(url, "SELECT * FROM audit_events ORDER BY event_id"),
    )


# Round trips

CALLS: dict[str, tuple[int, Callable[[Store], Awaitable[object]]]] = {
    "read_for_set": (1, lambda store: store.read_for_set(CARD, KEY)),
    "read_for_get": (1, lambda store: store.read_for_get(CARD)),
    "read_counter": (1, lambda store: store.read_counter(CARD)),
    "activate": (1, lambda store: store.activate(CARD, ACTOR)),
    "refuse": (1, lambda store: store.refuse(CARD.issuer_id, "x", Verb.GET_PIN, "R", ACTOR)),
    "change_pin": (1, lambda store: change(store, as_read(CardState.BLOCKED))),
    "fault": (1, lambda store: store.pool.fault()),
    "is_in_service": (1, lambda store: store.is_in_service(CARD.issuer_id)),
    "newest_manifests": (1, lambda store: store.newest_manifests()),
    "manifest_answers": (1, lambda store: store.manifest_answers("host")),
    "read_manifest": (1, lambda store: store.read_manifest(CARD.issuer_id, 1)),
    "answer_manifest": (
        1,
        lambda store: store.answer_manifest(CARD.issuer_id, "host", ManifestAnswer(1, TAKEN)),
    ),
}


async def test_a_call_is_one_prepared_statement_without_a_transaction(
    store: Store, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "POOL_CONNECTIONS_MAX", 1)
    monkeypatch.setattr(connection, "PLANNED_ANEW_FROM", 1_000_000)
    single = Store.connect(database_url)
    await single.open()
    for name, (count, call) in CALLS.items():
        await call(single)  # prepares it on this connection
        with traced(single) as trace:
            await call(single)
        sent = [line for line in trace if line.startswith("F")]
        assert sent == ["F Bind", "F Describe", "F Execute", "F Sync"] * count, name
        assert trace.count("B ReadyForQuery") == count, name
    await single.close()


@contextmanager
def traced(store: Store) -> Iterator[list[str]]:
    """Note each message of the protocol: its direction and its name."""
    (connection,) = store.pool.connections
    lines: list[str] = []
    with tempfile.NamedTemporaryFile() as file:
        connection.pgconn.trace(file.fileno())
        yield lines
        connection.pgconn.untrace()
        for line in Path(file.name).read_text().splitlines():
            found = re.search(r"\t([FB])\t\d+\t(\w+)", line)
            if found:
                lines.append(f"{found[1]} {found[2]}")


# PUT


async def test_a_change_moves_the_counter_and_is_recorded_by_one_statement(
    store: Store, database_url: str
) -> None:
    found = await read(store)
    assert found == as_read(CardState.ACTIVE)
    assert await change(store, found)
    assert (await read(store)).request_known
    assert not (await read(store, b"another")).request_known
    assert run_sql(database_url, "SELECT counter, sealed_pin, pin_type FROM cards") == [
        (1, SEALED, "ISO0")
    ]
    ((counter, actor, key, changed),) = run_sql(
        database_url, "SELECT counter, actor, request_key, changed_at FROM pin_changes"
    )
    assert (counter, actor, key) == (1, ACTOR.client_id, KEY)
    assert run_sql(
        database_url,
        "SELECT card_id, actor, correlation_id, counter, at FROM audit_events"
        " WHERE event = 'pin.set'",
    ) == [(CARD.card_id, ACTOR.client_id, ACTOR.correlation_id, 1, changed)]
    assert run_sql(database_url, "SELECT pin_changed_at FROM cards") == [(changed,)]


@pytest.mark.parametrize(
    "meanwhile",
    [
        "UPDATE cards SET counter = 7",
        "UPDATE cards SET state = 'blocked'",
        "DELETE FROM cards",
        "INSERT INTO pin_changes VALUES ('testbank01', 'card-1', 9, now(), 'x', 'this request')",
    ],
    ids=["counter", "state", "card", "request"],
)
async def test_a_card_that_is_not_as_it_was_read_is_not_changed(
    store: Store, database_url: str, meanwhile: str
) -> None:
    found = await read(store)
    run_sql(database_url, meanwhile)
    before = everything(database_url)
    assert not await change(store, found)
    assert everything(database_url) == before


async def test_a_counter_that_was_put_back_is_no_race(store: Store, database_url: str) -> None:
    assert await change(store, await read(store))
    run_sql(database_url, "UPDATE cards SET counter = 0")
    before = everything(database_url)
    with pytest.raises(StoredValueBroken):
        await change(store, await read(store), b"another request")
    assert everything(database_url) == before


async def test_an_unknown_card_is_none(store: Store) -> None:
    for unknown in (CardRef("testbank01", "card-2"), CardRef("testbank02", "card-1")):
        assert await store.read_for_set(unknown, KEY) is None
        assert await store.read_for_get(unknown) is None
        assert await store.read_counter(unknown) is None
        assert await store.activate(unknown, ACTOR) is None


async def test_a_change_writes_the_values_it_has_and_clears_the_others(
    store: Store, database_url: str
) -> None:
    for number, values in enumerate(
        [EVERY_VALUE.values, {}, {ValueKind.SCRIPT: SealedValue(b"s")}, EVERY_VALUE.values]
    ):
        key, pin = str(number).encode(), SEALED if number % 2 else None
        assert await change(store, await read(store), key, SealedChange(pin, values, "receipt"))
        assert run_sql(database_url, VALUES) == [
            (pin, *(values.get(kind) for kind in (*VALUE_COLUMNS,)))
        ]
    assert [kind.value.encode() for kind in VALUE_COLUMNS] == [
        *(b"pvv", b"offset-3624", b"prw", b"script")
    ]


# GET


async def test_whatever_is_stored_of_a_card_is_read_and_not_judged(
    store: Store, database_url: str
) -> None:
    assert await change(store, await read(store))
    for state, pin_type, counter in product(CardState, [None, *PinBlockType], (0, 1, 2)):
        run_sql(
            database_url,
            "UPDATE cards SET state = %s, pin_type = %s, counter = %s",
            *(state, pin_type, counter),
        )
        assert await store.read_for_get(CARD) == CardToRead(
            *(state, pin_type, counter, 1, SealedRecord(b"sealed record"), SEALED)
        )


# The rest


@pytest.mark.parametrize("state", CardState)
async def test_activation_moves_an_inactive_card_only(
    store: Store, database_url: str, state: CardState
) -> None:
    run_sql(database_url, "UPDATE cards SET state = %s", state)
    inactive = state is CardState.INACTIVE
    with counted_as_audited(database_url) as counted:
        assert await store.activate(CARD, ACTOR) == state
    assert counted == ({Verb.ACTIVATE: 1} if inactive else {})
    after = CardState.ACTIVE if inactive else state
    assert run_sql(database_url, "SELECT state FROM cards") == [(after,)]
    assert (
        run_sql(database_url, "SELECT actor FROM audit_events WHERE event = 'card.activate'")
        == [(ACTOR.client_id,)] * inactive
    )


async def test_the_audit_of_a_refusal_keeps_no_card_id_that_the_issuer_does_not_have(
    store: Store, database_url: str
) -> None:
    with counted_as_audited(database_url) as counted:
        for card_id in ("card-1", "4111111111111111", "' OR ''='", "é" * 100, None):
            await store.refuse("testbank01", card_id, Verb.SET_PIN, "CARD_NOT_FOUND", ACTOR)
    assert counted == {"pin.set.refused": 5}
    assert run_sql(
        database_url,
        "SELECT card_id, event, reason, counter FROM audit_events WHERE actor = %s"
        " ORDER BY event_id",
        ACTOR.client_id,
    ) == [
        ("card-1", "pin.set.refused", "CARD_NOT_FOUND", None),
        *[(None, "pin.set.refused", "CARD_NOT_FOUND", None)] * 4,
    ]


async def test_a_pin_change_is_counted_if_it_was_made(store: Store, database_url: str) -> None:
    found = await read(store)
    with counted_as_audited(database_url) as counted:
        assert [await change(store, found), await change(store, found)] == [True, False]
    assert counted == {Verb.SET_PIN: 1}


async def test_an_issuer_that_is_unknown_or_suspended_is_not_in_service(
    store: Store, database_url: str
) -> None:
    assert await store.is_in_service("testbank01")
    assert not await store.is_in_service("testbank02")
    run_sql(database_url, "UPDATE issuers SET state = 'suspended'")
    assert not await store.is_in_service("testbank01")


async def test_of_each_issuer_the_newest_manifest_is_known_suspended_or_not(
    store: Store, database_url: str
) -> None:
    run_sql(database_url, "INSERT INTO issuers (issuer_id, name) VALUES ('testbank02', 'B')")
    assert await store.newest_manifests() == {"testbank01": 0, "testbank02": 0}
    for version in (9, 10):
        with admin.transaction(database_url) as database:
            admin.load_manifest(database, "testbank01", version, f"text {version}")
    run_sql(database_url, "UPDATE issuers SET state = 'suspended'")
    assert await store.newest_manifests() == {"testbank01": 10, "testbank02": 0}
    assert await store.read_manifest("testbank01", 9) == "text 9"
    assert await store.read_manifest("testbank01", 11) is None


async def test_of_each_host_the_last_answer_is_known(store: Store, database_url: str) -> None:
    for host, answer in (
        ("a", ManifestAnswer(1, TAKEN)),
        ("b", ManifestAnswer(1, "no")),
        ("a", ManifestAnswer(2, "not yet")),
    ):
        await store.answer_manifest("testbank01", host, answer)
    assert await store.manifest_answers("a") == {"testbank01": ManifestAnswer(2, "not yet")}
    assert await store.manifest_answers("b") == {"testbank01": ManifestAnswer(1, "no")}
    assert await store.manifest_answers("c") == {}
    with admin.transaction(database_url) as database:
        assert admin.manifest_answers(database, "testbank01") == {
            "a": ManifestAnswer(2, "not yet"),
            "b": ManifestAnswer(1, "no"),
        }


# What can be lost, and what must not be shown


@pytest.mark.parametrize(
    ("setting", "fault"),
    [
        ("on", None),
        ("remote_apply", None),
        ("off", Cause.NOT_DURABLE),
        ("local", Cause.NOT_DURABLE),
    ],
)
async def test_commits_that_may_be_lost_are_noticed(
    postgres: Postgres, database_url: str, setting: str, fault: Cause | None
) -> None:
    name = database_url.partition("@/")[2].partition("?")[0]
    run_sql(
        database_url,
        f"ALTER DATABASE {name} SET synchronous_commit = {setting}",
    )
    store = Store.connect(database_url)
    await store.open()
    found = await store.pool.fault()
    await store.close()
    assert found is fault


def test_an_error_of_an_operators_statement_shows_no_parameter(database_url: str) -> None:
    with admin.connect(database_url).connect() as connection:
        statement = text("SELECT 1 / 0 WHERE :pin <> ''")
        with pytest.raises(DataError, match="division by zero") as raised:
            connection.execute(statement, {"pin": "canary"})
    assert "canary" not in str(raised.value)

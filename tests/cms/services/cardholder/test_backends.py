"""A server's password: verified once in five minutes, and few guesses of it from one address."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from cms.domain.errors import ServiceUnavailable, TooManyFailures, Unauthorized
from cms.domain.records import Client
from cms.persistence import admin
from cms.persistence.control_store import ControlStore
from cms.persistence.store import Store
from cms.services import credentials
from cms.services.cardholder.apps import Apps
from cms.services.cardholder.backends import WAITING_MAX, Backends
from cms.services.cardholder.rate_limit import RateLimiter
from cms.services.directory import Directory
from tests.issuer_records import SECRET, run_sql

pytestmark = pytest.mark.anyio
ISSUER_ID, USER, OTHER = "testbank01", "testbank01-server", "testbank01-second"
HERE, THERE = "192.0.2.1", "192.0.2.2"


@dataclass
class Doorkeeper:
    """Backends whose time is the test's, and what argon2 was asked."""

    url: str
    store: Store
    asked: list[str]
    now: float = 1_700_000_000.0
    backends: Backends = field(init=False)

    def __post_init__(self) -> None:
        apps = Apps(Directory(self.store), ControlStore(self.store))
        self.backends = Backends(apps, RateLimiter(self.time), self.time)

    def time(self) -> float:
        return self.now

    async def refused(self, password: str = "wrong", user: str = USER, address: str = HERE) -> None:
        with pytest.raises(Unauthorized):
            await self.backends.caller(user, password, address)

    async def passes(self, user: str = USER, address: str = HERE) -> bool:
        app = await self.backends.caller(user, SECRET, address)
        return (app.client.client_id, app.issuer.issuer_id) == (user, ISSUER_ID)


@pytest.fixture
async def door(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Doorkeeper]:
    asked: list[str] = []

    def verify(secret_hash: str, secret: str) -> bool:
        asked.append(secret)
        return secret == SECRET and secret_hash.startswith("hash of")

    monkeypatch.setattr(credentials, "_verify", verify)
    with admin.transaction(database_url) as database:
        admin.add_issuer(database, ISSUER_ID, "A bank")
        for user in (USER, OTHER):
            admin.add_backend(
                database,
                *(ISSUER_ID, user, f"hash of {user}"),
                frame_key=f"{user}-key",
                embed_origins=[],
                show_button=True,
                hide_seconds=30,
                view_style={},
            )
        admin.add_client(database, ISSUER_ID, "testbank01-d1", "hash of d1", [])
    store = Store.connect(database_url)
    await store.open()
    yield Doorkeeper(database_url, store, asked)
    await store.close()


async def test_a_password_is_verified_again_after_five_minutes(door: Doorkeeper) -> None:
    for seconds in (0, 299):
        door.now += seconds
        assert await door.passes()
    assert door.asked == [SECRET]
    door.now += 2
    assert await door.passes()
    assert door.asked == [SECRET, SECRET]


async def test_who_is_no_server_in_service_is_refused_at_the_same_cost(door: Doorkeeper) -> None:
    for user in ("testbank01-nobody", "nobody0001-x", "testbank01-d1", "x", "", "\0" * 10):
        await door.refused(SECRET, user)
    assert door.asked == [SECRET] * 6


async def test_a_disabled_server_and_one_of_a_suspended_issuer_are_refused(
    door: Doorkeeper,
) -> None:
    for statement in (
        "UPDATE clients SET state = 'disabled'",
        "UPDATE clients SET state = 'active'",
        "UPDATE issuers SET state = 'suspended'",
    ):
        run_sql(door.url, statement)
        fresh = Doorkeeper(door.url, door.store, door.asked)
        if statement.endswith("'active'"):
            assert await fresh.passes()
        else:
            await fresh.refused(SECRET)


async def test_after_ten_failures_at_a_server_an_address_waits_a_minute(door: Doorkeeper) -> None:
    for _ in range(10):
        await door.refused()
    for password in (SECRET, "wrong"):
        with pytest.raises(TooManyFailures):
            await door.backends.caller(USER, password, HERE)
    assert door.asked == ["wrong"] * 10
    # Other servers behind the same address go on, as this one does from another.
    assert await door.passes(OTHER, HERE)
    assert await door.passes(USER, THERE)
    fresh = Doorkeeper(door.url, door.store, door.asked)
    for _ in range(10):
        await fresh.refused()
    fresh.now += 60
    assert await fresh.passes()


async def test_users_that_do_not_exist_share_one_limit(door: Doorkeeper) -> None:
    for n in range(10):
        await door.refused(SECRET, f"testbank01-{n}")
    for user in ("testbank01-10", "nobody0001-x"):
        with pytest.raises(TooManyFailures):
            await door.backends.caller(user, SECRET, HERE)
    assert await door.passes()


async def test_a_password_that_was_verified_passes_while_its_address_waits(
    door: Doorkeeper,
) -> None:
    assert await door.passes()
    for n in range(10):
        await door.refused(f"guess {n}")
    assert await door.passes()
    with pytest.raises(TooManyFailures):
        await door.backends.caller(USER, "guess 10", HERE)
    # Once it is no longer kept, it waits as any other.
    door.now += 301
    for n in range(10):
        await door.refused(f"guess {n}")
    with pytest.raises(TooManyFailures):
        await door.backends.caller(USER, SECRET, HERE)


async def test_a_wrong_password_is_verified_each_time(door: Doorkeeper) -> None:
    for _ in range(3):
        await door.refused()
    assert door.asked == ["wrong"] * 3


async def test_of_50_rate_limiter_at_once_few_wait_and_ten_are_verified(door: Doorkeeper) -> None:
    assert await door.passes(OTHER, THERE)  # so that none of them waits for the database
    door.asked.clear()
    rate_limiter = (door.backends.caller(USER, f"guess {n}", HERE) for n in range(50))
    outcomes = [type(each) for each in await asyncio.gather(*rate_limiter, return_exceptions=True)]
    assert outcomes.count(Unauthorized) == 10
    assert outcomes.count(TooManyFailures) == WAITING_MAX - 10
    assert outcomes.count(ServiceUnavailable) == 50 - WAITING_MAX
    assert len(door.asked) == 10


async def test_a_kept_password_does_not_wait_for_rate_limiter(door: Doorkeeper) -> None:
    assert await door.passes()
    rate_limiter = [asyncio.create_task(door.backends.caller(OTHER, "x", HERE)) for _ in range(30)]
    await asyncio.sleep(0)  # they wait for one another
    assert await door.passes()
    assert not all(guess.done() for guess in rate_limiter)
    await asyncio.gather(*rate_limiter, return_exceptions=True)


async def test_an_address_does_not_wait_for_the_rate_limiter_of_another(
    door: Doorkeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    verify = door.backends._credentials.verify
    began, answer = asyncio.Event(), asyncio.Event()

    async def slowly(client: Client | None, secret: str) -> bool:
        if secret == "slow":
            began.set()
            await answer.wait()
        return await verify(client, secret)

    monkeypatch.setattr(door.backends._credentials, "verify", slowly)
    guess = asyncio.create_task(door.backends.caller(USER, "slow", HERE))
    await began.wait()
    assert await asyncio.wait_for(door.passes(OTHER, THERE), 10)
    assert not guess.done()
    answer.set()
    await asyncio.gather(guess, return_exceptions=True)

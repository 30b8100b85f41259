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
from cms.sandbox import HANG_SECONDS
from cms.services import credentials
from cms.services.cardholder.apps import Apps
from cms.services.cardholder.backends import WAITING_MAX, Backends
from cms.services.cardholder.rate_limit import RateLimiter
from cms.services.directory import Directory
from crypto.secret import Secret
from tests.issuer_records import SECRET, run_sql

pytestmark = pytest.mark.anyio
ISSUER_ID, USER, OTHER = "testbank01", "testbank01-server", "testbank01-second"
HERE, THERE = "192.0.2.1", "192.0.2.2"


@dataclass
class PasswordCalls:
    """Backends whose time is the test's, and what argon2 was asked."""

    url: str
    store: Store
    asked: list[str]
    now: float = 1_700_000_000.0
    backends: Backends = field(init=False)

    def __post_init__(self) -> None:
        apps = Apps(Directory(self.store), ControlStore(self.store, Secret(b"k" * 32)))
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
async def calls(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PasswordCalls]:
    asked: list[str] = []

    def verify(secret_hash: str, secret: str) -> bool:
        asked.append(secret)
        return secret == SECRET and secret_hash.startswith("hash of")

    monkeypatch.setattr(credentials, "_verify", verify)
    with admin.transaction(database_url) as database:
        admin.add_issuer(database, ISSUER_ID, "An issuer")
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
    yield PasswordCalls(database_url, store, asked)
    await store.close()


async def test_a_password_is_verified_again_after_five_minutes(calls: PasswordCalls) -> None:
    for seconds in (0, 299):
        calls.now += seconds
        assert await calls.passes()
    assert calls.asked == [SECRET]
    calls.now += 2
    assert await calls.passes()
    assert calls.asked == [SECRET, SECRET]


async def test_who_is_no_server_in_service_is_refused_at_the_same_cost(
    calls: PasswordCalls,
) -> None:
    for user in ("testbank01-nobody", "nobody0001-x", "testbank01-d1", "x", "", "\0" * 10):
        await calls.refused(SECRET, user)
    assert calls.asked == [SECRET] * 6


async def test_a_disabled_server_and_one_of_a_suspended_issuer_are_refused(
    calls: PasswordCalls,
) -> None:
    for statement in (
        "UPDATE clients SET state = 'disabled'",
        "UPDATE clients SET state = 'active'",
        "UPDATE issuers SET state = 'suspended'",
    ):
        run_sql(calls.url, statement)
        fresh = PasswordCalls(calls.url, calls.store, calls.asked)
        if statement.endswith("'active'"):
            assert await fresh.passes()
        else:
            await fresh.refused(SECRET)


async def test_after_ten_failures_at_a_server_an_address_waits_a_minute(
    calls: PasswordCalls,
) -> None:
    for _ in range(10):
        await calls.refused()
    for password in (SECRET, "wrong"):
        with pytest.raises(TooManyFailures):
            await calls.backends.caller(USER, password, HERE)
    assert calls.asked == ["wrong"] * 10
    # Other servers behind the same address go on, as this one does from another.
    assert await calls.passes(OTHER, HERE)
    assert await calls.passes(USER, THERE)
    fresh = PasswordCalls(calls.url, calls.store, calls.asked)
    for _ in range(10):
        await fresh.refused()
    fresh.now += 60
    assert await fresh.passes()


async def test_users_that_do_not_exist_share_one_limit(calls: PasswordCalls) -> None:
    for n in range(10):
        await calls.refused(SECRET, f"testbank01-{n}")
    for user in ("testbank01-10", "nobody0001-x"):
        with pytest.raises(TooManyFailures):
            await calls.backends.caller(user, SECRET, HERE)
    assert await calls.passes()


async def test_a_password_that_was_verified_passes_while_its_address_waits(
    calls: PasswordCalls,
) -> None:
    assert await calls.passes()
    for n in range(10):
        await calls.refused(f"guess {n}")
    assert await calls.passes()
    with pytest.raises(TooManyFailures):
        await calls.backends.caller(USER, "guess 10", HERE)
    # Once it is no longer in the cache, it waits as any other.
    calls.now += 301
    for n in range(10):
        await calls.refused(f"guess {n}")
    with pytest.raises(TooManyFailures):
        await calls.backends.caller(USER, SECRET, HERE)


async def test_a_wrong_password_is_verified_each_time(calls: PasswordCalls) -> None:
    for _ in range(3):
        await calls.refused()
    assert calls.asked == ["wrong"] * 3


async def test_of_50_wrong_passwords_at_once_few_wait_and_ten_are_verified(
    calls: PasswordCalls,
) -> None:
    assert await calls.passes(OTHER, THERE)  # so that none of them waits for the database
    calls.asked.clear()
    guesses = (calls.backends.caller(USER, f"guess {n}", HERE) for n in range(50))
    outcomes = [type(each) for each in await asyncio.gather(*guesses, return_exceptions=True)]
    assert outcomes.count(Unauthorized) == 10
    assert outcomes.count(TooManyFailures) == WAITING_MAX - 10
    assert outcomes.count(ServiceUnavailable) == 50 - WAITING_MAX
    assert len(calls.asked) == 10


async def test_a_password_verified_lately_does_not_wait_for_others(calls: PasswordCalls) -> None:
    assert await calls.passes()
    guesses = [asyncio.create_task(calls.backends.caller(OTHER, "x", HERE)) for _ in range(30)]
    await asyncio.sleep(0)  # they wait for one another
    assert await calls.passes()
    assert not all(guess.done() for guess in guesses)
    await asyncio.gather(*guesses, return_exceptions=True)


async def test_an_address_does_not_wait_for_the_wrong_passwords_of_another(
    calls: PasswordCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    verify = calls.backends._credentials.verify
    began, answer = asyncio.Event(), asyncio.Event()

    async def slowly(client: Client | None, secret: str) -> bool:
        if secret == "slow":
            began.set()
            await answer.wait()
        return await verify(client, secret)

    monkeypatch.setattr(calls.backends._credentials, "verify", slowly)
    guess = asyncio.create_task(calls.backends.caller(USER, "slow", HERE))
    await began.wait()
    assert await asyncio.wait_for(calls.passes(OTHER, THERE), HANG_SECONDS)
    assert not guess.done()
    answer.set()
    await asyncio.gather(guess, return_exceptions=True)

"""A server's password: the right one passes, and few wrong ones come from one address."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from cms.domain.errors import TooManyFailures, Unauthorized
from cms.persistence import admin
from cms.persistence.control_store import ControlStore
from cms.persistence.store import Store
from cms.services.cardholder.apps import Apps
from cms.services.cardholder.backends import Backends
from cms.services.cardholder.rate_limit import RateLimiter
from cms.services.credentials import hash_secret
from cms.services.directory import Directory
from crypto.secret import Secret
from tests.cms.persistence.opened_store import opened_store
from tests.issuer_records import SECRET, run_sql

pytestmark = pytest.mark.anyio
ISSUER_ID, USER, OTHER = "testbank01", "testbank01-server", "testbank01-second"
HERE, THERE = "192.0.2.1", "192.0.2.2"


@dataclass
class PasswordCalls:
    """Backends whose time is the test's."""

    url: str
    store: Store
    now: float = 1_700_000_000.0
    backends: Backends = field(init=False)

    def __post_init__(self) -> None:
        apps = Apps(Directory(self.store), ControlStore(self.store, Secret(b"k" * 32)))
        self.backends = Backends(apps, RateLimiter(lambda: self.now))

    async def refused(self, password: str = "wrong", user: str = USER, address: str = HERE) -> None:
        with pytest.raises(Unauthorized):
            await self.backends.caller(user, password, address)

    async def passes(self, user: str = USER, address: str = HERE, password: str = SECRET) -> bool:
        app = await self.backends.caller(user, password, address)
        return (app.client.client_id, app.issuer.issuer_id) == (user, ISSUER_ID)


@pytest.fixture
async def calls(database_url: str) -> AsyncIterator[PasswordCalls]:
    with admin.transaction(database_url) as database:
        admin.add_issuer(database, ISSUER_ID, "An issuer")
        for user in (USER, OTHER):
            admin.add_backend(
                database,
                *(ISSUER_ID, user),
                hash_secret(SECRET),
                frame_key=f"{user}-key",
                embed_origins=[],
                show_button=True,
                hide_seconds=30,
                view_style={},
            )
        admin.add_client(database, ISSUER_ID, "testbank01-d1", hash_secret(SECRET), [])
    async with opened_store(Store.connect(database_url)) as store:
        yield PasswordCalls(database_url, store)


async def test_who_is_no_server_in_service_is_refused(calls: PasswordCalls) -> None:
    for user in ("testbank01-nobody", "nobody0001-x", "testbank01-d1", "x", "", "\0" * 10):
        await calls.refused(SECRET, user)


async def test_a_disabled_server_and_one_of_a_suspended_issuer_are_refused(
    calls: PasswordCalls,
) -> None:
    for statement in (
        "UPDATE clients SET state = 'disabled'",
        "UPDATE clients SET state = 'active'",
        "UPDATE issuers SET state = 'suspended'",
    ):
        run_sql(calls.url, statement)
        fresh = PasswordCalls(calls.url, calls.store)
        if statement.endswith("'active'"):
            assert await fresh.passes()
        else:
            await fresh.refused(SECRET)


async def test_a_secret_that_was_replaced_is_valid_until_its_time(calls: PasswordCalls) -> None:
    for valid, until in ((True, "now() + interval '1 hour'"), (False, "now()")):
        run_sql(
            calls.url,
            "UPDATE clients SET previous_secret_hash = %s, secret_hash = %s,"
            f" previous_secret_until = {until} WHERE auth = 'basic'",
            *(hash_secret(SECRET), hash_secret("the new one")),
        )
        fresh = PasswordCalls(calls.url, calls.store)
        assert await fresh.passes(password="the new one")
        if valid:
            assert await fresh.passes(password=SECRET)
        else:
            await fresh.refused(SECRET)


async def test_after_ten_failures_at_a_server_more_of_an_address_wait_a_minute(
    calls: PasswordCalls,
) -> None:
    for _ in range(10):
        await calls.refused()
    with pytest.raises(TooManyFailures):
        await calls.backends.caller(USER, "wrong", HERE)
    # The right one passes, here and elsewhere.
    assert await calls.passes()
    assert await calls.passes(OTHER, HERE)
    assert await calls.passes(USER, THERE)
    await calls.refused(address=THERE)
    calls.now += 60
    await calls.refused()


async def test_users_that_do_not_exist_share_one_limit(calls: PasswordCalls) -> None:
    for n in range(10):
        await calls.refused(SECRET, f"testbank01-{n}")
    for user in ("testbank01-10", "nobody0001-x"):
        with pytest.raises(TooManyFailures):
            await calls.backends.caller(user, SECRET, HERE)
    assert await calls.passes()


async def test_of_50_wrong_passwords_at_once_ten_are_answered(calls: PasswordCalls) -> None:
    tries = (calls.backends.caller(USER, f"try {n}", HERE) for n in range(50))
    outcomes = [type(each) for each in await asyncio.gather(*tries, return_exceptions=True)]
    assert outcomes.count(Unauthorized) == 10
    assert outcomes.count(TooManyFailures) == 40

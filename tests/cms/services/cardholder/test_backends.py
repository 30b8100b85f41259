"""A server's password: the right one passes, and few wrong ones come from one address."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from cms.domain.errors import TooManyFailures, Unauthorized
from cms.persistence import admin
from cms.persistence.store import Store
from cms.services.cardholder.apps import Servers
from cms.services.cardholder.backends import Backends
from cms.services.cardholder.rate_limit import RateLimiter
from cms.services.directory import Directory
from crypto.secret import Secret
from hsm.vault import Vault
from tests.cms.persistence.opened_store import opened_store
from tests.in_process_vault import InProcessVault
from tests.issuer_records import (
    SECRET,
    change_client,
    d1_client,
    load_manifest,
    remove_client,
    run_sql,
    secret_hash,
    server_client,
)

pytestmark = pytest.mark.anyio
ISSUER_ID, USER, OTHER = "testbank01", "testbank01-server", "testbank01-second"
HERE, THERE = "192.0.2.1", "192.0.2.2"


@dataclass
class PasswordCalls:
    """Backends whose time is the test's."""

    url: str
    store: Store
    vault: InProcessVault
    now: float = 1_700_000_000.0
    backends: Backends = field(init=False)

    def __post_init__(self) -> None:
        servers = Servers(Directory(self.store, self.vault))
        self.backends = Backends(servers, RateLimiter(lambda: self.now), lambda: self.now)

    def anew(self) -> "PasswordCalls":
        """Return the same calls, with nothing in a cache."""
        return PasswordCalls(self.url, self.store, self.vault, self.now)

    async def refused(self, password: str = "wrong", user: str = USER, address: str = HERE) -> None:
        with pytest.raises(Unauthorized):
            await self.backends.caller(user, Secret(password), address)

    async def passes(self, user: str = USER, address: str = HERE, password: str = SECRET) -> bool:
        app = await self.backends.caller(user, Secret(password), address)
        return (app.client.client_id, app.manifest.issuer_id) == (user, ISSUER_ID)


@pytest.fixture
async def calls(database_url: str, vault: Vault) -> AsyncIterator[PasswordCalls]:
    with admin.transaction(database_url) as database:
        admin.add_issuer(database, ISSUER_ID, "An issuer")
    servers = [server_client(user) for user in (USER, OTHER)]
    d1 = d1_client("testbank01-d1", "CN=d1", secret=SECRET)
    load_manifest(vault, ISSUER_ID, clients=[*servers, d1])
    called = InProcessVault(vault)
    async with opened_store(Store.connect(database_url)) as store:
        yield PasswordCalls(database_url, store, called)
    await called.close()


async def test_who_is_no_server_in_service_is_refused(calls: PasswordCalls) -> None:
    for user in ("testbank01-nobody", "nobody0001-x", "testbank01-d1", "x", "", "\0" * 10):
        await calls.refused(SECRET, user)


async def test_a_server_that_is_removed_and_one_of_a_suspended_issuer_are_refused(
    calls: PasswordCalls, vault: Vault
) -> None:
    remove_client(vault, ISSUER_ID, OTHER)
    await calls.anew().refused(SECRET, OTHER)
    assert await calls.anew().passes()
    run_sql(calls.url, "UPDATE issuers SET state = 'suspended'")
    await calls.anew().refused(SECRET)


async def test_a_secret_that_was_replaced_is_valid_until_its_time(
    calls: PasswordCalls, vault: Vault
) -> None:
    end = datetime.fromtimestamp(calls.now + 60, UTC).isoformat()
    secrets = [secret_hash("the new one"), secret_hash(SECRET, valid_until=end)]
    change_client(vault, ISSUER_ID, USER, secrets=secrets)
    assert await calls.passes(password="the new one")
    assert await calls.passes(password=SECRET)
    calls.now += 60
    assert await calls.passes(password="the new one")
    await calls.refused(SECRET)


async def test_after_ten_failures_at_a_server_more_of_an_address_wait_a_minute(
    calls: PasswordCalls,
) -> None:
    for _ in range(10):
        await calls.refused()
    with pytest.raises(TooManyFailures):
        await calls.backends.caller(USER, Secret("wrong"), HERE)
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
            await calls.backends.caller(user, Secret(SECRET), HERE)
    assert await calls.passes()


async def test_of_50_wrong_passwords_at_once_ten_are_answered(calls: PasswordCalls) -> None:
    tries = (calls.backends.caller(USER, Secret(f"try {n}"), HERE) for n in range(50))
    outcomes = [type(each) for each in await asyncio.gather(*tries, return_exceptions=True)]
    assert outcomes.count(Unauthorized) == 10
    assert outcomes.count(TooManyFailures) == 40

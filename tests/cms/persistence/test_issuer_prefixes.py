"""A control token is looked for at the issuers whose control tokens begin as it does."""

from unittest.mock import AsyncMock

import pytest

from cms.persistence.issuer_prefixes import ABSENT_SECONDS, TTL_SECONDS, IssuerPrefixes
from crypto.control_tokens import prefix

pytestmark = pytest.mark.anyio
ISSUERS = ["testbank01", "testbank02"]


def alike(issuer_id: str) -> str:
    """Find another issuer whose control tokens begin as those of *issuer_id*."""
    others = (f"bank{number:06}" for number in range(10**6))
    return next(other for other in others if prefix(other) == prefix(issuer_id))


@pytest.fixture
def store() -> AsyncMock:
    store = AsyncMock()
    store.issuer_ids.return_value = ISSUERS
    return store


async def test_who_it_may_be_is_read_once_in_a_while(store: AsyncMock) -> None:
    clock = [0.0]
    prefixes = IssuerPrefixes(store, lambda: clock[0])
    for issuer_id in ISSUERS * 3:
        assert await prefixes.issuers_of(prefix(issuer_id) + "-anything") == [issuer_id]
    assert store.issuer_ids.await_count == 1
    clock[0] = TTL_SECONDS
    assert await prefixes.issuers_of(prefix(ISSUERS[0])) == ISSUERS[:1]
    assert store.issuer_ids.await_count == 2


async def test_a_new_issuer_is_known_soon(store: AsyncMock) -> None:
    clock = [0.0]
    prefixes = IssuerPrefixes(store, lambda: clock[0])
    assert await prefixes.issuers_of(prefix("testbank03")) == ()
    store.issuer_ids.return_value = [*ISSUERS, "testbank03"]
    clock[0] = ABSENT_SECONDS
    assert await prefixes.issuers_of(prefix("testbank03")) == ["testbank03"]


async def test_guesses_have_the_issuers_read_seldom(store: AsyncMock) -> None:
    clock = [0.0]
    prefixes = IssuerPrefixes(store, lambda: clock[0])
    for number in range(100):
        assert await prefixes.issuers_of(f"{number:04x}-a-guess") == ()
    assert store.issuer_ids.await_count == 1


async def test_issuers_whose_control_tokens_begin_alike_are_all_looked_at(store: AsyncMock) -> None:
    both = [ISSUERS[0], alike(ISSUERS[0])]
    store.issuer_ids.return_value = both
    assert await IssuerPrefixes(store).issuers_of(prefix(ISSUERS[0])) == both


@pytest.mark.parametrize("secret", ["", "a guess", "ABCD0000", "\0\0\0\0"])
async def test_what_begins_as_none_does_is_not_looked_for(store: AsyncMock, secret: str) -> None:
    assert await IssuerPrefixes(store).issuers_of(secret) == ()
    store.issuer_ids.assert_not_awaited()

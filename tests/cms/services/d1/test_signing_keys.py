"""An access token may be there before the web has read its key, and strangers may name any."""

import asyncio
from typing import Any

import pytest

from cms.domain.errors import ServiceUnavailable
from cms.services.d1 import signing_keys
from cms.services.d1.signing_keys import KEYS_SECONDS, SigningKeys
from crypto.jose.jwk import public_jwk
from hsm.errors import VaultUnavailable
from hsm.messages import PublicJwks, Verb
from tests.cms.services.clock import Clock
from tests.crypto.jose.software import RECIPIENT, public_key

pytestmark = pytest.mark.anyio
STRANGERS = 50


class Naming:
    """A vault that names the keys which it had when it was asked, and answers when told to."""

    def __init__(self) -> None:
        self.kids = ["first"]
        self.asked = 0
        self.answering = asyncio.Event()
        self.answering.set()

    async def call(self, message: Verb[Any]) -> Any:  # noqa: ANN401 - as the vault answers
        assert isinstance(message, PublicJwks)
        self.asked += 1
        keys = [public_key(RECIPIENT, kid) for kid in self.kids]
        await self.answering.wait()
        if not keys:
            raise VaultUnavailable("the HSM token is gone")
        return {"keys": [public_jwk(key, "sig") for key in keys]}

    async def read_manifest(self, issuer_id: str) -> None:
        raise AssertionError(issuer_id)

    async def close(self) -> None:
        """There is nothing to close."""


@pytest.fixture
def vault() -> Naming:
    return Naming()


@pytest.fixture
def keys(vault: Naming, clock: Clock) -> SigningKeys:
    return SigningKeys(vault, clock)


async def turns(number: int = 10) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def test_keys_are_read_once_a_second(vault: Naming, keys: SigningKeys, clock: Clock) -> None:
    for _ in range(3):
        assert [*await keys.current()] == ["first"]
    assert vault.asked == 1
    clock.now += KEYS_SECONDS
    vault.kids = ["second"]
    assert [*await keys.current()] == ["second"]


async def test_a_key_that_came_a_moment_after_they_were_read_is_found(
    vault: Naming, keys: SigningKeys
) -> None:
    await keys.current()
    vault.kids.append("second")
    assert "second" in await keys.newer()


async def test_a_key_that_came_while_they_were_read_is_found(
    vault: Naming, keys: SigningKeys
) -> None:
    vault.answering.clear()
    reading = asyncio.create_task(keys.newer())
    await turns()
    vault.kids.append("second")
    wanted = [asyncio.create_task(keys.newer()) for _ in range(2)]
    await turns()
    vault.answering.set()
    assert "second" not in await reading
    for one in wanted:
        assert "second" in await one


async def test_strangers_who_name_keys_have_few_readings_made(
    vault: Naming, keys: SigningKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    await keys.current()
    monkeypatch.setattr(signing_keys, "READING_SECONDS", 0.01)
    strangers = [asyncio.create_task(keys.newer()) for _ in range(STRANGERS)]
    assert "first" in await keys.current()
    await asyncio.gather(*strangers)
    assert vault.asked == 2


async def test_a_caller_who_goes_away_ends_nobody_elses_reading(
    vault: Naming, keys: SigningKeys
) -> None:
    vault.answering.clear()
    gone, waiting = [asyncio.create_task(keys.newer()) for _ in range(2)]
    await turns()
    gone.cancel()
    await turns()
    vault.answering.set()
    assert [*await waiting] == ["first"]
    assert vault.asked == 1


async def test_without_the_vault_the_keys_that_it_named_last_are_good(
    vault: Naming, keys: SigningKeys, clock: Clock
) -> None:
    await keys.current()
    vault.kids = []
    clock.now += KEYS_SECONDS
    assert [*await keys.current()] == ["first"]
    with pytest.raises(ServiceUnavailable):
        await keys.newer()


async def test_keys_of_long_ago_are_not_taken_while_others_read_them(
    vault: Naming, keys: SigningKeys, clock: Clock
) -> None:
    await keys.current()
    clock.now += 3600
    vault.kids = ["second"]
    vault.answering.clear()
    first, later = [asyncio.create_task(keys.current()) for _ in range(2)]
    await turns()
    third = asyncio.create_task(keys.current())
    await turns()
    vault.answering.set()
    for one in (first, later, third):
        assert [*await one] == ["second"]
    assert vault.asked == 2


async def test_while_the_vault_is_slow_nobody_waits_for_long(
    vault: Naming, keys: SigningKeys, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await keys.current()
    monkeypatch.setattr(signing_keys, "ANSWER_SECONDS", 0.01)
    clock.now += KEYS_SECONDS
    vault.kids = ["second"]
    vault.answering.clear()
    for _ in range(2):
        assert [*await keys.current()] == ["first"]
    vault.answering.set()
    await turns()
    assert [*await keys.current()] == ["second"]


async def test_a_clock_that_was_set_back_keeps_nobody_waiting(
    keys: SigningKeys, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signing_keys, "READING_SECONDS", 3_600)
    await keys.current()
    clock.now -= 1
    assert [*await keys.newer()] == ["first"]

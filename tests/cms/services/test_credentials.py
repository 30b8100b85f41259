"""A client's secret: argon2 is asked once in five minutes, and by few at a time."""

import asyncio
import threading

import pytest

from cms.domain.records import Client
from cms.services import credentials
from cms.services.credentials import NOBODY, Credentials
from tests.issuer_records import SECRET, secret_hash

pytestmark = pytest.mark.anyio


class Clock:
    """Seconds since 1970, as the test says."""

    now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The hashes and secrets that argon2 was asked about; it says yes to one secret."""
    asked: list[tuple[str, str]] = []

    def verify(secret_hash: str, secret: str) -> bool:
        asked.append((secret_hash, secret))
        return secret == SECRET

    monkeypatch.setattr(credentials, "_verify", verify)
    return asked


def client(hashed: str | None = "a hash") -> Client:
    return Client("testbank01", "oauth", hashed, [])


async def test_a_secret_fits_its_own_hash_and_no_other() -> None:
    verifying = Credentials(Clock())
    assert await verifying.verify(client(secret_hash(SECRET)), SECRET)
    for hashed, secret in (
        (secret_hash(SECRET), SECRET + " "),
        (secret_hash(SECRET), ""),
        (secret_hash("another"), SECRET),
        ("no hash", SECRET),
        (None, SECRET),
    ):
        assert not await verifying.verify(client(hashed), secret)
    assert not await verifying.verify(None, SECRET)


async def test_a_secret_is_verified_again_after_five_minutes(
    clock: Clock, verified: list[tuple[str, str]]
) -> None:
    verifying = Credentials(clock)
    for seconds in (0, 299, 2):
        clock.now += seconds
        assert await verifying.verify(client(), SECRET)
    assert len(verified) == 2


async def test_a_secret_is_known_only_after_it_was_verified(
    clock: Clock, verified: list[tuple[str, str]]
) -> None:
    verifying = Credentials(clock)
    assert not verifying.knows(client(), SECRET)
    assert await verifying.verify(client(), SECRET)
    assert not await verifying.verify(client(), "wrong")
    assert verifying.knows(client(), SECRET)
    assert not verifying.knows(client(), "wrong")
    assert not verifying.knows(client("a new hash"), SECRET)
    assert not verifying.knows(None, SECRET)
    clock.now += 300
    assert not verifying.knows(client(), SECRET)
    assert len(verified) == 2


async def test_a_client_that_does_not_exist_is_verified_each_time_and_never_known(
    verified: list[tuple[str, str]],
) -> None:
    verifying = Credentials(Clock())
    for nobody in (None, None, client(None)):
        await verifying.verify(nobody, SECRET)
        assert not verifying.knows(nobody, SECRET)
    assert verified == [(NOBODY, SECRET)] * 3


async def test_neither_secret_nor_hash_is_in_the_cache(verified: list[tuple[str, str]]) -> None:
    verifying = Credentials(Clock())
    await verifying.verify(client(), SECRET)
    assert verified
    cached = repr(verifying._cache._entries)
    assert SECRET not in cached
    assert "a hash" not in cached
    other = Credentials(Clock())
    await other.verify(client(), SECRET)
    assert other._cache._entries.keys() != verifying._cache._entries.keys()


async def test_at_most_two_secrets_are_verified_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    running: list[str] = []

    def slow(_: str, secret: str) -> bool:
        running.append(secret)
        release.wait()
        return False

    monkeypatch.setattr(credentials, "_verify", slow)
    verifying = Credentials(Clock())
    asked = [asyncio.create_task(verifying.verify(client(), f"guess {n}")) for n in range(8)]
    try:
        while len(running) + len(verifying._argon2._waiters or ()) < len(asked):  # noqa: ASYNC110 - some wait in threads
            await asyncio.sleep(0.001)
        assert len(running) == 2
    finally:
        release.set()
    assert await asyncio.gather(*asked) == [False] * 8

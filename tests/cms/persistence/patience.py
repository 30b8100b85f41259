"""Waiting, on a machine that is busy: a store that does, and tests until something holds."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from cms.persistence import address, connection, pool
from cms.persistence.causes import Cause
from cms.persistence.store import Store
from cms.sandbox import HANG_SECONDS


def without_deadlines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the stores that are made from now on wait as long as it takes."""
    for module in (connection, pool):
        monkeypatch.setattr(module, "STATEMENT_SECONDS_MAX", HANG_SECONDS)
    monkeypatch.setattr(pool, "CHECK_SECONDS_MAX", HANG_SECONDS)
    monkeypatch.setattr(pool, "WAIT_SECONDS_MAX", HANG_SECONDS)
    monkeypatch.setattr(connection, "SERVER_STATEMENT_MS_MAX", HANG_SECONDS * 1000)
    monkeypatch.setattr(address, "CONNECT_SECONDS", HANG_SECONDS)


async def connected(store: Store) -> None:
    """Wait until a store has every connection."""

    async def all_there() -> bool:
        return len(store.pool.connections) == pool.POOL_CONNECTIONS_MAX

    await until(all_there)


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Ask again and again."""
    async with asyncio.timeout(HANG_SECONDS):
        while not await holds():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.05)


async def finds(store: Store, cause: Cause | None) -> None:
    """Ask for what is wrong until it is this."""

    async def found() -> bool:
        return await store.pool.fault() is cause

    await until(found)

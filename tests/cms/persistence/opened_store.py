"""A store for as long as a test needs it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

from cms.persistence.store import Store

S = TypeVar("S", bound=Store)


@asynccontextmanager
async def opened_store(store: S) -> AsyncIterator[S]:
    """Open a store, and close it whatever happens."""
    await store.open()
    try:
        yield store
    finally:
        await store.close()

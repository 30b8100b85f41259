"""A cache whose entries expire: what was found out once and need not be again for a while."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Generic, TypeVar

ENTRIES_MAX: Final = 10_000

K = TypeVar("K")
V = TypeVar("V")


class TtlCache(Generic[K, V]):
    """Values, each until it expires; the oldest goes when there are more than 10,000.

    *now* is a clock in seconds, the one by which entries expire.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._entries: OrderedDict[K, tuple[float, V]] = OrderedDict()

    def put(self, key: K, value: V, expires_at: float) -> None:
        """Store *value* until *expires_at*, in seconds of the cache's clock."""
        self._entries[key] = (expires_at, value)
        if len(self._entries) > ENTRIES_MAX:
            self._entries.popitem(last=False)

    def get(self, key: K) -> V | None:
        """Return the value, or None when it expired, had to go, or was never there."""
        expires_at, value = self._entries.get(key, (0.0, None))
        if expires_at <= self._now():
            self._entries.pop(key, None)
            return None
        return value

"""What was verified once and need not be again for a while."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Generic, TypeVar

ENTRIES_MAX: Final = 10_000

K = TypeVar("K")
V = TypeVar("V")


class TtlCache(Generic[K, V]):
    """Values that were found out, each kept until a time; the oldest go first when it is full."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._items: OrderedDict[K, tuple[float, V]] = OrderedDict()

    def keep(self, key: K, value: V, until: float) -> None:
        """Keep *value* until then, in seconds of the clock that was given."""
        self._items[key] = (until, value)
        if len(self._items) > ENTRIES_MAX:
            self._items.popitem(last=False)

    def get(self, key: K) -> V | None:
        """Return the value, or None when its time is over or it had to go."""
        until, value = self._items.get(key, (0.0, None))
        if until <= self._now():
            self._items.pop(key, None)
            return None
        return value

"""How fast a long command may call the vault, so that cardholders do not wait for it."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf
from typing import Final

CALL_SECONDS_MAX: Final = 0.003
"""How long a call should keep a worker of the vault, which does one at a time."""
LATE_FACTOR: Final = 1.5
"""What an answer takes beyond so many times the least that one ever took, it waited for others."""
REST_FACTOR: Final = 4.0
"""How many times as long as it waited for others a command then lets them alone."""
REST_CALLS_MAX: Final = 20.0
"""At most so many times as long as the call took: it always goes on."""


@dataclass(slots=True)
class Pace:
    """Measures calls of one kind, and rests after those that waited for others.

    How long a thing takes alone is the least that one of a call ever took.
    """

    things_max: int
    """In a call."""
    per_second_max: float = inf
    """How many things may be done in a second, at most."""
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _least_seconds: float = field(default=inf, init=False)
    """That one thing took."""

    @property
    def count(self) -> int:
        """How many things the next call should have; the first call has one."""
        return max(1, min(self.things_max, int(CALL_SECONDS_MAX / self._least_seconds)))

    @contextmanager
    def call(self, count: int) -> Iterator[None]:
        """Measure a call of *count* things, and rest after it."""
        began_at = self.clock()
        yield
        seconds = self.clock() - began_at
        self._least_seconds = min(self._least_seconds, seconds / count)
        alone_seconds = count * self._least_seconds
        rest_seconds = count / self.per_second_max - seconds
        late_seconds = seconds - LATE_FACTOR * alone_seconds
        give_way_seconds = min(REST_FACTOR * late_seconds, REST_CALLS_MAX * alone_seconds)
        rest_seconds = max(rest_seconds, give_way_seconds)
        if rest_seconds > 0:
            self.sleep(rest_seconds)

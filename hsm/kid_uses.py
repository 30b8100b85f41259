"""How many JWEs each of our keys opened, and when the last: before one is retired, that must end.

A worker counts in memory and adds that to the counts of its host at every 1,000, and with the first
use when 10 s are over: so a key that is hardly used any more shows each use at once. That much is
lost with a worker that dies, or while the host cannot count. Each host counts for itself.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Final

from hsm.counts import Counts
from hsm.errors import CountsUnavailable
from hsm.pkcs11.keys import KeyLabel

FLUSH_USES: Final = 1_000
FLUSH_SECONDS: Final = 10.0


class KidUses:
    """What this worker counted, and the host.

    Args:
        counts: of this host.
        now: the time, UTC.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        counts: Counts,
        now: Callable[[], datetime],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._counts = counts
        self._now = now
        self._clock = clock
        self._waiting: Counter[KeyLabel] = Counter()
        self._last_at = 0.0
        self._flush_at = 0.0

    def note(self, label: KeyLabel) -> None:
        """Count a JWE that a key opened. This never fails."""
        self._waiting[label] += 1
        self._last_at = self._now().timestamp()
        if self._clock() >= self._flush_at or self._waiting.total() >= FLUSH_USES:
            self._flush_at = self._clock() + FLUSH_SECONDS
            with suppress(CountsUnavailable):
                self._flush()

    def read(self) -> Mapping[str, tuple[int, float]]:
        """Return how many JWEs the key of a label opened, and when the last, since 1970 in seconds.

        Raises:
            CountsUnavailable: it cannot be read.
        """
        self._flush()
        return self._counts.kid_uses()

    def _flush(self) -> None:
        if self._waiting:
            uses = {str(label): number for label, number in self._waiting.items()}
            self._counts.add_kid_uses(uses, self._last_at)
            self._waiting.clear()

"""How many JWEs each of our keys opened, and when the last: before one is retired, that must end.

A worker counts in memory and adds that to the counts of its host at every 1,000, every 10 s, when
it ends, and with the first use after a rest: so a key that is hardly used any more shows each use
at once. What waits is lost with a worker that dies. Each host counts for itself.
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
    """What this process counted, and the host. Used from one thread only.

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
        self._flush_uses = FLUSH_USES

    def note(self, label: KeyLabel) -> None:
        """Count a JWE that a key opened. This never fails."""
        self._waiting[label] += 1
        self._last_at = self._now().timestamp()
        if self._clock() >= self._flush_at or self._waiting.total() >= self._flush_uses:
            self.flush()

    def flush_if_due(self) -> float | None:
        """Keep what has waited for long enough; return after how many seconds to come again.

        None: nothing waits.
        """
        if self._waiting and self._clock() >= self._flush_at:
            self.flush()
        return max(0.0, self._flush_at - self._clock()) if self._waiting else None

    def flush(self) -> None:
        """Add what was counted to the counts of the host; what cannot be kept yet stays."""
        with suppress(CountsUnavailable):
            self._keep()
        self._flush_at = self._clock() + FLUSH_SECONDS
        self._flush_uses = self._waiting.total() + FLUSH_USES

    def read(self) -> Mapping[str, tuple[int, float]]:
        """Return how many JWEs the key of a label opened, and when the last, since 1970 in seconds.

        Raises:
            CountsUnavailable: it cannot be read.
        """
        self._keep()
        return self._counts.kid_uses()

    def _keep(self) -> None:
        if self._waiting:
            uses = {str(label): number for label, number in self._waiting.items()}
            self._counts.add_kid_uses(uses, self._last_at)
            self._waiting.clear()

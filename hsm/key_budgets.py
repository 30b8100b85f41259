"""How much the keys of this host have enciphered, and how much they may.

::

    unit                  what is counted                           half          all
    tdes-blocks           blocks of 8 bytes under a TDES key        2^19          2^20
    gcm-invocations       AES-GCM encryptions under one key         2^31          2^32

Source: NIST SP 800-67 revision 2, section 3 (TDES); SP 800-38D, section 8.3 (random nonces).

Of a TDES key all blocks are counted that go through it here: what it enciphers, what a MAC runs
over, two for each key that is derived from it, and what it deciphers, since somebody enciphered
that under the same key. A derived key is used for one request and not counted: a card key derives
at most four blocks for each change or script, and a session key enciphers a handful.

A worker counts in memory, and adds that to the counts of its host (:mod:`hsm.counts`) at every
1,000 and every 10 s: that much is lost with a worker that dies. Each host counts for itself.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

from hsm.counts import Counts
from hsm.errors import CountsUnavailable, KeyUsedUp
from hsm.manifest.limits import LimitsBody
from hsm.pkcs11.hsm_token import KeyUnit
from hsm.pkcs11.keys import KeyLabel
from hsm.port import KeyUse

USES_MAX: Final[Mapping[KeyUnit, int]] = {
    KeyUnit.TDES_BLOCKS: 1 << 20,
    KeyUnit.GCM_INVOCATIONS: 1 << 32,
}
FLUSH_USES: Final = 1000
FLUSH_SECONDS: Final = 10.0
log = logging.getLogger(__name__)


class KeyBudgets:
    """What keys did in this process and on this host. Used from one thread only.

    Args:
        counts: of this host.
        clock: seconds that never go back.
    """

    def __init__(self, counts: Counts, clock: Callable[[], float] = time.monotonic) -> None:
        self._counts = counts
        self._clock = clock
        self._pending: dict[tuple[KeyLabel, KeyUnit], int] = {}
        self._pending_uses = 0
        self._flush_uses = FLUSH_USES
        self._flush_at = 0.0
        self._totals: dict[KeyLabel, int] = {}
        self._refused: set[KeyLabel] = set()

    def count(self, label: KeyLabel, unit: KeyUnit, uses: int) -> None:
        """Count uses of a key. This never fails: what cannot be kept yet stays in memory."""
        if not self._pending:
            self._flush_at = self._clock() + FLUSH_SECONDS
        key = label, unit
        self._pending[key] = self._pending.get(key, 0) + uses
        self._pending_uses += uses
        if self._pending_uses >= self._flush_uses:
            self.flush()

    def flush_if_due(self) -> float | None:
        """Keep what has waited for long enough; return after how many seconds to come again.

        None: nothing waits.
        """
        if self._pending and self._clock() >= self._flush_at:
            self.flush()
        return max(0.0, self._flush_at - self._clock()) if self._pending else None

    def flush(self) -> None:
        """Add what was counted to the counts of the host."""
        if not self._pending:
            return
        uses = {(str(label), str(unit)): uses for (label, unit), uses in self._pending.items()}
        try:
            totals = self._counts.add_key_uses(uses)
        except CountsUnavailable:
            # Health says so, and verbs that must be counted are refused; these go on.
            self._flush_at = self._clock() + FLUSH_SECONDS
            self._flush_uses = self._pending_uses + FLUSH_USES
            return
        for ((label, unit), number), total in zip(self._pending.items(), totals, strict=True):
            self._totals[label] = total
            _warn(label, unit, total - number, total)
        self._pending = {}
        self._pending_uses, self._flush_uses = 0, FLUSH_USES

    def check(self, label: KeyLabel, tdes_blocks_max: int | None) -> None:
        """Check that a TDES key may encipher more; other workers' blocks show when both flush.

        Raises:
            KeyUsedUp: it has enciphered *tdes_blocks_max* blocks.
            CountsUnavailable: what it has enciphered cannot be read.
        """
        if tdes_blocks_max is None:
            return
        unit = KeyUnit.TDES_BLOCKS
        if label not in self._totals:
            self._totals[label] = self._counts.key_uses_of(str(label), unit)
        if self._totals[label] + self._pending.get((label, unit), 0) < tdes_blocks_max:
            return
        if label not in self._refused:
            self._refused.add(label)
            extra = {"key": str(label), "uses_max": tdes_blocks_max}
            log.error("vault.key_refused", extra=extra)
        raise KeyUsedUp("a key has enciphered as much as the manifest lets it")

    def may_encipher(self, limits: LimitsBody) -> Callable[[KeyLabel], None]:
        """Return :meth:`check` with what *limits* allow."""
        return partial(self.check, tdes_blocks_max=limits.tdes_blocks_max)

    def read(self) -> Sequence[KeyUse]:
        """List what keys of this host did, with what is not kept yet of this worker only.

        Raises:
            CountsUnavailable: it cannot be read.
        """
        self.flush()
        return key_uses(self._counts)


def key_uses(counts: Counts) -> Sequence[KeyUse]:
    """List what keys of a host did, by label.

    Raises:
        CountsUnavailable: it cannot be read.
    """
    return [
        KeyUse(label, unit, uses, USES_MAX[KeyUnit(unit)])
        for label, unit, uses in counts.key_uses()
    ]


def _warn(label: KeyLabel, unit: KeyUnit, before: int, total: int) -> None:
    """Warn once a host: the worker whose uses pass half of the budget, and all of it."""
    uses_max = USES_MAX[unit]
    extra = {"key": str(label), "unit": str(unit), "uses": total}
    if before < uses_max <= total:
        log.error("vault.key_used_up", extra=extra)
    elif before < uses_max // 2 <= total:
        log.warning("vault.key_half_used", extra=extra)

"""Records hand-outs: those that come while one statement runs are one statement, the next.

Each is committed before its caller goes on. A commit costs as much for many rows as for one.
"""

import asyncio
from collections import defaultdict
from typing import NamedTuple

from cms import metrics
from cms.domain.cards import Verb
from cms.persistence.statements.hand_outs import RECORD_HAND_OUTS
from cms.persistence.store import Store


class HandOutRow(NamedTuple):
    """An audit row: :data:`cms.persistence.statements.hand_outs.COLUMNS`."""

    card_id: str
    actor: str
    correlation_id: str
    counter: int
    reason: str | None
    audit_user: str | None
    receipt: str


class HandOuts:
    """The hand-outs of a process, which go into the audit of their issuers."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting = defaultdict[str, list[tuple[HandOutRow, asyncio.Future[None]]]](list)
        self._writers = dict[str, asyncio.Task[None]]()

    async def record(self, issuer_id: str, row: HandOutRow) -> None:
        """Record a hand-out of a card of the issuer.

        Raises:
            ServiceUnavailable: the database is unavailable; the row may be there none the less.
        """
        recorded = asyncio.get_running_loop().create_future()
        self._waiting[issuer_id].append((row, recorded))
        if issuer_id not in self._writers:
            # A task of its own: a caller who goes away must not end the statement of others.
            self._writers[issuer_id] = asyncio.create_task(self._write(issuer_id))
        await recorded

    async def _write(self, issuer_id: str) -> None:
        try:
            while waiting := self._waiting.pop(issuer_id, None):
                error = await self._insert(issuer_id, [row for row, _ in waiting])
                for _, recorded in waiting:
                    if recorded.done():
                        continue  # its caller went away
                    if error is None:
                        recorded.set_result(None)
                    else:
                        recorded.set_exception(error)
        finally:
            del self._writers[issuer_id]

    async def _insert(self, issuer_id: str, rows: list[HandOutRow]) -> Exception | None:
        try:
            listed = [row._asdict() for row in rows]
            await self._store.run(RECORD_HAND_OUTS, issuer_id=issuer_id, rows=listed)
            metrics.audited(Verb.GET_PIN, len(rows))
        except Exception as error:  # noqa: BLE001 - each caller gets it
            return error
        return None

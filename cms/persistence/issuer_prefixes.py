"""Which issuers a control token may be of: those whose control tokens begin as it does."""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from cms.persistence.store import Store
from crypto.control_tokens import prefix, prefix_of

TTL_SECONDS: Final = 5.0


class IssuerPrefixes:
    """The issuers by how their control tokens begin, as the database had them seconds ago.

    Of two issuers whose control tokens begin alike, the second is found :data:`TTL_SECONDS` after
    it was added; any other new one at once.

    Args:
        store: knows the issuers.
        now: a clock in seconds.
    """

    def __init__(self, store: Store, now: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._now = now
        self._issuers: Mapping[str, Sequence[str]] = {}
        self._ends_at = 0.0

    async def issuers_of(self, secret: str) -> Sequence[str]:
        """Return the ids of the issuers of which a control token, or its session, may be.

        Raises:
            ServiceUnavailable: they must be read, and the database is unavailable.
        """
        begins = prefix_of(secret)
        if begins is None:
            return ()
        if begins not in self._issuers or self._now() >= self._ends_at:
            await self._read()
        return self._issuers.get(begins, ())

    async def _read(self) -> None:
        ends_at = self._now() + TTL_SECONDS
        issuers = defaultdict(list)
        for issuer_id in await self._store.issuer_ids():
            issuers[prefix(issuer_id)].append(issuer_id)
        self._issuers, self._ends_at = dict(issuers), ends_at

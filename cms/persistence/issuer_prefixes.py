"""Which issuers a control token may be of: those whose control tokens begin as it does."""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from cms.persistence.store import Store
from crypto.control_tokens import prefix, prefix_of

TTL_SECONDS: Final = 5.0
ABSENT_SECONDS: Final = 0.2
"""How long a beginning that no issuer had is not looked for anew: anybody may ask."""


class IssuerPrefixes:
    """The issuers by how their control tokens begin, as the database had them seconds ago.

    Of two issuers whose control tokens begin alike, the second is found :data:`TTL_SECONDS` after
    it was added; any other new one within :data:`ABSENT_SECONDS`.

    Args:
        store: knows the issuers.
        now: a clock in seconds.
    """

    def __init__(self, store: Store, now: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._now = now
        self._issuers: Mapping[str, Sequence[str]] = {}
        self._ends_at = 0.0
        self._read_at = -ABSENT_SECONDS

    async def issuers_of(self, secret: str) -> Sequence[str]:
        """Return the ids of the issuers of which a control token, or its session, may be.

        Raises:
            ServiceUnavailable: they must be read, and the database is unavailable.
        """
        begins = prefix_of(secret)
        if begins is None:
            return ()
        if self._must_read(begins):
            await self._read()
        return self._issuers.get(begins, ())

    def _must_read(self, begins: str) -> bool:
        now = self._now()
        is_absent = begins not in self._issuers and now >= self._read_at + ABSENT_SECONDS
        return is_absent or now >= self._ends_at

    async def _read(self) -> None:
        read_at = self._now()
        issuers = defaultdict(list)
        for issuer_id in await self._store.issuer_ids():
            issuers[prefix(issuer_id)].append(issuer_id)
        self._issuers, self._read_at, self._ends_at = dict(issuers), read_at, read_at + TTL_SECONDS

"""Who may call, and how each issuer's wire looks: its manifest, as the vault has it, for seconds.

The database says only whether an issuer is in service. An issuer that is suspended and a manifest
that is taken have effect within :data:`TTL_SECONDS`.
"""

import time
from collections.abc import Callable
from typing import Final, Literal

from cms.persistence.store import Store
from cms.services.vault import in_words_of_the_domain
from hsm.client import VaultCalls
from hsm.manifest.model import Manifest
from hsm.port import ISSUER_ID_CHARS
from hsm.ttl_cache import TtlCache

TTL_SECONDS: Final = 5.0


class Directory:
    """The issuers of this service, by id.

    Args:
        store: knows who is in service.
        vault: the way to the vault, which has the manifests.
        now: a clock in seconds.
    """

    def __init__(
        self,
        store: Store,
        vault: VaultCalls,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._vault = vault
        self._now = now
        self._cache = TtlCache[str, Manifest | Literal["unknown"]](now)

    async def manifest(self, issuer_id: str) -> Manifest | None:
        """Return the manifest of an issuer; None: it is unknown, suspended, or never had one.

        Raises:
            ServiceUnavailable: the manifest is not in the cache, and the database or the vault is
                unavailable, or the vault has none that is in force now.
        """
        if len(issuer_id) != ISSUER_ID_CHARS or "\0" in issuer_id:  # no text in Postgres holds NUL
            return None
        found = self._cache.get(issuer_id)
        if found is None:
            found = await self._read(issuer_id) or "unknown"
            self._cache.put(issuer_id, found, self._now() + TTL_SECONDS)
        return None if found == "unknown" else found

    async def _read(self, issuer_id: str) -> Manifest | None:
        if not await self._store.is_in_service(issuer_id):
            return None
        with in_words_of_the_domain():
            return await self._vault.read_manifest(issuer_id)

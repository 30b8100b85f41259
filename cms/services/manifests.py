"""Manifests on their way from the database to the vault of this host, and what is known of them.

The vault verifies what it is offered; of what it refuses, the one before stays in force. Each
answer is stored, so that whoever loads a manifest knows which hosts have it.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Final

from cms.domain.errors import ServiceUnavailable
from cms.domain.records import TAKEN, ManifestAnswer
from cms.persistence.store import Store
from cms.services.ends import Ends
from hsm.client import VaultCalls
from hsm.errors import ManifestRefused, MessageRefused, VaultUnavailable
from hsm.manifest.clients import AppClient
from hsm.manifest.model import Manifest
from hsm.messages import LoadManifest, ManifestVersion

PAUSE_SECONDS: Final = 2.0
WARN_BEFORE: Final = timedelta(days=30)
WARN_EVERY: Final = timedelta(days=1)
LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)
log = logging.getLogger(__name__)


class ManifestCarrier:
    """Offers the vault each manifest that is newer than its own.

    Args:
        store: the database.
        vault: the way to the vault.
        host: by what this host is known to operators.
        now: the time, UTC.
        ends: is told when manifests end.
    """

    def __init__(
        self,
        store: Store,
        vault: VaultCalls,
        host: str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        ends: Ends | None = None,
    ) -> None:
        self._store = store
        self._vault = vault
        self._host = host
        self._now = now
        self._ends = ends or Ends()
        self._origins: frozenset[str] = frozenset()
        self._refused: dict[str, int] = {}
        self._warned: dict[str, datetime] = {}

    def is_origin(self, origin: str) -> bool:
        """Tell whether an app of any issuer registered this origin, as far as is known here."""
        return origin in self._origins

    async def beat(self) -> None:
        """Keep carrying."""
        while True:
            await asyncio.sleep(PAUSE_SECONDS)
            await self.carry()

    async def carry(self) -> None:
        """Offer the vault what is new; what cannot be done now is left for the next time."""
        try:
            await self._carry()
        except (ServiceUnavailable, VaultUnavailable):
            pass  # whoever asks for their health says so
        except Exception:
            # Whatever defect it is: the next manifest must not wait for ever.
            log.exception("internal")

    async def _carry(self) -> None:
        newest = await self._store.newest_manifests()
        answers = await self._store.manifest_answers(self._host)
        manifests = []
        for issuer_id, version in newest.items():
            answer = await self._offer(issuer_id, version)
            if answer is not None and answer != answers.get(issuer_id):
                await self._store.answer_manifest(issuer_id, self._host, answer)
            manifest = await self._in_force(issuer_id)
            if manifest is not None:
                self._warn_of_end(manifest)
                manifests.append(manifest)
        self._ends.manifests = {each.issuer_id: each.valid_until for each in manifests}
        self._origins = frozenset(chain.from_iterable(map(_origins, manifests)))

    async def _offer(self, issuer_id: str, version: int) -> ManifestAnswer | None:
        """Let the vault take a version, if it is newer than its own; None: there is nothing."""
        try:
            taken = await self._vault.call(ManifestVersion(issuer_id))
            if taken < version:
                text = await self._store.read_manifest(issuer_id, version)
                if text is None:
                    return None
                await self._take(issuer_id, version, text)
                taken = version
        except ManifestRefused as refused:
            self._report(issuer_id, version, refused)
            return ManifestAnswer(version, str(refused))
        return ManifestAnswer(taken, TAKEN) if taken else None

    async def _take(self, issuer_id: str, version: int, text: str) -> None:
        """Load the text that stands in the database for this version of an issuer's manifest.

        Raises:
            ManifestRefused: the vault refuses it, it is longer than what the vault listens to, or
                it is another one, even if the vault takes that.
        """
        try:
            await self._vault.call(LoadManifest(text))
        except MessageRefused as refused:
            raise ManifestRefused(str(refused)) from None
        if await self._vault.call(ManifestVersion(issuer_id)) < version:
            raise ManifestRefused("it is of another issuer, or of another version")

    async def _in_force(self, issuer_id: str) -> Manifest | None:
        with suppress(ManifestRefused):
            return await self._vault.read_manifest(issuer_id)
        return None

    def _report(self, issuer_id: str, version: int, refused: ManifestRefused) -> None:
        """Log a refusal, once for each version."""
        if self._refused.get(issuer_id) != version:
            self._refused[issuer_id] = version
            reason = f"version {version}: {refused}"
            log.error("manifest.refused", extra={"issuer_id": issuer_id, "reason": reason})

    def _warn_of_end(self, manifest: Manifest) -> None:
        """Log that a manifest ends soon, once a day."""
        issuer_id, now = manifest.issuer_id, self._now()
        ends_soon = manifest.valid_until - now < WARN_BEFORE
        if ends_soon and now - self._warned.get(issuer_id, LONG_AGO) >= WARN_EVERY:
            self._warned[issuer_id] = now
            reason = f"version {manifest.version} ends at {manifest.valid_until:%Y-%m-%d %H:%M %Z}"
            log.warning("manifest.ends", extra={"issuer_id": issuer_id, "reason": reason})


def _origins(manifest: Manifest) -> Iterator[str]:
    for client in manifest.clients:
        if isinstance(client, AppClient):
            yield from client.origins

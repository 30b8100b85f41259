"""The calls of :class:`hsm.client.VaultClient` on a vault in this process."""

from typing import TypeVar

from hsm.manifest.model import Manifest
from hsm.messages import Verb
from hsm.worker_thread import WorkerThread

T = TypeVar("T")


class InProcessVault:
    """Calls verbs on the worker thread of this process."""

    def __init__(self, worker_thread: WorkerThread) -> None:
        self._worker_thread = worker_thread

    async def call(self, message: Verb[T]) -> T:
        """Call a verb.

        Raises:
            HsmError: as the worker thread and the verb do.
        """
        return await self._worker_thread.call(message.perform)

    async def read_manifest(self, issuer_id: str) -> Manifest | None:
        """Return the manifest of an issuer that is in force; None: the host never had one.

        Raises:
            HsmError: as :meth:`call` and the verb do.
        """
        return await self._worker_thread.call(
            lambda vault: (
                vault.read_manifest(issuer_id) if vault.manifest_version(issuer_id) else None
            )
        )

    async def close(self) -> None:
        """Let the worker thread end."""
        self._worker_thread.close()

"""Calling the vault, and counting it: how long calls took, and how they failed."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from cms import metrics
from hsm.client import VaultCalls
from hsm.errors import HsmError
from hsm.manifest.model import Manifest
from hsm.messages import ReadManifest, Verb

T = TypeVar("T")


class MeasuredVault:
    """The way to the vault that every service uses."""

    def __init__(self, vault: VaultCalls) -> None:
        self._vault = vault

    async def call(self, message: Verb[T]) -> T:
        """Call a verb.

        Raises:
            HsmError: as :meth:`hsm.client.VaultCalls.call` does.
        """
        with _measured(message.name()):
            return await self._vault.call(message)

    async def read_manifest(self, issuer_id: str) -> Manifest | None:
        """Return the manifest of an issuer that is in force.

        Raises:
            HsmError: as :meth:`hsm.client.VaultCalls.read_manifest` does.
        """
        with _measured(ReadManifest.name()):
            return await self._vault.read_manifest(issuer_id)

    async def close(self) -> None:
        """Let go of the vault."""
        await self._vault.close()


@contextmanager
def _measured(verb: str) -> Iterator[None]:
    started = time.perf_counter()
    try:
        yield
    except HsmError as error:
        metrics.vault_failed(verb, type(error).__name__)
        raise
    finally:
        metrics.vault_called(verb, time.perf_counter() - started)

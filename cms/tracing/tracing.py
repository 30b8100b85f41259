"""What a worker traces: one way to the collector, and all that makes spans for it."""

from collections.abc import Collection
from typing import Self

from starlette.types import ASGIApp

from cms.persistence.pool import Pool
from cms.settings import Settings
from cms.tracing.export import Export
from cms.tracing.parents import Choice
from cms.tracing.spans import TracedPool, TracedRequests, TracedVault
from hsm.client import VaultCalls


class Tracing:
    """Puts spans around what the service is made of.

    Args:
        export: the way of spans to the collector.
        choice: which requests are traced.
    """

    def __init__(self, export: Export, choice: Choice) -> None:
        self.export = export
        self._choice = choice
        self._tracer = export.tracer()

    @classmethod
    def configured(cls, url: str, settings: Settings, slot: str) -> Self:
        """Trace as the settings say, in the worker of this *slot*, for the collector at *url*."""
        export = Export(url, settings.traces_ca_file, settings.host_name, slot)
        return cls(export, Choice(settings.traces_ratio))

    def requests(self, app: ASGIApp, proxy_peers: Collection[str]) -> ASGIApp:
        """Trace requests of a listener; *proxy_peers* may say which."""
        return TracedRequests(app, self._tracer, self._choice, proxy_peers)

    def vault(self, vault: VaultCalls) -> VaultCalls:
        """Trace calls of the vault."""
        return TracedVault(vault, self._tracer)

    def pool(self, address: str) -> Pool:
        """Make connections to the database, and trace statements."""
        return TracedPool(address, self._tracer)

"""Who may call, and how each issuer's wire looks: read from the database, kept for a few seconds.

A client that is disabled, an issuer that is suspended and a configuration that is loaded take
effect within :data:`FRESH_SECONDS`.
"""

import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from cms.domain.records import Client, IssuerRecord
from cms.persistence.store import Store
from hsm.config.kinds import parse_body
from hsm.config.wire import WireProfile
from hsm.errors import ConfigRefused
from hsm.port import ISSUER_ID_CHARS, ConfigKind, VaultConfig

FRESH_SECONDS: Final = 5.0
ISSUERS_MAX: Final = 10_000


@dataclass(frozen=True, slots=True)
class Issuer:
    """An issuer in service."""

    issuer_id: str
    clients: dict[str, Client]
    config: VaultConfig
    wire: WireProfile


class Directory:
    """The issuers of this service, by id."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: OrderedDict[str, tuple[float, Issuer | None]] = OrderedDict()

    async def issuer(self, issuer_id: str) -> Issuer | None:
        """Return the issuer, or None when it is unknown or suspended."""
        if len(issuer_id) != ISSUER_ID_CHARS or "\0" in issuer_id:  # no text in Postgres holds NUL
            return None
        until, issuer = self._kept.get(issuer_id, (0.0, None))
        if time.monotonic() < until:
            return issuer
        row = await self._store.read_issuer(issuer_id)
        issuer = None if row is None else _issuer(issuer_id, row)
        self._kept[issuer_id] = (time.monotonic() + FRESH_SECONDS, issuer)
        self._kept.move_to_end(issuer_id)
        if len(self._kept) > ISSUERS_MAX:
            self._kept.popitem(last=False)
        return issuer


def _issuer(issuer_id: str, row: IssuerRecord) -> Issuer:
    clients = {client.client_id: client for client in row.clients}
    return Issuer(issuer_id, clients, row.config, _wire(row.config))


def _wire(config: VaultConfig) -> WireProfile:
    """Read member names for this face; what steers the vault is verified in the vault."""
    sealed = config.get(ConfigKind.WIRE)
    try:
        body = parse_body(ConfigKind.WIRE, sealed.body) if sealed else WireProfile()
    except ConfigRefused:
        return WireProfile()
    return body if isinstance(body, WireProfile) else WireProfile()

"""Who may call, and how each issuer's wire looks: read from the database, kept for a few seconds.

A client that is disabled, an issuer that is suspended and a configuration that is loaded take
effect within :data:`FRESH_SECONDS`.
"""

import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self, TypeVar

from pydantic import BaseModel

from cms.domain.records import Client, IssuerRecord
from cms.persistence.store import Store
from crypto.seccos.profile import SeccosProfile
from hsm.config import PolicyBody, VerificationBody, WireProfile, parse_body
from hsm.errors import ConfigRefused
from hsm.port import ISSUER_ID_CHARS, ConfigKind, VaultConfig

FRESH_SECONDS: Final = 5.0
ISSUERS_MAX: Final = 10_000

B = TypeVar("B", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Issuer:
    """An issuer in service.

    Its bodies are read for the faces; what steers the vault is verified in the vault.
    """

    issuer_id: str
    clients: Mapping[str, Client]
    config: VaultConfig
    wire: WireProfile
    policy: PolicyBody | None
    verification: VerificationBody | None
    seccos: SeccosProfile | None

    @classmethod
    def from_record(cls, issuer_id: str, record: IssuerRecord) -> Self:
        """Read what the database knows of an issuer."""
        config = record.config
        return cls(
            issuer_id,
            {client.client_id: client for client in record.clients},
            config,
            _read_body(config, ConfigKind.WIRE, WireProfile) or WireProfile(),
            _read_body(config, ConfigKind.POLICY, PolicyBody),
            _read_body(config, ConfigKind.VERIFICATION, VerificationBody),
            _read_body(config, ConfigKind.SECCOS, SeccosProfile),
        )


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
        issuer = None if row is None else Issuer.from_record(issuer_id, row)
        self._kept[issuer_id] = (time.monotonic() + FRESH_SECONDS, issuer)
        self._kept.move_to_end(issuer_id)
        if len(self._kept) > ISSUERS_MAX:
            self._kept.popitem(last=False)
        return issuer


def _read_body(config: VaultConfig, kind: ConfigKind, model: type[B]) -> B | None:
    """Read the body of *kind*; None: there is none, or none that the vault would take."""
    sealed = config.get(kind)
    try:
        body = None if sealed is None else parse_body(kind, sealed.body)
    except ConfigRefused:
        return None
    return body if isinstance(body, model) else None

"""Who may call, and how each issuer's wire looks: read from the database, cached for seconds.

A client that is disabled, an issuer that is suspended and a configuration that is loaded take
effect within :data:`TTL_SECONDS`.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, Self, TypeVar

from pydantic import BaseModel

from cms.domain.records import Client, IssuerRecord
from cms.persistence.store import Store
from cms.services.cache import TtlCache
from crypto.seccos.profile import SeccosProfile
from hsm.errors import ConfigRefused
from hsm.manifest.kinds import parse_body
from hsm.manifest.policy import PolicyBody
from hsm.manifest.verification import VerificationBody
from hsm.manifest.wire import WireProfile
from hsm.port import ISSUER_ID_CHARS, ConfigKind, VaultConfig

TTL_SECONDS: Final = 5.0

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

    @property
    def failure_limits(self) -> PolicyBody:
        """How many failures are too many; without a policy the vault reads no PIN at all."""
        return self.policy or PolicyBody()


class Directory:
    """The issuers of this service, by id."""

    def __init__(self, store: Store, now: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._now = now
        self._cache = TtlCache[str, Issuer | Literal["unknown"]](now)

    async def issuer(self, issuer_id: str) -> Issuer | None:
        """Return the issuer, or None when it is unknown or suspended.

        Raises:
            ServiceUnavailable: the database is unavailable, and the issuer is not in the cache.
        """
        if len(issuer_id) != ISSUER_ID_CHARS or "\0" in issuer_id:  # no text in Postgres holds NUL
            return None
        issuer = self._cache.get(issuer_id)
        if issuer is None:
            record = await self._store.read_issuer(issuer_id)
            issuer = "unknown" if record is None else Issuer.from_record(issuer_id, record)
            self._cache.put(issuer_id, issuer, self._now() + TTL_SECONDS)
        return issuer if isinstance(issuer, Issuer) else None


def _read_body(config: VaultConfig, kind: ConfigKind, model: type[B]) -> B | None:
    """Read the body of *kind*; None: there is none, or none that the vault would take."""
    sealed = config.get(kind)
    try:
        body = None if sealed is None else parse_body(kind, sealed.body)
    except ConfigRefused:
        return None
    return body if isinstance(body, model) else None

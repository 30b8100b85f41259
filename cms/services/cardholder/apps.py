"""Apps: the clients through which cardholders come.

At the hosted face a public client, known by its client key. At the pincontrol face an issuer's own
server, known by a password, and its pages by their frame key.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cms.domain.control import Face, Grant
from cms.domain.errors import ClientKeyInvalid, ClientKeyMissing, ControlEnded, ServiceUnavailable
from hsm.manifest.origins import ORIGIN_CHARS_MAX
from cms.domain.records import Client
from cms.persistence.control_store import ControlStore
from cms.services.cache import TtlCache
from cms.services.directory import Directory, Issuer
from hsm.port import ISSUER_ID_CHARS

#: How the clients of each face prove who they are.
AUTH: Final[Mapping[Face, str]] = {Face.HOSTED: "public", Face.PINCONTROL: "basic"}
ORIGIN_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class App:
    """An app in service, and its issuer."""

    issuer: Issuer
    client: Client

    @property
    def origins(self) -> frozenset[str]:
        """Every origin that it registered."""
        return frozenset((*self.client.redirect_origins, *self.client.embed_origins))


class Apps:
    """The apps of this service."""

    def __init__(self, directory: Directory, store: ControlStore) -> None:
        self._directory = directory
        self._store = store
        self._origins = TtlCache[str, bool](time.monotonic)

    async def by_key(self, client_key: str | None) -> App:
        """Return the app whose client key this is; it starts with the id of the issuer.

        Raises:
            ClientKeyMissing: *client_key* is None or empty.
            ClientKeyInvalid: no app in service has it.
            ServiceUnavailable: the database is unavailable.
        """
        if not client_key:
            raise ClientKeyMissing
        app = await self._find(client_key[:ISSUER_ID_CHARS], client_key, Face.HOSTED)
        if app is None:
            raise ClientKeyInvalid
        return app

    async def by_user(self, user: str) -> App | None:
        """Return the server with this user name; it starts with the id of the issuer.

        Raises:
            ServiceUnavailable: the database is unavailable.
        """
        return await self._find(user[:ISSUER_ID_CHARS], user, Face.PINCONTROL)

    async def by_frame_key(self, frame_key: str) -> App:
        """Return the server whose pages have this frame key; it starts with the issuer's id.

        Raises:
            ControlEnded: there is none in service.
            ServiceUnavailable: the database is unavailable.
        """
        issuer = await self._directory.issuer(frame_key[:ISSUER_ID_CHARS])
        if issuer is not None:
            for client in issuer.clients.values():
                if client.frame_key == frame_key:
                    return App(issuer, client)
        raise ControlEnded

    async def of(self, grant: Grant) -> App:
        """Return the app that a control token was issued to.

        Raises:
            ControlEnded: it is out of service, or its issuer is.
            ServiceUnavailable: the database is unavailable.
        """
        app = await self._find(grant.issuer_id, grant.client_id, grant.face)
        if app is None:
            raise ControlEnded
        return app

    async def is_origin(self, origin: str) -> bool:
        """Tell whether any app registered *origin*; no when the database is unavailable."""
        if len(origin) > ORIGIN_CHARS_MAX:
            return False
        cached = self._origins.get(origin)
        if cached is not None:
            return cached
        try:
            found = await self._store.is_origin(origin)
        except ServiceUnavailable:
            return False
        self._origins.put(origin, found, time.monotonic() + ORIGIN_SECONDS)
        return found

    async def _find(self, issuer_id: str, client_id: str, face: Face) -> App | None:
        issuer = await self._directory.issuer(issuer_id)
        client = issuer.clients.get(client_id) if issuer is not None else None
        if issuer is None or client is None or client.auth != AUTH[face]:
            return None
        return App(issuer, client)

"""Apps and servers: the clients through which cardholders come.

At the hosted face an app, a public client that is known by its client key. At the pincontrol face
an issuer's own server, known by a password, and its pages by their frame key.
"""

from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from cms.domain.control import Grant
from cms.domain.errors import ClientKeyInvalid, ClientKeyMissing, ControlEnded
from cms.services.directory import Directory
from hsm.manifest.clients import AppClient, ServerClient
from hsm.manifest.model import Manifest
from hsm.port import ISSUER_ID_CHARS

C = TypeVar("C", bound=AppClient | ServerClient)
C_co = TypeVar("C_co", bound=AppClient | ServerClient, covariant=True)


@dataclass(frozen=True, slots=True)
class App(Generic[C_co]):
    """A client in service, and the manifest of its issuer."""

    manifest: Manifest
    client: C_co


HostedApp: TypeAlias = App[AppClient]
ServerApp: TypeAlias = App[ServerClient]
AnyApp: TypeAlias = App[AppClient | ServerClient]


class Clients(Generic[C]):
    """The clients of one kind."""

    def __init__(self, directory: Directory, kind: type[C]) -> None:
        self.directory = directory
        self._kind = kind

    async def find(self, client_id: str) -> App[C] | None:
        """Return the client of this id, which starts with the id of its issuer.

        Raises:
            ServiceUnavailable: database or vault are unavailable.
        """
        return await self._find(client_id[:ISSUER_ID_CHARS], client_id)

    async def of(self, grant: Grant) -> App[C]:
        """Return the client that a control token was issued to.

        Raises:
            ControlEnded: it is out of service, or its issuer is.
            ServiceUnavailable: database or vault are unavailable.
        """
        app = await self._find(grant.issuer_id, grant.client_id)
        if app is None:
            raise ControlEnded
        return app

    async def _find(self, issuer_id: str, client_id: str) -> App[C] | None:
        manifest = await self.directory.manifest(issuer_id)
        client = None if manifest is None else manifest.by_client_id.get(client_id)
        if manifest is None or not isinstance(client, self._kind):
            return None
        return App(manifest, client)


class Apps(Clients[AppClient]):
    """The apps of this service."""

    def __init__(self, directory: Directory) -> None:
        super().__init__(directory, AppClient)

    async def by_key(self, client_key: str | None) -> HostedApp:
        """Return the app whose client key this is.

        Raises:
            ClientKeyMissing: *client_key* is None or empty.
            ClientKeyInvalid: no app in service has it.
            ServiceUnavailable: database or vault are unavailable.
        """
        if not client_key:
            raise ClientKeyMissing
        app = await self.find(client_key)
        if app is None:
            raise ClientKeyInvalid
        return app


class Servers(Clients[ServerClient]):
    """The issuers' own servers."""

    def __init__(self, directory: Directory) -> None:
        super().__init__(directory, ServerClient)

    async def by_frame_key(self, frame_key: str) -> ServerApp:
        """Return the server whose pages have this frame key; it starts with the issuer's id.

        Raises:
            ControlEnded: there is none in service.
            ServiceUnavailable: database or vault are unavailable.
        """
        manifest = await self.directory.manifest(frame_key[:ISSUER_ID_CHARS])
        if manifest is not None:
            for server in manifest.servers:
                if server.frame_key == frame_key:
                    return App(manifest, server)
        raise ControlEnded

"""The composition root: the only module that sees everything."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from cms import interfaces
from cms.faces.cardholder.hosted.app import HostedServices, hosted_app
from cms.faces.cardholder.hosted.relay import Relay
from cms.faces.cardholder.pincontrol.app import (
    PinControlServices,
    operations_app,
    pincontrol_app,
)
from cms.faces.cardholder.pincontrol.operations import PREFIX as OPERATIONS_PREFIX
from cms.faces.cardholder.pincontrol.router import PREFIX
from cms.faces.d1.app import d1_app
from cms.faces.d1.certificates import CertificateReader
from cms.faces.ops import ops_app
from cms.logs import RequestLog
from cms.persistence.control_store import ControlStore
from cms.persistence.pool import Pool
from cms.persistence.store import Store
from cms.services.audit import Audit
from cms.services.cardholder.apps import Apps, Servers
from cms.services.cardholder.backends import Backends
from cms.services.cardholder.control_tokens import ControlTokens
from cms.services.cardholder.device_set import DeviceSet
from cms.services.cardholder.hosted import HostedCards
from cms.services.cardholder.pin_view import PinView
from cms.services.cardholder.pincontrol import ControlIds
from cms.services.cardholder.pre_shared import PreSharedKey
from cms.services.cardholder.rate_limit import RateLimiter
from cms.services.cardholder.set_page import SetPage
from cms.services.d1.access import Access
from cms.services.d1.calls import CardCalls
from cms.services.d1.pins import Pins
from cms.services.directory import Directory
from cms.services.ends import Ends, of_certificates
from cms.services.health import Health
from cms.services.manifests import ManifestCarrier
from cms.services.measured_vault import MeasuredVault
from cms.services.outbound import http_client
from cms.services.workers import Workers
from cms.settings import Settings
from crypto.secret import Secret
from hsm.client import VaultCalls, VaultClient
from hsm.messages import SocketName
from hsm.port import Face

if TYPE_CHECKING:
    from cms.tracing.tracing import Tracing


@dataclass(slots=True)
class Application:
    """The ASGI app of each listener, and what they share."""

    listeners: Mapping[str, ASGIApp]
    vault: VaultCalls
    store: Store
    health: Health
    manifests: ManifestCarrier
    http: httpx.AsyncClient
    """The way to a second deployment."""
    tracing: "Tracing | None"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Open the database, keep asking for its and the vault's health, carry manifests."""
        await self.store.open()
        try:
            await self.health.check()
            if self.health.vault_ready:
                await self.manifests.carry()
            async with _running(self.health.beat()), _running(self.manifests.beat()):
                yield
        finally:
            # Also when the first check failed: the server's sessions end at once.
            await self.vault.close()
            await self.store.close()
            await self.http.aclose()
            if self.tracing is not None:
                await self.tracing.export.close()


def create_app(settings: Settings, vault: VaultCalls | None = None, slot: str = "0") -> Application:
    """Wire the service; nothing is opened before :meth:`Application.running`.

    Args:
        settings: the service's settings.
        vault: the way to the vault; None: the sockets that the settings name.
        slot: of this worker among all.
    """
    tracing = _tracing(settings, slot)
    opened = vault or _client(settings)
    vault = MeasuredVault(opened if tracing is None else tracing.vault(opened))
    pool_at = Pool if tracing is None else tracing.pool
    store = Store.connect(settings.database_url(), settings.database_tls, pool_at)
    directory = Directory(store, vault)
    ends = Ends(certificates=of_certificates(_certificates(settings)))
    manifests = ManifestCarrier(store, vault, settings.host_name, ends=ends)
    public_url = settings.public_url if settings.serves("d1") else None
    health = Health(vault, store, Workers(slot), ends, public_url)
    http = http_client(settings.us_ca_file)
    apps: dict[str, ASGIApp] = {"ops": ops_app(health, vault, interfaces.shown())}
    if settings.serves("d1"):
        apps["d1"] = _d1(settings, store, directory, vault)
    if settings.serves("cardholder"):
        apps["cardholder"] = _cardholder(settings, store, directory, manifests, vault, http)
    if tracing is not None:
        peers = _proxy_peers(settings)
        apps = {name: tracing.requests(app, peers[name]) for name, app in apps.items()}
    listeners = {name: RequestLog(app, name) for name, app in apps.items()}
    return Application(listeners, opened, store, health, manifests, http, tracing)


def _tracing(settings: Settings, slot: str) -> "Tracing | None":
    """Load what makes spans, where there is a collector for them."""
    if settings.traces_url is None:
        return None
    from cms.tracing.tracing import Tracing  # noqa: PLC0415 - its libraries need not be there

    return Tracing.configured(settings.traces_url, settings, slot)


def _proxy_peers(settings: Settings) -> Mapping[str, frozenset[str]]:
    """Name who may say that a request belongs to a trace, by listener."""
    return {
        "d1": settings.d1_proxy_peers,
        "cardholder": settings.cardholder_proxy_peers,
        "ops": frozenset(),
    }


def _certificates(settings: Settings) -> Mapping[str, Path | None]:
    """Name the files of the certificates that this process shows, by listener."""
    files = {
        "d1": settings.d1_certificate_file,
        "cardholder": settings.cardholder_certificate_file,
    }
    return {listener: files[listener] for listener in settings.served}


def _client(settings: Settings) -> VaultClient:
    return VaultClient(
        settings.vault_socket_directory,
        [*map(SocketName, settings.served)],
        silence_seconds=settings.vault_silence_seconds,
        wait_seconds_max=settings.vault_wait_seconds_max,
    )


def _d1(settings: Settings, store: Store, directory: Directory, vault: VaultCalls) -> FastAPI:
    """Build the app of the D1 listener and what stands under it."""
    audit = Audit(store)
    return d1_app(
        Access(directory, vault, str(settings.public_url)),
        CertificateReader(settings),
        CardCalls(audit),
        Pins(store, vault, audit),
        vault,
    )


@dataclass(frozen=True, slots=True)
class ByPath:
    """The app of the cardholder listener: each face has paths of its own."""

    hosted: FastAPI
    pincontrol: FastAPI
    operations: FastAPI

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request."""
        face = self.hosted
        if scope["path"].startswith(PREFIX):
            face = self.pincontrol
        elif scope["path"].startswith(OPERATIONS_PREFIX):
            face = self.operations
        await face(scope, receive, send)


def _cardholder(
    settings: Settings,
    store: Store,
    directory: Directory,
    manifests: ManifestCarrier,
    vault: VaultCalls,
    http: httpx.AsyncClient,
) -> ByPath:
    """Build the app of the cardholder listener."""
    hosted, pincontrol = cardholder_services(
        store, directory, manifests, settings.control_token_key(), vault
    )
    url, proxy_peers = str(settings.cardholder_url), settings.cardholder_proxy_peers
    relay = None if settings.us_base_url is None else Relay(settings.us_base_url, http)
    return ByPath(
        hosted_app(hosted, url, relay, proxy_peers),
        pincontrol_app(pincontrol, url, proxy_peers),
        operations_app(pincontrol, proxy_peers),
    )


def cardholder_services(
    store: Store,
    directory: Directory,
    manifests: ManifestCarrier,
    control_token_key: Secret[bytes],
    vault: VaultCalls,
) -> tuple[HostedServices, PinControlServices]:
    """Build the services of both faces of cardholders, over the same control tokens.

    Args:
        store: the database.
        directory: issuers and their clients.
        manifests: knows the origins of all apps.
        control_token_key: hashes control tokens and page sessions; at least 32 bytes.
        vault: the way to the vault.
    """
    audit, control_store = Audit(store), ControlStore(store, control_token_key)
    apps, servers, rate_limiter = Apps(directory), Servers(directory), RateLimiter()

    def view_of(face: Face, clients: Apps | Servers) -> PinView:
        return PinView(face, control_store, clients, vault, audit)

    def page_of(face: Face, clients: Apps | Servers) -> SetPage:
        return SetPage(face, control_store, store, clients, vault, audit)

    control_tokens = ControlTokens(Face.HOSTED, control_store, apps, rate_limiter)
    hosted = HostedServices(
        apps,
        HostedCards(control_store, vault, audit),
        control_tokens,
        view_of(Face.HOSTED, apps),
        page_of(Face.HOSTED, apps),
        manifests,
    )
    of_servers = ControlTokens(Face.PINCONTROL, control_store, servers, rate_limiter)
    pincontrol = PinControlServices(
        servers,
        # Passwords have a limit of their own: who guesses them must not shut out cardholders.
        Backends(servers, RateLimiter()),
        of_servers,
        ControlIds(of_servers, control_store, vault, audit),
        view_of(Face.PINCONTROL, servers),
        page_of(Face.PINCONTROL, servers),
        PreSharedKey(control_store, store, vault, audit),
        DeviceSet(control_store, store, vault, audit),
    )
    return hosted, pincontrol


@asynccontextmanager
async def _running(beat: Coroutine[object, object, None]) -> AsyncIterator[None]:
    """Run what never ends until the block does."""
    task = asyncio.create_task(beat)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

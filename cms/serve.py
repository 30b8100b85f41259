"""Run the service: a parent that only supervises, and workers that each serve every listener.

A worker that ends is replaced, and ends with its parent. What every worker would stumble over is
checked once, before there is any.
"""

import asyncio
import ctypes
import importlib.util
import logging
import os
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from cms import development, logs, metrics
from cms.persistence.address import AddressRefused, connection_string
from cms.protocol import BoundedProtocol
from cms.services.outbound import http_client
from cms.settings import Listener, SettingRefused, Settings
from cms.tls import ClientCertificateProtocol, tls_context
from crypto.keyed_hash import keyed_hash
from hsm import exposition
from hsm.errors import VaultUnavailable
from hsm.messages import SocketName
from hsm.setting_faults import file_fault, unknown, with_page
from hsm.socket_files import owner_of

if TYPE_CHECKING:
    from cms.app import Application

BACKLOG: Final = 2048
KEEP_ALIVE_SECONDS: Final = 75
SHUTDOWN_SECONDS: Final = 5
WORKER_SILENT_SECONDS_MAX: Final = 60
"""How long a worker may not answer its supervisor, which then replaces it.

It does not answer while it starts: where that takes longer, on a busy machine, it would be replaced
for ever.
"""
FAILED: Final = 1
FILES: Final = (
    "database_url_file",
    "d1_certificate_file",
    "d1_key_file",
    "d1_client_ca_file",
    "cardholder_certificate_file",
    "cardholder_key_file",
    "control_token_key_file",
    "us_ca_file",
    "traces_ca_file",
)
TRACING_LIBRARY: Final = "opentelemetry.sdk"
SECRETS: Final = (
    "database_url_file",
    "d1_key_file",
    "cardholder_key_file",
    "control_token_key_file",
)
PR_SET_PDEATHSIG: Final = 1
"""Linux, ``prctl(2)``."""
log = logging.getLogger(__name__)


def run(settings: Settings, *, sandbox: bool) -> int:
    """Serve until SIGINT or SIGTERM and return the exit code.

    With *sandbox*, what is for development only is accepted.
    """
    logs.set_up()
    try:
        _check_names()
        _check_files(settings)
        if not sandbox:
            _check_production(settings)
        _check_vault_sockets(settings)
        bound = _main_socket(settings)
        _check_further_addresses(settings)
    except CannotStart as error:
        log.critical("not_started", extra={"reason": with_page(str(error))})
        return FAILED
    if sandbox:
        log.warning("sandbox", extra={"reason": "--sandbox: for trials only, never for real cards"})
    config = _config(_main(settings), "cms.serve:worker", settings, factory=True, lifespan="on")
    supervisor = Supervisor(config, sockets=[bound])
    with exposition.shared_directory("pins-web-"):
        supervisor.run()
    ended = {process.exitcode for process in supervisor.processes}
    return FAILED if STARTUP_FAILURE in ended else 0


def worker() -> ASGIApp:
    """Build the app of a worker's main listener; its lifespan opens everything else."""
    # The supervisor, which serves nothing, starts sooner and stays smaller without it.
    from cms.app import create_app  # noqa: PLC0415

    logs.set_up()
    _end_with_supervisor()
    slot, settings = metrics.begin(), Settings()
    return _with_lifespan(create_app(settings, slot=slot), settings)


class Supervisor(Multiprocess):
    """Asks the workers again and again whether they are there, and replaces those that are not."""

    def keep_subprocess_alive(self) -> None:
        """Ask once; a worker that dies before it answers is known at once to be dead."""
        for process in self.processes:
            # The worker's end of the pipe, of which we have a copy, which would keep it open.
            process.child_conn.close()
        super().keep_subprocess_alive()


class CannotStart(Exception):
    """The service cannot run as it is set up; the message says what to look at."""


def _main(settings: Settings) -> Listener:
    """Choose the listener whose socket all workers share; each worker begins and ends with it."""
    return settings.served[0]


def _config(
    listener: Listener,
    app: Any,  # noqa: ANN401 - a name or an app
    settings: Settings,
    **given: Any,  # noqa: ANN401 - of uvicorn
) -> uvicorn.Config:
    if listener == "cardholder":
        files: dict[str, Any] = {
            "ssl_certfile": settings.cardholder_certificate_file,
            "ssl_keyfile": settings.cardholder_key_file,
        }
        return uvicorn.Config(app, workers=settings.workers, **_common(), **files, **given)
    in_service = settings.d1_mtls_ends == "service"
    return uvicorn.Config(
        app,
        workers=settings.workers,
        ssl_context_factory=_context_factory if in_service else None,
        **_common() | {"http": ClientCertificateProtocol},
        **given,
    )


def _context_factory(_: uvicorn.Config, __: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    return tls_context(Settings())


def _common() -> dict[str, Any]:
    return {
        "loop": "uvloop",
        "http": BoundedProtocol,
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "proxy_headers": False,
        "backlog": BACKLOG,
        "timeout_keep_alive": KEEP_ALIVE_SECONDS,
        "timeout_graceful_shutdown": SHUTDOWN_SECONDS,
        "timeout_worker_healthcheck": WORKER_SILENT_SECONDS_MAX,
    }


class _Listener(uvicorn.Server):
    """A further listener of a worker: the worker's own server handles the signals."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


def _with_lifespan(application: "Application", settings: Settings) -> ASGIApp:
    """Answer the server's lifespan events around the app of the main listener."""
    main = application.listeners[_main(settings)]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await main(scope, receive, send)
            return
        await receive()
        async with application.running(), _further_listeners(application, settings):
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    return app


@asynccontextmanager
async def _further_listeners(application: "Application", settings: Settings) -> AsyncIterator[None]:
    """Serve every other listener; workers share its port, the kernel chooses one a connection."""
    async with AsyncExitStack() as stack:
        for name in settings.served[1:]:  # only the cardholders' can be one
            config = _config(name, application.listeners[name], settings, lifespan="off")
            host, port = settings.cardholder_host, settings.cardholder_port
            await stack.enter_async_context(_listener(config, host, port))
        # The last: who hears there that this worker is ready finds the others open.
        ops = uvicorn.Config(application.listeners["ops"], lifespan="off", **_common())
        await stack.enter_async_context(_listener(ops, settings.ops_host, settings.ops_port))
        yield


@asynccontextmanager
async def _listener(config: uvicorn.Config, host: str, port: int) -> AsyncIterator[None]:
    listener = _Listener(config)
    bound = _tcp_socket(host, port, socket.SO_REUSEADDR, socket.SO_REUSEPORT)
    bound.listen(BACKLOG)
    serving = asyncio.create_task(listener.serve(sockets=[bound]))
    try:
        yield
    finally:
        listener.should_exit = True
        await serving


def _main_socket(settings: Settings) -> socket.socket:
    """Open the listener that all workers share; a worker that has begun accepts what waits."""
    main = _main(settings)
    host, port = settings.cardholder_host, settings.cardholder_port
    if main == "d1":
        host, port = settings.d1_host, settings.d1_port
    if main == "d1" and settings.d1_socket is not None:
        with _naming("CMS_D1_SOCKET"):
            bound = _private_socket(settings.d1_socket)
            bound.listen(BACKLOG)
    else:
        with _naming(f"CMS_{main.upper()}_HOST, CMS_{main.upper()}_PORT"):
            bound = _tcp_socket(host, port, socket.SO_REUSEADDR)
            bound.listen(BACKLOG)
    return bound


def _check_further_addresses(settings: Settings) -> None:
    """Open once, and close, what each worker opens: all would fail, and end the service.

    Each alone: workers share such an address, and so would two listeners, or two services.
    """
    addresses = {"OPS": (settings.ops_host, settings.ops_port)}
    if settings.served[1:]:
        addresses["CARDHOLDER"] = settings.cardholder_host, settings.cardholder_port
    with ExitStack() as opened:
        for name, (host, port) in addresses.items():
            with _naming(f"CMS_{name}_HOST, CMS_{name}_PORT"):
                bound = opened.enter_context(_tcp_socket(host, port, socket.SO_REUSEADDR))
                bound.listen()


@contextmanager
def _naming(settings: str) -> Iterator[None]:
    """Name the settings of an address where nothing can listen."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise CannotStart(f"{settings}: nothing can listen there: {reason}") from None


def _tcp_socket(host: str, port: int, *options: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    for option in options:
        bound.setsockopt(socket.SOL_SOCKET, option, 1)
    bound.bind((host, port))
    return bound


def _private_socket(path: Path) -> socket.socket:
    """Bind a unix socket for owner and group: whoever reaches it can vouch for a certificate."""
    bound = socket.socket(socket.AF_UNIX)
    if path.is_socket() and bound.connect_ex(str(path)) != 0:
        path.unlink()  # left behind by a service that ended
    umask = os.umask(0o117)
    try:
        bound.bind(str(path))
    finally:
        os.umask(umask)
    return bound


def _end_with_supervisor() -> None:
    """Have the kernel end this worker when its supervisor dies: nobody would replace it."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _check_names() -> None:
    wrong = unknown("CMS_", Settings)
    if wrong is not None:
        raise CannotStart(wrong)


def _check_files(settings: Settings) -> None:
    """Read what each worker reads as it starts: each would fail, and be replaced, for ever."""
    for name in FILES:
        path: Path | None = getattr(settings, name)
        if path is None:
            continue
        wrong = file_fault(f"CMS_{name.upper()}", path, is_secret=name in SECRETS)
        if wrong is not None:
            raise CannotStart(wrong)
    try:
        connection_string(settings.checked_database_url(), settings.database_tls)
    except (AddressRefused, SettingRefused) as error:
        raise CannotStart(str(error)) from None
    if settings.traces_url is not None and importlib.util.find_spec(TRACING_LIBRARY) is None:
        raise CannotStart(
            f"CMS_TRACES_URL: {TRACING_LIBRARY} is not installed; see docs/tracing.md"
        )
    try:
        if settings.serves("d1") and settings.d1_mtls_ends == "service":
            tls_context(settings)
    except ssl.SSLError as error:
        names = "CMS_D1_CERTIFICATE_FILE, CMS_D1_KEY_FILE, CMS_D1_CLIENT_CA_FILE"
        reason = f"{names}: they cannot be used together: {error.reason}"
        raise CannotStart(reason) from None
    if settings.serves("cardholder"):
        _check_cardholder_listener(settings)


def _check_cardholder_listener(settings: Settings) -> None:
    try:
        keyed_hash(settings.control_token_key())
    except ValueError as error:
        raise CannotStart(f"CMS_CONTROL_TOKEN_KEY_FILE: {error}") from None
    try:
        http_client(settings.us_ca_file)
    except ssl.SSLError:
        raise CannotStart("CMS_US_CA_FILE: no certificate in it") from None
    try:
        if settings.cardholder_certificate_file is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(
                settings.cardholder_certificate_file, settings.cardholder_key_file
            )
    except ssl.SSLError as error:
        names = "CMS_CARDHOLDER_CERTIFICATE_FILE, CMS_CARDHOLDER_KEY_FILE"
        reason = f"{names}: they cannot be used together: {error.reason}"
        raise CannotStart(reason) from None


def _check_production(settings: Settings) -> None:
    try:
        development.refuse(settings)
    except development.DevelopmentSetting as error:
        raise CannotStart(f"{error}, or try it with serve --sandbox") from None


def _check_vault_sockets(settings: Settings) -> None:
    """Look whose the vault's sockets are. Whether it answers is asked later, again and again."""
    try:
        owner = owner_of(settings.vault_socket_directory, map(SocketName, settings.served))
    except VaultUnavailable as error:
        raise CannotStart(
            f"CMS_VAULT_SOCKET_DIRECTORY: {error}: start the vault first, python -m hsm serve makes"
            " the sockets"
        ) from None
    if owner == os.geteuid():
        reason = "the vault's user is our own: its memory and files are open to this process"
        log.warning("vault.same_user", extra={"reason": reason})

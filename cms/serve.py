"""Run the service: a parent that only supervises, and workers that each serve every listener.

A worker that ends is replaced, and ends with its parent. What every worker would stumble over is
checked once, before there is any.
"""

import asyncio
import ctypes
import logging
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

import uvicorn
from pydantic import ValidationError
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from cms import development, logs
from cms.app import Application, create_app
from cms.persistence.address import AddressRefused, connection_string
from cms.protocol import BoundedProtocol
from cms.services.outbound import http_client
from cms.settings import Settings
from cms.tls import ClientCertificateProtocol, tls_context
from crypto.keyed_hash import keyed_hash
from hsm.errors import ManifestRefused
from hsm.manifest.trust import read_trust
from hsm.settings import VaultSettings

BACKLOG: Final = 2048
KEEP_ALIVE_SECONDS: Final = 75
SHUTDOWN_SECONDS: Final = 5
WORKER_SILENT_SECONDS_MAX: Final = 60
"""How long a worker may not answer its supervisor, which then replaces it.

It does not answer while it starts: where that takes longer, on a busy machine, it would be replaced
for ever. A hung token is noticed sooner, by the vault's deadline.
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
)
LINES_SHOWN: Final = 8
"""Of what ``hsm check`` complains of: a line a role that has no key."""
PR_SET_PDEATHSIG: Final = 1
"""Linux, ``prctl(2)``."""
log = logging.getLogger(__name__)


def run(settings: Settings, *, sandbox: bool) -> int:
    """Serve until SIGINT or SIGTERM and return the exit code.

    With *sandbox*, what is for development only is accepted.
    """
    logs.set_up()
    try:
        _check_files(settings)
        if not sandbox:
            _check_production(settings)
        _check_host(sandbox=sandbox)
        _check_hsm_token(sandbox=sandbox)
        bound = _d1_socket(settings)
    except CannotStart as error:
        log.critical("not_started", extra={"reason": str(error)})
        return FAILED
    if sandbox:
        log.warning("sandbox", extra={"reason": "--sandbox: for trials only, never for real cards"})
    supervisor = Supervisor(_config("cms.serve:worker", settings), sockets=[bound])
    supervisor.run()
    ended = {process.exitcode for process in supervisor.processes}
    return FAILED if STARTUP_FAILURE in ended else 0


def worker() -> ASGIApp:
    """Build the D1 app of one worker; its lifespan opens everything else."""
    logs.set_up()
    _end_with_supervisor()
    settings = Settings()
    application = create_app(settings)
    return _with_lifespan(application, settings)


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


def _config(app: Any, settings: Settings) -> uvicorn.Config:  # noqa: ANN401 - a name or an app
    in_service = settings.d1_mtls_ends == "service"
    return uvicorn.Config(
        app,
        factory=True,
        workers=settings.workers,
        lifespan="on",
        ssl_context_factory=_context_factory if in_service else None,
        **_common() | {"http": ClientCertificateProtocol},
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


def _with_lifespan(application: Application, settings: Settings) -> ASGIApp:
    """Answer the server's lifespan events around the D1 app."""
    d1 = application.listeners["d1"]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await d1(scope, receive, send)
            return
        await receive()
        async with application.running(), _further_listeners(application, settings):
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    return app


@asynccontextmanager
async def _further_listeners(application: Application, settings: Settings) -> AsyncIterator[None]:
    """Serve every other listener; workers share its port, the kernel chooses one a connection."""
    async with AsyncExitStack() as stack:
        ops = uvicorn.Config(application.listeners["ops"], lifespan="off", **_common())
        await stack.enter_async_context(_listener(ops, settings.ops_host, settings.ops_port))
        if "cardholder" in application.listeners:
            cardholder = uvicorn.Config(
                application.listeners["cardholder"],
                lifespan="off",
                ssl_certfile=settings.cardholder_certificate_file,
                ssl_keyfile=settings.cardholder_key_file,
                **_common(),
            )
            host, port = settings.cardholder_host, settings.cardholder_port
            await stack.enter_async_context(_listener(cardholder, host, port))
        yield


@asynccontextmanager
async def _listener(config: uvicorn.Config, host: str, port: int) -> AsyncIterator[None]:
    listener = _Listener(config)
    bound = _tcp_socket(host, port, socket.SO_REUSEADDR, socket.SO_REUSEPORT)
    serving = asyncio.create_task(listener.serve(sockets=[bound]))
    try:
        yield
    finally:
        listener.should_exit = True
        await serving


def _d1_socket(settings: Settings) -> socket.socket:
    """Bind the listener that all workers share."""
    try:
        if settings.d1_socket is not None:
            return _private_socket(settings.d1_socket)
        return _tcp_socket(settings.d1_host, settings.d1_port, socket.SO_REUSEADDR)
    except OSError as error:
        raise CannotStart(f"the D1 listener: {error.strerror}") from None


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


def _check_files(settings: Settings) -> None:
    """Read what each worker reads as it starts: each would fail, and be replaced, for ever."""
    for name in FILES:
        path: Path | None = getattr(settings, name)
        try:
            if path is not None:
                path.read_bytes()
        except OSError as error:
            raise CannotStart(f"CMS_{name.upper()}: {error.strerror}") from None
    try:
        connection_string(settings.database_url(), settings.database_tls)
    except AddressRefused as error:
        raise CannotStart(f"CMS_DATABASE_URL_FILE: {error}") from None
    try:
        if settings.d1_mtls_ends == "service":
            tls_context(settings)
    except ssl.SSLError as error:
        reason = f"the D1 listener's certificate, key and client CA: {error.reason}"
        raise CannotStart(reason) from None
    if settings.cardholder_url is not None:
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
        reason = f"the cardholder listener's certificate and key: {error.reason}"
        raise CannotStart(reason) from None


def _check_production(settings: Settings) -> None:
    try:
        development.refuse(settings)
    except development.DevelopmentSetting as error:
        raise CannotStart(f"{error}, or try it with serve --sandbox") from None


def _check_host(*, sandbox: bool) -> None:
    """Look at what the vault of each worker has beside its HSM token."""
    try:
        settings = VaultSettings()
        trust = read_trust(settings.trust_file)
    except ValidationError as error:
        names = sorted("HSM_" + str(item["loc"][0]).upper() for item in error.errors())
        raise CannotStart("set " + ", ".join(names)) from None
    except ManifestRefused as error:
        raise CannotStart(f"HSM_TRUST_FILE: {error}") from None
    if trust.sandbox and not sandbox:
        raise CannotStart(
            "HSM_TRUST_FILE is for trials: name one in which two operators have to sign, or try it"
            " with serve --sandbox"
        )
    directory = settings.state_directory
    if not directory.is_dir() or not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        raise CannotStart("HSM_STATE_DIRECTORY: no directory that can be read and written")


def _check_hsm_token(*, sandbox: bool) -> None:
    """Log in once before any worker does: a wrong user PIN must not be tried by all of them."""
    options = ["--sandbox"] if sandbox else []
    check = subprocess.run(  # noqa: S603 - no word from outside
        [sys.executable, "-m", "hsm", "check", *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if check.returncode != 0:
        said = "; ".join(check.stderr.splitlines()[-LINES_SHOWN:])
        raise CannotStart(
            f"{said}; see HSM_MODULE, HSM_TOKEN_LABEL, HSM_PIN_FILE and python -m hsm check"
        )

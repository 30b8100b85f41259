"""The app's side in a browser: a web page of its own, on another site than the service.

It is served with TLS and to this machine only, while the block of a ``with`` runs. The page calls
the service from the browser; its own server gives it the files and what the app holds, to anybody
on this machine who asks, and asks for control ids in its stead, with a password that it keeps.
Never for production.
"""

import base64
import hashlib
import socket
from collections.abc import Mapping
from pathlib import Path
from threading import Thread
from typing import Final, Self

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from cms.sandbox.partners.hosted_app import HostedConfig
from cms.sandbox.partners.pincontrol_server import SET, VIEW, PinControlClient, PinControlConfig

HOST: Final = "127.0.0.1"
#: Not the address of the service: to a browser, two sites.
NAME: Final = "localhost"
STOP_SECONDS_MAX: Final = 1
HEADERS: Final[Mapping[str, str]] = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
SCOPES: Final[Mapping[str, str]] = {"view": VIEW, "set": SET}
_HTML: Final = Path(__file__).with_suffix(".html")
_SCRIPT: Final = Path(__file__).with_suffix(".js")


def origin(port: int) -> str:
    """Where the page is, as a browser writes it."""
    return f"https://{NAME}:{port}"


class HostPage:
    """The page, its server, and what the app holds.

    Args:
        hosted: the app of the hosted face.
        pincontrol: the server at the pincontrol face, simulated by the page's own.
        certificate: the server's certificate chain, PEM.
        key: its key, PEM.
        port: where it listens; its origin is registered with the service.
    """

    def __init__(
        self,
        hosted: HostedConfig,
        pincontrol: PinControlConfig,
        certificate: Path,
        key: Path,
        port: int,
    ) -> None:
        self._hosted = hosted
        self._pincontrol = pincontrol
        self._port = port
        html = _HTML.read_text("utf-8")
        self._files = {
            "/": Response(html, media_type="text/html", headers=_headers(html, hosted.base_url)),
            f"/{_SCRIPT.name}": Response(
                _SCRIPT.read_text("utf-8"), media_type="text/javascript", headers=HEADERS
            ),
        }
        self._server = uvicorn.Server(
            uvicorn.Config(
                self._app(),
                ssl_certfile=certificate,
                ssl_keyfile=str(key),
                loop="asyncio",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=STOP_SECONDS_MAX,
            )
        )

    def __enter__(self) -> Self:
        # From here on the kernel takes callers; they wait until the server is up.
        self._socket = socket.create_server((HOST, self._port))
        self._thread = Thread(
            target=self._server.run, args=([self._socket],), name="host-page", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()

    @property
    def url(self) -> str:
        """The address to open."""
        return origin(self._port) + "/"

    def _app(self) -> Starlette:
        routes = [Route(path, self._file) for path in self._files]
        routes.append(Route("/config.json", self._config))
        routes.append(Route("/pincontrol/{operation}", self._control_id, methods=["POST"]))
        # A page at another name that leads here would be told the access token.
        only_here = Middleware(TrustedHostMiddleware, allowed_hosts=[NAME], www_redirect=False)
        return Starlette(routes=routes, middleware=[only_here])

    async def _file(self, request: Request) -> Response:
        return self._files[request.url.path]

    async def _config(self, _: Request) -> Response:
        hosted = {
            "baseUrl": self._hosted.base_url,
            "clientKey": self._hosted.client_key,
            "accessToken": self._hosted.access_token(),
        }
        pincontrol = {
            "baseUrl": self._pincontrol.base_url,
            "frameKey": self._pincontrol.frame_key,
            "producedPlasticId": self._pincontrol.personalised_plastic_id,
            "unproducedPlasticId": self._pincontrol.unpersonalised_plastic_id,
        }
        return JSONResponse({"hosted": hosted, "pincontrol": pincontrol}, headers=HEADERS)

    def _control_id(self, request: Request) -> Response:
        """Ask the service for a control id; its answer, whatever it is, is the answer."""
        # A browser says whose page it is that posts, and lets no page say it is another.
        if request.headers.get("origin") != origin(self._port):
            return _problem(403, "Only the page itself may ask")
        scope = SCOPES.get(request.path_params["operation"])
        plastic_id = request.query_params.get("plasticId", "")
        config = self._pincontrol
        known = {config.personalised_plastic_id, config.unpersonalised_plastic_id}
        if scope is None or plastic_id not in known:
            return _problem(404, "Not found")
        try:
            with PinControlClient(self._pincontrol) as server:
                answer = server.ask(plastic_id, scope)
        except httpx.HTTPError:
            return _problem(502, "The service cannot be reached")
        return Response(answer.content, answer.status_code, HEADERS, "application/json")


def _problem(status: int, message: str) -> Response:
    return JSONResponse({"message": message}, status, HEADERS)


def _headers(html: str, service: str) -> dict[str, str]:
    """Return the headers of the page: its own script and style, and the service, nothing else."""
    style = html.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": f"'sha256-{digest}'",
        "connect-src": f"'self' {service}",
        # The page has an empty icon, so that a browser asks for none.
        "img-src": f"{service} data:",
        "frame-src": service,
        "form-action": service,
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    return {
        **HEADERS,
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
    }

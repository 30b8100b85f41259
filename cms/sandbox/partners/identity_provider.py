"""Play the issuer's identity provider: a key pair, its JWK set over HTTP, access tokens.

It serves this machine only, while the block of a ``with`` runs. In a directory of its own (0700)
it keeps ``private.jwk`` (0600), so that access tokens outlive a restart. Anybody who can read that
file can be any cardholder of the demo. Never for production.
"""

import json
import os
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingTCPServer
from threading import Thread
from typing import Any, Final, Self

from jwcrypto.jwk import JWK
from jwcrypto.jws import JWS

ISSUER: Final = "https://identity.sandbox.test"
HOST: Final = "127.0.0.1"
KEY_FILE: Final = "private.jwk"
JWKS_PATH: Final = "/.well-known/jwks.json"
#: The demo may be left running.
ACCESS_TOKEN_SECONDS: Final = 24 * 3600
POLL_SECONDS: Final = 0.05


class IdentityProvider:
    """An identity provider whose access tokens are for *audience*.

    Args:
        directory: where its key pair is, or is made.
        audience: the ``aud`` of its access tokens.
        port: where it listens; 0: any free port.
        now: the time in seconds since 1970.
    """

    def __init__(
        self,
        directory: Path,
        audience: str,
        port: int = 0,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._key = _ensure_key(directory)
        self._audience = audience
        self._port = port
        self._now = now

    def __enter__(self) -> Self:
        self._server = _Server(self._port, self._jwks())
        self._thread = Thread(
            target=self._server.serve_forever, args=(POLL_SECONDS,), name="identity", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def jwks_url(self) -> str:
        """Where its JWK set is while it runs."""
        return f"http://{HOST}:{self._server.port}{JWKS_PATH}"

    def issue(
        self, subject: str, *, acr: str | None = None, seconds: int = ACCESS_TOKEN_SECONDS
    ) -> str:
        """Issue an access token to *subject*, who proves now who it is, in the way *acr* names."""
        now = int(self._now())
        claims: dict[str, object] = {
            "iss": ISSUER,
            "aud": self._audience,
            "sub": subject,
            "iat": now,
            "exp": now + seconds,
            "auth_time": now,
        }
        if acr is not None:
            claims["acr"] = acr
        header = {"alg": "ES256", "kid": self._key["kid"], "typ": "at+jwt"}
        jws = JWS(json.dumps(claims))
        jws.add_signature(self._key, protected=json.dumps(header))
        return str(jws.serialize(compact=True))

    def write_access_token(self, file: Path, subject: str) -> None:
        """Issue an access token into a file that its owner alone can read."""
        _write(file, self.issue(subject) + "\n")

    def _jwks(self) -> bytes:
        public: dict[str, Any] = self._key.export_public(as_dict=True)
        return json.dumps({"keys": [public]}).encode()


class _Server(ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, port: int, jwks: bytes) -> None:
        super().__init__((HOST, port), _Handler)
        self.jwks = jwks
        self.port = self.socket.getsockname()[1]


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        """Answer with the JWK set, or that there is nothing."""
        if self.path != JWKS_PATH:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", "application/jwk-set+json")
        self.send_header("Content-Length", str(len(self.server.jwks)))
        self.end_headers()
        self.wfile.write(self.server.jwks)

    def log_message(self, *_: object) -> None:
        """Say nothing: the demo's output is a conversation."""


def _ensure_key(directory: Path) -> JWK:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(0o700)
    file = directory / KEY_FILE
    if not file.exists():
        key = JWK.generate(kty="EC", crv="P-256", use="sig", alg="ES256")
        key.update(kid=key.thumbprint())
        _write(file, key.export_private())
    return JWK.from_json(file.read_text())


def _write(path: Path, text: str) -> None:
    """Put *text* at *path* in one step, readable by its owner alone from the start."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    new.replace(path)

"""The service inside a test: real token, real Postgres, requests without a socket."""

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from jwcrypto.jwe import JWE
from starlette.types import ASGIApp, Receive, Scope, Send

from cms.app import Application, create_app
from cms.faces.d1.oauth import TOKEN_PATH
from cms.faces.routes import Face
from cms.logs import RequestLog
from cms.sandbox.partners.pin_blocks import iso0_pin
from cms.settings import Settings
from cms.tracing.spans import TracedRequests
from hsm.client import VaultCalls
from hsm.vault import Vault
from tests.in_process_vault import InProcessVault
from tests.issuer_records import Certificate, SampleIssuer
from tests.operators import TOKEN_ISSUER

PUBLIC_URL = TOKEN_ISSUER


def settings(database_url: str, directory: Path, **given: object) -> Settings:
    """Settings of a service whose TLS files are never read."""
    url_file = directory / "database-url"
    url_file.write_text(database_url)
    files = dict.fromkeys(("d1_certificate_file", "d1_key_file", "d1_client_ca_file"), url_file)
    values = {
        "database_url_file": url_file,
        "public_url": PUBLIC_URL,
        "vault_socket_directory": directory,
        **files,
        **given,
    }
    return Settings.model_validate(values)


@asynccontextmanager
async def running(
    database_url: str, directory: Path, vault: Vault, **given: object
) -> AsyncIterator[Application]:
    """Run the service over *vault*, in this process, until the block ends."""
    async with running_over(InProcessVault(vault), database_url, directory, **given) as application:
        yield application


@asynccontextmanager
async def running_over(
    vault: VaultCalls, database_url: str, directory: Path, **given: object
) -> AsyncIterator[Application]:
    """Run the service over a vault, wherever that is, until the block ends."""
    application = create_app(settings(database_url, directory, **given), vault)
    async with application.running():
        yield application


@dataclass(frozen=True)
class D1:
    """A caller of the D1 listener that presents one client certificate."""

    http: httpx.AsyncClient
    sample_issuer: SampleIssuer

    def path(self, card_id: str = "card-1", tail: str = "/pin") -> str:
        return f"/cms/api/v1/issuers/{self.sample_issuer.issuer_id}/cards/{card_id}{tail}"

    async def bearer(self) -> dict[str, str]:
        """Get an access token and return it as a header."""
        answer = await self.ask_token()
        assert answer.status_code == 200, answer.text
        return {"Authorization": f"Bearer {answer.json()['access_token']}"}

    async def ask_token(self, credentials: str | None = None) -> httpx.Response:
        text = credentials or f"{self.sample_issuer.client_id}:{self.sample_issuer.secret}"
        basic = base64.b64encode(text.encode()).decode()
        return await self.http.post(
            TOKEN_PATH,
            data={"grant_type": "client_credentials"},
            headers={"Authorization": f"Basic {basic}"},
        )

    async def put_pin(self, pin: str, card_id: str = "card-1") -> httpx.Response:
        return await self.put(self.sample_issuer.pin_jwe(pin, card_id), card_id)

    async def put(self, jwe: str, card_id: str = "card-1", type_: str = "ISO0") -> httpx.Response:
        body = {"type": type_, "encryptedPinBlock": jwe}
        return await self.http.put(self.path(card_id), json=body, headers=await self.bearer())

    async def get(self, card_id: str = "card-1") -> httpx.Response:
        return await self.http.get(self.path(card_id), headers=await self.bearer())

    async def pin(self, card_id: str = "card-1") -> str:
        """Read the PIN back as D1 does."""
        answer = await self.get(card_id)
        assert answer.status_code == 200, answer.text
        jwe = JWE(algs=["ECDH-ES", "A256GCM"])
        jwe.deserialize(answer.json()["encryptedPinBlock"], self.sample_issuer.d1_key)
        return iso0_pin(json.loads(jwe.payload)["pinBlock"], self.sample_issuer.pans[card_id])

    async def counter(self, card_id: str = "card-1") -> int:
        answer = await self.http.get(
            self.path(card_id, "/pin/changeCounter"), headers=await self.bearer()
        )
        assert answer.status_code == 200, answer.text
        counter: int = answer.json()["changeCounter"]
        return counter


def served_by(listener: ASGIApp) -> ASGIApp:
    """Return what stands behind the log of a listener, and behind what traces it."""
    assert isinstance(listener, RequestLog)
    app = listener._app
    return app.app if isinstance(app, TracedRequests) else app


def d1_app(application: Application) -> Face:
    """Return what serves the D1 listener."""
    app = served_by(application.listeners["d1"])
    assert isinstance(app, Face)
    return app


@asynccontextmanager
async def d1(
    application: Application, sample_issuer: SampleIssuer, presented: Certificate | None = None
) -> AsyncIterator[D1]:
    """Call the D1 listener with the bank's own certificate, or the one *presented*."""
    app = with_certificate(application.listeners["d1"], presented or sample_issuer.certificate)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=PUBLIC_URL) as http:
        yield D1(http, sample_issuer)


def with_certificate(app: ASGIApp, presented: Certificate | None) -> ASGIApp:
    """Put a client certificate where the TLS layer puts it."""

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        der = presented.der if presented else None
        scope["extensions"] = {"tls": {"client_certificate_der": der}}
        await app(scope, receive, send)

    return call

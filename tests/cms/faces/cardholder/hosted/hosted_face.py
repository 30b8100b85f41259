"""The hosted face over an issuer with one app: real vault, real database, an identity provider."""

import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from cms.app import cardholder_services
from cms.domain.cards import CardState
from cms.faces.cardholder.hosted.app import hosted_app
from cms.faces.cardholder.hosted.relay import Relay
from cms.logs import RequestLog
from cms.persistence.store import Store
from cms.services.directory import Directory
from cms.services.manifests import ManifestCarrier
from crypto.secret import Secret
from hsm.client import VaultCalls
from tests.bearers import bearer, identity_provider
from tests.cms.faces.cardholder.hosted import apps
from tests.cms.faces.cardholder.hosted.jwes import page_jwe, submission
from tests.cms.faces.d1_face import PIN, D1Face
from tests.issuer_records import change_manifest, run_sql

PUBLIC_URL = "https://cards.test"
US_URL = "https://us.test"
ISSUER_ID = "testbank01"
CONTROL_TOKEN_KEY = Secret(b"k" * 32)
_numbers = itertools.count(1)


@dataclass
class HostedFace:
    """What an app, a browser and a cardholder do."""

    d1_face: D1Face
    http: httpx.AsyncClient
    us: list[httpx.Request] = field(default_factory=list)
    us_answer: httpx.Response | Exception | None = None

    async def holder(
        self, state: CardState = CardState.ACTIVE, pin: str | None = PIN
    ) -> tuple[str, str]:
        """Add a card of a new cardholder; return its id and its holder's."""
        card_id = f"held-{next(_numbers)}"
        holder = f"holder-of-{card_id}"
        await self.d1_face.add_card(card_id, state, pin=pin, cardholder_id=holder)
        return card_id, holder

    def headers(self, holder: str, **changed: str | None) -> dict[str, str]:
        given = {
            "x-client-key": apps.KEY,
            "authorization": f"Bearer {bearer(holder, ISSUER_ID)}",
            **{name.replace("_", "-"): value for name, value in changed.items()},
        }
        return {name: value for name, value in given.items() if value is not None}

    async def ask(
        self, purpose: str, holder: str, body: object = None, **changed: str | None
    ) -> httpx.Response:
        """Ask for a control token; *body* is JSON, or bytes as they are."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.http.post(
            f"/v1/card/{purpose}/token",
            content=b"" if body is None else content,
            headers=self.headers(holder, **changed),
        )

    async def control_token(
        self, purpose: str, holder: str, body: object = None, **changed: str
    ) -> str:
        answer = await self.ask(purpose, holder, body, **changed)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["token"])

    async def image(self, control_token: str, **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http.get("/details-image", params={"token": control_token}, headers=named)

    async def page(self, control_token: str, **headers: str) -> httpx.Response:
        return await self.http.get(
            "/pin-direct/set", params={"token": control_token}, headers=headers
        )

    async def post(self, verb: str, **members: object) -> httpx.Response:
        return await self.http.post(f"/pin-direct/{verb}", json=members)

    async def session(self, holder: str, body: object = None) -> dict[str, Any]:
        """Open a page's session; return what the page knows then."""
        control_token = await self.control_token("set-pin", holder, body)
        answer = await self.post("session", token=control_token)
        assert answer.status_code == 200, answer.text
        return {**answer.json(), "controlToken": control_token}

    async def control_tokens(self, holder: str) -> tuple[str, str]:
        """Ask for one to see the PIN, and for one to set it."""
        return (
            await self.control_token("pin", holder),
            await self.control_token("set-pin", holder),
        )

    async def submit(self, opened: dict[str, Any], pin: str) -> httpx.Response:
        """Send a PIN as the page does."""
        return await self.post("submit", **submission(opened, page_jwe(opened, pin)))

    def controls(self, card_id: str) -> list[tuple[Any, ...]]:
        return run_sql(
            self.d1_face.url,
            "SELECT consumed_at IS NOT NULL, end_reason FROM control_tokens WHERE card_id = %s"
            " ORDER BY issued_at",
            card_id,
        )

    def age(self, card_id: str, seconds: int) -> None:
        """Let time pass for the control tokens of a card."""
        run_sql(
            self.d1_face.url,
            "UPDATE control_tokens SET issued_at = issued_at - age, expires_at = expires_at - age,"
            " session_expires_at = session_expires_at - age,"
            " session_ends_at = session_ends_at - age"
            " FROM (SELECT make_interval(secs => %s) AS age) AS a WHERE card_id = %s",
            seconds,
            card_id,
        )

    async def us_env(self, request: httpx.Request) -> httpx.Response:
        """The second deployment."""
        self.us.append(request)
        if isinstance(self.us_answer, Exception):
            raise self.us_answer
        assert self.us_answer is not None
        return self.us_answer


@asynccontextmanager
async def opened(
    d1_face: D1Face,
    *,
    us: bool = False,
    proxy_peers: frozenset[str] = frozenset(),
    vault: VaultCalls | None = None,
    store: Store | None = None,
) -> AsyncIterator[HostedFace]:
    """Serve the face over the store and vault of *d1_face*, with a rate limit of its own.

    Who may call is read from that vault also where *vault* leads to another one.
    """
    application = d1_face.application
    store, vault = store or application.store, vault or application.vault
    faces: list[HostedFace] = []

    async def us_env(request: httpx.Request) -> httpx.Response:
        return await faces[0].us_env(request)

    async with httpx.AsyncClient(transport=httpx.MockTransport(us_env)) as outward:
        manifests = ManifestCarrier(store, application.vault, "here")
        await manifests.carry()
        directory = Directory(store, application.vault)
        services, _ = cardholder_services(store, directory, manifests, CONTROL_TOKEN_KEY, vault)
        relay = Relay(US_URL, outward) if us else None
        app = hosted_app(services, PUBLIC_URL, relay, proxy_peers)
        transport = httpx.ASGITransport(RequestLog(app, "cardholder"), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url=PUBLIC_URL) as http:
            faces.append(HostedFace(d1_face, http))
            yield faces[0]


@asynccontextmanager
async def stepping_up(d1_face: D1Face, acr: str) -> AsyncIterator[HostedFace]:
    """Serve the face while the issuer wants this authentication."""

    async def want(**members: object) -> None:
        provider = identity_provider(ISSUER_ID, **members)
        await d1_face.in_vault(
            lambda vault: change_manifest(vault, ISSUER_ID, identity_provider=provider)
        )

    await want(step_up_acr=acr)
    try:
        async with opened(d1_face) as hosted_face:
            yield hosted_face
    finally:
        await want()

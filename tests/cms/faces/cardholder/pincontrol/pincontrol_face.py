"""The pincontrol face over an issuer with two servers: real vault, real database."""

import base64
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from cms.app import cardholder_services
from cms.domain.cards import CardState
from cms.faces.cardholder.pincontrol.app import pincontrol_app
from cms.logs import RequestLog
from cms.persistence.store import Store
from cms.services.directory import Directory
from cms.services.manifests import ManifestCarrier
from hsm.client import VaultCalls
from tests.cms.faces.cardholder.hosted.hosted_face import CONTROL_TOKEN_KEY
from tests.cms.faces.cardholder.hosted.jwes import page_jwe, submission
from tests.cms.faces.cardholder.pincontrol import backends
from tests.cms.faces.d1_face import PIN, D1Face
from tests.issuer_records import (
    PAN,
    SECRET,
    SampleIssuer,
    add_card,
    change_client,
    run_sql,
)

PUBLIC_URL = "https://cards.test"
AUDIT_USER = "clerk 7"
_numbers = itertools.count(1)


@dataclass(frozen=True)
class PinControlFace:
    """What an issuer's server, a page and a cardholder do."""

    d1_face: D1Face
    http: httpx.AsyncClient

    async def plastic(
        self,
        state: CardState = CardState.ACTIVE,
        pin: str | None = PIN,
        *,
        personalised: bool = False,
    ) -> tuple[str, str]:
        """Add a card; return its id and its plastic id."""
        plastic_id = str(7_000_000_000 + next(_numbers))
        card_id = await self.d1_face.add_card(state=state, pin=pin, plastic_id=plastic_id)
        if personalised:
            self.produce(card_id)
        return card_id, plastic_id

    def produce(self, card_id: str) -> None:
        self.sql("UPDATE cards SET personalised = true WHERE card_id = %s", card_id)

    def block(self, card_id: str) -> None:
        self.sql("UPDATE cards SET state = 'blocked' WHERE card_id = %s", card_id)

    def sql(self, statement: Any, *parameters: object) -> list[tuple[Any, ...]]:  # noqa: ANN401 - run_sql's
        return run_sql(self.d1_face.url, statement, *parameters)

    async def ask(
        self,
        plastic_id: str,
        scope: str = "VIEW_PIN",
        user: str = backends.USER,
        *,
        password: str = SECRET,
        query: str = "auditUser=clerk%207",
        body: bytes | None = None,
        **headers: str,
    ) -> httpx.Response:
        """Ask for a control id."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http.post(
            f"/pincontrol/v2/plastic/{plastic_id}?{query}",
            content=json.dumps({"scope": scope}).encode() if body is None else body,
            headers={**basic(user, password), **named},
        )

    async def control_id(
        self, plastic_id: str, scope: str = "VIEW_PIN", user: str = backends.USER
    ) -> str:
        answer = await self.ask(plastic_id, scope, user)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    async def control_ids(self, plastic_id: str, user: str = backends.USER) -> tuple[str, str]:
        """Ask for one to see the PIN, and for one to set it."""
        return (
            await self.control_id(plastic_id, user=user),
            await self.control_id(plastic_id, "SET_PIN", user),
        )

    async def webview(self, control_id: str, **headers: str) -> httpx.Response:
        return await self.http.post(
            "/pincontrol/pin", data={"controlId": control_id}, headers=headers
        )

    async def frame(self, key: str) -> httpx.Response:
        return await self.http.get("/pincontrol/frame", params={"key": key})

    async def post(self, verb: str, **members: object) -> httpx.Response:
        return await self.http.post(f"/pincontrol/page/{verb}", json=members)

    async def view(self, control_id: str, key: str | None = None) -> httpx.Response:
        return await self.post("view", controlId=control_id, key=key)

    async def open(self, control_id: str, key: str | None = None) -> httpx.Response:
        return await self.post("session", controlId=control_id, key=key)

    async def session(self, plastic_id: str, user: str = backends.USER) -> dict[str, Any]:
        """Open the session of a page that sets the PIN."""
        control_id = await self.control_id(plastic_id, "SET_PIN", user)
        answer = await self.open(control_id)
        assert answer.status_code == 200, answer.text
        return {**answer.json(), "controlToken": control_id}

    async def submit(self, opened: dict[str, Any], pin: str) -> httpx.Response:
        """Send a PIN as the page does."""
        return await self.post("submit", **submission(opened, page_jwe(opened, pin)))

    async def text_plastic(self, sample_issuer: SampleIssuer, pin: str) -> tuple[str, str]:
        """Add a card to the issuer that allows text, and set its PIN; return both its ids."""
        number = next(_numbers)
        card_id, plastic_id = f"text-{number}", str(9_000 + number)
        await self.d1_face.in_vault(
            lambda vault: add_card(
                *(self.d1_face.url, vault, sample_issuer, card_id, PAN), plastic_id=plastic_id
            )
        )
        opened = await self.session(plastic_id, backends.TEXT_USER)
        assert (await self.submit(opened, pin)).status_code == 204
        return card_id, plastic_id

    async def change(self, user: str, **members: object) -> None:
        """Register a server anew, with other members."""
        await self.d1_face.in_vault(
            lambda vault: change_client(vault, "testbank01", user, **members)
        )

    def controls(self, card_id: str) -> list[tuple[Any, ...]]:
        """Tell of each control id of a card whether it was consumed, and how it ended."""
        return self.sql(
            "SELECT consumed_at IS NOT NULL, end_reason FROM control_tokens WHERE card_id = %s"
            " ORDER BY issued_at",
            card_id,
        )

    def audit(self, answer: httpx.Response) -> list[tuple[Any, ...]]:
        """Return what the audit says of a request."""
        return self.sql(
            "SELECT event, card_id, actor, reason, audit_user, error_id::text FROM audit_events"
            " WHERE correlation_id = %s ORDER BY event_id",
            answer.headers["x-correlation-id"],
        )

    def age(self, card_id: str, seconds: float) -> None:
        """Let time pass for the control ids of a card."""
        self.sql(
            "UPDATE control_tokens SET issued_at = issued_at - age, expires_at = expires_at - age,"
            " session_expires_at = session_expires_at - age,"
            " session_ends_at = session_ends_at - age"
            " FROM (SELECT make_interval(secs => %s) AS age) AS a WHERE card_id = %s",
            *(seconds, card_id),
        )


def basic(user: str, password: str) -> dict[str, str]:
    credentials = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"authorization": f"Basic {credentials}"}


@asynccontextmanager
async def opened(
    d1_face: D1Face,
    *,
    vault: VaultCalls | None = None,
    store: Store | None = None,
    proxy_peers: frozenset[str] = frozenset(),
) -> AsyncIterator[PinControlFace]:
    """Serve the face over the store and vault of *d1_face*, with rate limits of its own.

    Who may call is read from that vault also where *vault* leads to another one.
    """
    application = d1_face.application
    store = store or application.store
    vault = vault or application.vault
    directory = Directory(store, application.vault)
    manifests = ManifestCarrier(store, application.vault, "here")
    _, services = cardholder_services(store, directory, manifests, CONTROL_TOKEN_KEY, vault)
    app = pincontrol_app(services, f"{PUBLIC_URL}/", proxy_peers)
    transport = httpx.ASGITransport(RequestLog(app, "cardholder"), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=PUBLIC_URL) as http:
        yield PinControlFace(d1_face, http)

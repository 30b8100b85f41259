"""Control control tokens of one issuer: a real database, no vault, no HTTP."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from secrets import token_bytes
from typing import LiteralString

from cms.domain.control import Grant
from cms.domain.records import Actor, CardToChange
from cms.persistence import admin
from cms.persistence.connection import Row
from cms.persistence.control_store import ControlStore
from cms.persistence.statements import Statement
from cms.persistence.statements.directory import READ_ISSUER_IDS
from cms.persistence.store import Store
from cms.persistence.tables import metadata
from cms.services.cardholder.control_tokens import new_session
from crypto import control_tokens
from crypto.secret import Secret
from hsm.port import CardRef, Face, PinBlockType, Purpose, SealedChange, SealedGrant, SealedPin
from tests.cms.persistence.opened_store import opened_store
from tests.issuer_records import run_sql
from tests.stored_cards import store_card

ISSUER_ID = "testbank01"
APP = "testbank01-app"
OTHER_APP = "testbank01-other"
CARD = CardRef(ISSUER_ID, "card-1")
OTHER_CARD = CardRef(ISSUER_ID, "card-2")
ACTOR = Actor(APP, "call-1")
KEY = Secret(b"k" * 32)
SEALED = SealedPin(b"sealed PIN")
CHANGE = SealedChange(SEALED, {}, "receipt")
STYLE: Mapping[str, object] = {"backgroundColor": "#EFEFEF", "pinBorderRadius": 4}
REDIRECT = "https://app.example/done?from=pin"


class Counting(Store):
    """A store that counts what it sends to the database, but for who the issuers are."""

    statements = 0

    async def run(self, statement: Statement, **parameters: object) -> list[Row]:
        self.statements += statement is not READ_ISSUER_IDS
        return await super().run(statement, **parameters)


@dataclass(frozen=True)
class IssuedToken:
    """A control token, and when the store says that it expires."""

    control_token: str
    expires_at: datetime


@dataclass(frozen=True)
class OpenSession:
    """A page session, and what the store says of it."""

    session: str
    expires_in_seconds: int
    grant: Grant


@dataclass(frozen=True)
class StoredTokens:
    """Two cards, two apps, and what is stored of their control tokens."""

    url: str
    store: Counting
    control_store: ControlStore

    async def issue(self, grant: Grant, actor: Actor, counter: int | None = None) -> IssuedToken:
        """Issue a control token that was granted at *counter*; None: at the card's now."""
        control_token = new_control_token(grant.issuer_id)
        granted_at = self.counter(grant.card_id) if counter is None else counter
        return IssuedToken(
            control_token, await self.control_store.issue(control_token, grant, granted_at, actor)
        )

    def counter(self, card_id: str) -> int:
        counters = run_sql(self.url, "SELECT counter FROM cards WHERE card_id = %s", card_id)
        return int(counters[0][0]) if counters else 0

    async def open(self, control_token: str, purpose: Purpose, face: Face) -> OpenSession:
        session = new_session(control_token)
        seconds, _, opened = await self.control_store.open(control_token, session, purpose, face)
        return OpenSession(session, seconds, opened)

    async def control_token(
        self,
        purpose: Purpose = Purpose.VIEW,
        face: Face = Face.HOSTED,
        card: CardRef = CARD,
        client_id: str = APP,
    ) -> str:
        """Issue a control token."""
        issued = await self.issue(grant(purpose, face, card, client_id), ACTOR)
        return issued.control_token

    async def session(self, face: Face = Face.HOSTED, card: CardRef = CARD) -> OpenSession:
        """Open a page for setting a PIN."""
        control_token = await self.control_token(Purpose.SET, face, card)
        return await self.open(control_token, Purpose.SET, face)

    async def is_live(self, control_token: str) -> bool:
        return await self.control_store.read_live(control_token) is not None

    async def read(self, card: CardRef = CARD) -> CardToChange:
        found = await self.store.read_for_set(card, None)
        assert found is not None
        return found

    async def finish(self, session: str, key: bytes = b"a request", card: CardRef = CARD) -> bool:
        """Store a PIN from the page."""
        found = await self.read(card)
        return await self.control_store.change_pin(card, found, CHANGE, key, session, ACTOR)

    async def change_by_d1(self, key: bytes = b"a request of D1", card: CardRef = CARD) -> None:
        """Change the PIN as a PUT of D1 does."""
        found = await self.read(card)
        assert await self.store.change_pin(
            card, found, CHANGE, PinBlockType.ISO0, key, Actor(ISSUER_ID, "call-2")
        )

    def age(self, seconds: int) -> None:
        """Let time pass for all control tokens and sessions."""
        age = timedelta(seconds=seconds)
        rows = self.rows(
            "SELECT issued_at, expires_at, session_expires_at, session_ends_at, token_hash"
            " FROM control_tokens"
        )
        for *moments, token_hash in rows:
            run_sql(
                self.url,
                "UPDATE control_tokens SET issued_at = %s, expires_at = %s,"
                " session_expires_at = %s, session_ends_at = %s WHERE token_hash = %s",
                *(None if moment is None else moment - age for moment in moments),
                token_hash,
            )

    def audit(self, event: str) -> list[Row]:
        """What is recorded of *event*: card, actor, correlation id, counter, reason."""
        return run_sql(
            self.url,
            "SELECT card_id, actor, correlation_id, counter, reason FROM audit_events"
            " WHERE event = %s ORDER BY event_id",
            event,
        )

    def ends(self) -> list[Row]:
        """How each control token ended, the oldest first."""
        return run_sql(self.url, "SELECT end_reason FROM control_tokens ORDER BY issued_at")

    def rows(self, query: LiteralString) -> list[Row]:
        return run_sql(self.url, query)

    def dump(self) -> str:
        """Write down every row of the database."""
        return "\n".join(
            f"{table}: {row}"
            for table in metadata.tables
            for row in sorted(map(str, run_sql(self.url, f"SELECT * FROM {table}")))
        )


def new_control_token(issuer_id: str = ISSUER_ID) -> str:
    """Make a control token as the vault does."""
    return control_tokens.make(issuer_id, token_bytes(control_tokens.RANDOM_BYTES))


def grant(
    purpose: Purpose = Purpose.VIEW,
    face: Face = Face.HOSTED,
    card: CardRef = CARD,
    client_id: str = APP,
) -> Grant:
    return Grant(
        *(card.issuer_id, card.card_id, client_id, face, purpose),
        *("grant-1", SealedGrant(b"sealed grant"), STYLE, REDIRECT),
        embedded=False,
    )


def add_card(
    url: str,
    card: CardRef,
    cardholder_id: str | None = None,
    state: str = "active",
    card_type: str = "PHYSICAL",
) -> None:
    with admin.transaction(url) as database:
        store_card(database, card, cardholder_id=cardholder_id, card_type=card_type, state=state)


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[StoredTokens]:
    with admin.transaction(url) as database:
        admin.add_issuer(database, ISSUER_ID, "An issuer")
    for card in (CARD, OTHER_CARD):
        add_card(url, card)
    async with opened_store(Counting.connect(url)) as store:
        yield StoredTokens(url, store, ControlStore(store, KEY))

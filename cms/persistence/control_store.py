"""Control tokens and page sessions in the database: each call is one statement, one commit."""

from datetime import datetime

from psycopg.errors import UniqueViolation
from psycopg.types.json import Jsonb

from cms.domain.cards import CardState
from cms.domain.control import (
    CardOfHolder,
    CardType,
    EndReason,
    Face,
    Grant,
    Plastic,
    Purpose,
)
from cms.domain.records import Actor, CardToChange, CardToRead, ConsumedToken
from cms.persistence.statements import cardholder, control_token, directory, page_session
from cms.persistence.store import Row, Store
from cms.persistence.tables import sealed_columns
from hsm.port import CardRef, PinBlockType, SealedChange


class ControlStore:
    """The same pool as *store*.

    Every method raises ``ServiceUnavailable`` when the database is unavailable.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def issue(self, token_hash: bytes, grant: Grant, actor: Actor) -> datetime | None:
        """Store a token and tell when it expires; None where there is no such card."""
        row = await self._store.one(
            control_token.ISSUE_CONTROL_TOKEN,
            token_hash=token_hash,
            issuer_id=grant.issuer_id,
            card_id=grant.card_id,
            client_id=grant.client_id,
            face=grant.face.value,
            purpose=grant.purpose.value,
            style=Jsonb(dict(grant.style)),
            redirect_url=grant.redirect_url,
            embedded=grant.embedded,
            audit_user=grant.audit_user,
            actor=actor.client_id,
            correlation_id=actor.correlation_id,
        )
        return None if row is None else row[0]

    async def peek(self, token_hash: bytes) -> Grant | None:
        """Read a live token."""
        row = await self._store.one(control_token.READ_LIVE_CONTROL_TOKEN, token_hash=token_hash)
        return None if row is None else _grant(row)

    async def known(self, token_hash: bytes) -> Grant | None:
        """Read a token that was issued, whatever became of it."""
        row = await self._store.one(control_token.READ_ISSUED_CONTROL_TOKEN, token_hash=token_hash)
        return None if row is None else _grant(row)

    async def is_origin(self, origin: str) -> bool:
        """Tell whether an app in service registered this origin."""
        return await self._store.one(directory.IS_ORIGIN, origin=origin) == (True,)

    async def consume(
        self,
        token_hash: bytes,
        purpose: Purpose,
        face: Face,
        actor: Actor,
        session_hash: bytes | None = None,
    ) -> ConsumedToken | None:
        """Consume a live token and read its card; a PIN that may be handed out is audited.

        With *session_hash* a session begins.
        """
        row = await self._store.one(
            control_token.CONSUME_CONTROL_TOKEN,
            token_hash=token_hash,
            session_hash=session_hash,
            purpose=purpose.value,
            face=face.value,
            actor=actor.client_id,
            correlation_id=actor.correlation_id,
        )
        return None if row is None else _consumed(row)

    async def end_with_text(
        self, session_hash: bytes, face: Face, actor: Actor
    ) -> ConsumedToken | None:
        """End a live session for seeing a PIN and read its card; audited as :meth:`consume`."""
        row = await self._store.one(
            page_session.END_SESSION_WITH_TEXT,
            session_hash=session_hash,
            face=face.value,
            actor=actor.client_id,
            correlation_id=actor.correlation_id,
        )
        return None if row is None else _consumed(row)

    async def plastic(self, issuer_id: str, plastic_id: str) -> Plastic | None:
        """Read a card by its plastic id."""
        row = await self._store.one(
            cardholder.READ_PLASTIC, issuer_id=issuer_id, plastic_id=plastic_id
        )
        if row is None:
            return None
        issuer_id, card_id, state, personalised, pin_type = row
        return Plastic(issuer_id, card_id, CardState(state), personalised, pin_type)

    async def open(
        self, token_hash: bytes, session_hash: bytes, purpose: Purpose, face: Face
    ) -> tuple[int, Grant] | None:
        """Consume a live token for a session; tell how many seconds it has."""
        row = await self._store.one(
            control_token.OPEN_CONTROL_TOKEN,
            token_hash=token_hash,
            session_hash=session_hash,
            purpose=purpose.value,
            face=face.value,
        )
        return None if row is None else (row[0], _grant(row[1:]))

    async def session(self, session_hash: bytes, purpose: Purpose) -> Grant | None:
        """Read a live session."""
        row = await self._store.one(
            page_session.READ_SESSION, session_hash=session_hash, purpose=purpose.value
        )
        return None if row is None else _grant(row)

    async def extend(self, session_hash: bytes) -> int | None:
        """Give a live session its full time again; tell how many seconds it has."""
        row = await self._store.one(page_session.EXTEND_SESSION, session_hash=session_hash)
        return None if row is None else row[0]

    async def count_try(self, session_hash: bytes) -> int | None:
        """Count a PIN that the policy refused; tell how many tries a live session has left."""
        row = await self._store.one(page_session.COUNT_SESSION_TRY, session_hash=session_hash)
        return None if row is None else row[0]

    async def end(self, session_hash: bytes, reason: EndReason) -> None:
        """End a session; one that is over stays as it is."""
        await self._store.run(
            page_session.END_SESSION, session_hash=session_hash, end_reason=reason.value
        )

    async def change_pin(
        self,
        card: CardRef,
        read: CardToChange,
        change: SealedChange,
        request_key: bytes,
        session_hash: bytes,
        actor: Actor,
    ) -> bool:
        """Store the PIN, move the counter, write history and audit and end the session.

        Returns:
            False, and nothing is changed, when the card is no longer as *read*, the session is not
            live, or the request was accepted before.
        """
        try:
            row = await self._store.one(
                page_session.CHANGE_PIN_IN_SESSION,
                issuer_id=card.issuer_id,
                card_id=card.card_id,
                counter_read=read.counter,
                state_read=read.state.value,
                # As D1's clear PINs: sealed, and fit to be handed out.
                pin_type=PinBlockType.ISO0.value,
                request_key=request_key,
                session_hash=session_hash,
                actor=actor.client_id,
                correlation_id=actor.correlation_id,
                **sealed_columns(change),
            )
        except UniqueViolation:
            return False
        return row is not None

    async def card_of(self, issuer_id: str, cardholder_id: str) -> CardOfHolder | None:
        """Choose a cardholder's card: an active one, else one that is not closed; the newest."""
        row = await self._store.one(
            cardholder.READ_CARD_OF_HOLDER, issuer_id=issuer_id, cardholder_id=cardholder_id
        )
        if row is None:
            return None
        issuer_id, card_id, state, last_four, expiry, card_type, *rest = row
        return CardOfHolder(
            *(issuer_id, card_id, CardState(state), last_four, expiry, CardType(card_type)), *rest
        )


def _consumed(row: Row) -> ConsumedToken:
    *grant, state, pin_type, counter, newest, sealed_pan, sealed_pin = row
    read = CardToRead(
        CardState(state),
        None if pin_type is None else PinBlockType(pin_type),
        *(counter, newest, sealed_pan, sealed_pin),
    )
    return ConsumedToken(_grant(tuple(grant)), read)


def _grant(row: Row) -> Grant:
    """Build a grant from columns in its fields' order."""
    issuer_id, card_id, client_id, face, purpose, *rest = row
    return Grant(issuer_id, card_id, client_id, Face(face), Purpose(purpose), *rest)

"""Control tokens and page sessions in the database: each call is one statement, one commit.

Both are bearer secrets. The database holds only a keyed hash of each, so that neither somebody who
reads it nor somebody who writes it, but has not the key, can use or make one.

Both begin as control tokens of their issuer do (:mod:`crypto.control_tokens`). They are looked for
at each issuer whose do so: nearly always at one.
"""

import secrets
from datetime import datetime
from typing import Final

from psycopg.errors import UniqueViolation

from cms import metrics
from cms.domain.cards import CardState, CardType
from cms.domain.control import (
    SESSION_SECONDS,
    CardOfHolder,
    EndReason,
    Grant,
    Plastic,
    canonical,
)
from cms.domain.errors import CardNotFound, ControlEnded
from cms.domain.records import Actor, CardToChange, CardToRead, ConsumedToken
from cms.metrics import ControlToken
from cms.persistence.connection import Row
from cms.persistence.issuer_prefixes import IssuerPrefixes
from cms.persistence.statements import Statement
from cms.persistence.statements.cardholder import READ_CARD_OF_HOLDER, READ_PLASTIC
from cms.persistence.statements.control_token import (
    CONSUME_CONTROL_TOKEN,
    CONSUME_FOR_SESSION,
    ISSUE_CONTROL_TOKEN,
    ISSUED,
    OPEN_CONTROL_TOKEN,
    READ_ISSUED_CONTROL_TOKEN,
    READ_LIVE_CONTROL_TOKEN,
)
from cms.persistence.statements.page_session import (
    CHANGE_PIN_IN_SESSION,
    COUNT_SESSION_TRY,
    END_SESSION,
    END_SESSION_WITH_TEXT,
    EXTEND_SESSION,
    READ_OVERTAKEN_SESSION,
    READ_SESSION,
)
from cms.persistence.statements.pin_operations import (
    CHANGE_PIN_FROM_DEVICE,
    CHANGE_PIN_FROM_SERVER,
    END_CONTROL_TOKEN,
    KEEP_TZPK,
    KEY_MADE,
    READ_TZPK,
)
from cms.persistence.store import (
    Store,
    asked_by,
    audited_change,
    card_key,
    require_next_counter,
)
from cms.persistence.tables import sealed_columns
from crypto.keyed_hash import keyed_hash
from crypto.secret import Secret
from hsm.port import (
    LIFE_SECONDS,
    CardRef,
    Face,
    PinBlockType,
    Purpose,
    SealedChange,
    SealedTzpk,
)

REQUEST_KEY_BYTES: Final = 32


class ControlStore:
    """The same pool as *store*; *key*, of at least 32 bytes, hashes control tokens and sessions.

    Every method raises ``ServiceUnavailable`` when the database is unavailable.
    """

    def __init__(self, store: Store, key: Secret[bytes]) -> None:
        self._store = store
        self._prefixes = IssuerPrefixes(store)
        self._key = key
        self._hash("", "")  # a key that is too short is found at start

    async def issue(self, control_token: str, grant: Grant, counter: int, actor: Actor) -> datetime:
        """Store a control token and tell when it expires, by the database's clock.

        Of those that are live for the same card, purpose and client, 3 stay.

        Args:
            control_token: as the vault made it.
            grant: what it is good for.
            counter: the card's when the vault granted that; if it has moved since, the control
                token is not live.
            actor: for the audit.

        Raises:
            CardNotFound: the issuer has no such card.
        """
        row = await self._store.one(
            ISSUE_CONTROL_TOKEN,
            token_hash=self._token_hash(control_token),
            issuer_id=grant.issuer_id,
            card_id=grant.card_id,
            counter=counter,
            client_id=grant.client_id,
            face=grant.face.value,
            purpose=grant.purpose.value,
            grant_id=grant.grant_id,
            sealed_grant=grant.sealed_grant,
            style=dict(grant.style),
            redirect_url=grant.redirect_url,
            embedded=grant.embedded,
            audit_user=grant.audit_user,
            life_seconds=LIFE_SECONDS[grant.face],
            **asked_by(actor),
        )
        expires_at: datetime = _card(row)[0]
        metrics.control_token(ControlToken.ISSUED)
        metrics.audited(ISSUED)
        return expires_at

    async def read_live(self, control_token: str) -> Grant | None:
        """Read what a live control token is good for, and change nothing."""
        row = await self._of_token(READ_LIVE_CONTROL_TOKEN, control_token)
        return None if row is None else _grant(row)

    async def read_issued(self, control_token: str) -> Grant | None:
        """Read what a control token was issued for, whatever became of it.

        Its row is deleted a day after it expired, at the earliest.
        """
        row = await self._of_token(READ_ISSUED_CONTROL_TOKEN, control_token)
        return None if row is None else _grant(row)

    async def consume(
        self,
        control_token: str,
        purpose: Purpose,
        face: Face,
        session: str | None = None,
    ) -> ConsumedToken:
        """Consume a control token for an image, and read its card, whose state is not judged.

        With *session* a page session begins that is good for the PIN as text.

        Raises:
            ControlEnded: it is not a live control token for this.
        """
        statement = CONSUME_CONTROL_TOKEN if session is None else CONSUME_FOR_SESSION
        began = {} if session is None else self._began(session, face)
        row = await self._of_token(
            statement, control_token, purpose=purpose.value, face=face.value, **began
        )
        return _consumed(_consuming(row))

    async def end_with_text(self, session: str, face: Face) -> ConsumedToken:
        """End the session that :meth:`consume` began, and read its card.

        Raises:
            ControlEnded: it is not a live session for this.
        """
        row = await self._of_session(END_SESSION_WITH_TEXT, session, face=face.value)
        return _consumed(_live(row))

    async def open(
        self, control_token: str, session: str, purpose: Purpose, face: Face
    ) -> tuple[int, str, Grant]:
        """Consume a control token for a page session.

        Returns:
            The seconds that it has, the last four digits of the card's number, and the grant.

        Raises:
            ControlEnded: it is not a live control token for this.
        """
        row = await self._of_token(
            OPEN_CONTROL_TOKEN,
            control_token,
            purpose=purpose.value,
            face=face.value,
            **self._began(session, face),
        )
        seconds, last_four, *grant = _consuming(row)
        return seconds, last_four, _grant(tuple(grant))

    async def read_session(self, session: str, purpose: Purpose) -> Grant:
        """Read what a live session is good for.

        Raises:
            ControlEnded: it is not a live session for this; or it would be, but that the card's
                PIN was changed elsewhere.
        """
        row = await self._of_session(READ_SESSION, session, purpose=purpose.value)
        if row is None:
            changed = await self._of_session(READ_OVERTAKEN_SESSION, session)
            raise ControlEnded(changed_elsewhere=changed is not None)
        return _grant(row)

    async def extend(self, session: str, face: Face) -> int:
        """Give a session of *face* its full time again, at most 1,200 s from its opening.

        Returns:
            The seconds that it has left.

        Raises:
            ControlEnded: it is not a live session.
        """
        row = await self._of_session(EXTEND_SESSION, session, session_seconds=SESSION_SECONDS[face])
        seconds: int = _live(row)[0]
        return seconds

    async def count_try(self, session: str) -> int:
        """Count a PIN that the policy refused.

        Returns:
            The tries that are left; with none left the session is over.

        Raises:
            ControlEnded: it is not a live session.
        """
        left: int = _live(await self._of_session(COUNT_SESSION_TRY, session))[0]
        if left == 0:
            await self.end(session, EndReason.TRIES)
        return left

    async def end(self, session: str, reason: EndReason) -> None:
        """End a session; one that is over stays as it is."""
        await self._of_session(END_SESSION, session, end_reason=reason.value)

    async def change_pin(
        self,
        card: CardRef,
        read: CardToChange,
        change: SealedChange,
        request_key: bytes,
        session: str,
        actor: Actor,
    ) -> bool:
        """Store the PIN that was set on a page, and end the session, in one statement.

        Args:
            card: the card of the session's grant.
            read: that card, as it was when the vault sealed for the counter after it.
            change: what the vault made.
            request_key: SHA-256 over the JWE's decoded parts.
            session: a live session for setting a PIN.
            actor: for the audit.

        Returns:
            False, and nothing is changed, when the card is no longer as *read*, the session is not
            live, or the JWE was accepted before.

        Raises:
            StoredValueBroken: the history of the card has its next counter already.
        """
        try:
            row = await self._store.one(
                CHANGE_PIN_IN_SESSION,
                **card_key(card),
                counter_read=read.counter,
                state_read=read.state.value,
                sealed_record_read=read.sealed_record,
                # As D1's clear PINs: sealed, and fit to be handed out.
                pin_type=PinBlockType.ISO0.value,
                request_key=request_key,
                session_hash=self._session_hash(session),
                receipt=change.receipt,
                script_due=change.script_due,
                **asked_by(actor),
                **sealed_columns(change),
            )
        except UniqueViolation as error:
            require_next_counter(error)
            return False
        return audited_change(row)

    async def keep_tzpk(self, control_token: str, sealed_tzpk: SealedTzpk, actor: Actor) -> None:
        """Keep the key of a device beside a live control token, in place of one before it.

        Raises:
            ControlEnded: it is not a live control token to set a PIN.
        """
        row = await self._of_token(
            KEEP_TZPK,
            control_token,
            sealed_tzpk=sealed_tzpk,
            audit_user=actor.audit_user,
            **asked_by(actor),
        )
        _live(row)
        metrics.audited(KEY_MADE)

    async def read_tzpk(self, control_token: str) -> SealedTzpk:
        """Read the key of a device.

        Raises:
            ControlEnded: it is not a live control token to set a PIN, or no device has a key.
        """
        row = await self._of_token(READ_TZPK, control_token)
        sealed_tzpk: SealedTzpk = _live(row)[0]
        return sealed_tzpk

    async def change_pin_from_device(
        self,
        card: CardRef,
        read: CardToChange,
        change: SealedChange,
        control_token: str,
        actor: Actor,
    ) -> bool:
        """Store the PIN that a device sent, and consume its control token, in one statement.

        Args:
            card: the card of the control token's grant.
            read: that card, as it was when the vault sealed for the counter after it.
            change: what the vault made.
            control_token: a live one to set a PIN.
            actor: for the audit.

        Returns:
            False, and nothing is changed, when the card is no longer as *read*, or the control
            token is not live.

        Raises:
            StoredValueBroken: the history of the card has its next counter already.
        """
        token_hash = self._token_hash(control_token)
        return await self._change_from_block(
            *(CHANGE_PIN_FROM_DEVICE, card, read, change, actor), token_hash=token_hash
        )

    async def change_pin_from_server(
        self, card: CardRef, read: CardToChange, change: SealedChange, actor: Actor
    ) -> bool:
        """Store the PIN that an issuer's own server sent; as :meth:`change_pin_from_device`."""
        return await self._change_from_block(CHANGE_PIN_FROM_SERVER, card, read, change, actor)

    async def end_token(self, control_token: str) -> None:
        """End a control token whose PIN could not be used; one that is over stays as it is."""
        await self._of_token(END_CONTROL_TOKEN, control_token)

    async def _change_from_block(
        self,
        statement: Statement,
        card: CardRef,
        read: CardToChange,
        change: SealedChange,
        actor: Actor,
        **parameters: object,
    ) -> bool:
        try:
            row = await self._store.one(
                statement,
                **card_key(card),
                counter_read=read.counter,
                state_read=read.state.value,
                sealed_record_read=read.sealed_record,
                # As D1's clear PINs: sealed, and fit to be handed out.
                pin_type=PinBlockType.ISO0.value,
                # A block may well be the same as one before, and is meant again.
                request_key=secrets.token_bytes(REQUEST_KEY_BYTES),
                receipt=change.receipt,
                script_due=change.script_due,
                audit_user=actor.audit_user,
                **asked_by(actor),
                **sealed_columns(change),
                **parameters,
            )
        except UniqueViolation as error:
            require_next_counter(error)
            return False
        return audited_change(row)

    async def plastic(self, issuer_id: str, plastic_id: str) -> Plastic:
        """Find a card by its plastic id.

        Raises:
            CardNotFound: there is none.
        """
        row = await self._store.one(READ_PLASTIC, issuer_id=issuer_id, plastic_id=plastic_id)
        issuer_id, card_id, state, *rest = _card(row)
        return Plastic(issuer_id, card_id, CardState(state), *rest)

    async def card_of(self, issuer_id: str, cardholder_id: str) -> CardOfHolder:
        """Choose a cardholder's card: an active one, else one that is not closed; the newest.

        Raises:
            CardNotFound: there is none.
        """
        row = await self._store.one(
            READ_CARD_OF_HOLDER, issuer_id=issuer_id, cardholder_id=cardholder_id
        )
        issuer_id, card_id, state, last_four, expiry, card_type, *rest = _card(row)
        return CardOfHolder(
            *(issuer_id, card_id, CardState(state), last_four, expiry, CardType(card_type)), *rest
        )

    async def _of_token(
        self, statement: Statement, control_token: str, **parameters: object
    ) -> Row | None:
        token_hash = self._token_hash(control_token)
        return await self._found(
            statement, canonical(control_token), token_hash=token_hash, **parameters
        )

    async def _of_session(
        self, statement: Statement, session: str, **parameters: object
    ) -> Row | None:
        session_hash = self._session_hash(session)
        return await self._found(statement, session, session_hash=session_hash, **parameters)

    async def _found(self, statement: Statement, secret: str, **parameters: object) -> Row | None:
        """Run a statement for each issuer of which *secret* may be, until one returns a row."""
        for issuer_id in await self._prefixes.issuers_of(secret):
            row = await self._store.one(statement, issuer_id=issuer_id, **parameters)
            if row is not None:
                return row
        return None

    def _began(self, session: str, face: Face) -> dict[str, object]:
        """Name the parameters that begin a session."""
        return {
            "session_hash": self._session_hash(session),
            "session_seconds": SESSION_SECONDS[face],
        }

    def _token_hash(self, control_token: str) -> bytes:
        return self._hash("token", canonical(control_token))

    def _session_hash(self, session: str) -> bytes:
        return self._hash("session", session)

    def _hash(self, kind: str, text: str) -> bytes:
        return keyed_hash(self._key, kind.encode(), text.encode(errors="surrogatepass"))


def _live(row: Row | None) -> Row:
    if row is None:
        raise ControlEnded
    return row


def _consuming(row: Row | None) -> Row:
    """Count what became of the control token.

    Raises:
        ControlEnded: it is not live.
    """
    metrics.control_token(ControlToken.CONSUMED if row is not None else ControlToken.REFUSED)
    return _live(row)


def _card(row: Row | None) -> Row:
    if row is None:
        raise CardNotFound
    return row


def _consumed(row: Row) -> ConsumedToken:
    *grant, state, pin_type, counter, newest, sealed_record, sealed_pin, last_four = row
    read = CardToRead(
        CardState(state),
        None if pin_type is None else PinBlockType(pin_type),
        *(counter, newest, sealed_record, sealed_pin),
    )
    return ConsumedToken(_grant(tuple(grant)), read, last_four)


def _grant(row: Row) -> Grant:
    """Build a grant from columns in its fields' order."""
    issuer_id, card_id, client_id, face, purpose, *rest = row
    return Grant(issuer_id, card_id, client_id, Face(face), Purpose(purpose), *rest)

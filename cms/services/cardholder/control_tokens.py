"""Control tokens and page sessions: issue, open or consume, finish.

Token and session are bearer secrets. The database holds only a keyed hash of each, so that neither
somebody who reads it nor somebody who writes it, but has not the key, can use or make one.
"""

import hashlib
import secrets
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, TypeVar
from uuid import uuid4

from cms.domain.control import CardOfHolder, EndReason, Face, Grant, Plastic, Purpose
from cms.domain.errors import CardNotFound, ControlEnded
from cms.domain.records import Actor, CardToChange, ConsumedToken
from cms.persistence.control_store import ControlStore
from crypto.jose import base64url
from crypto.keyed_hash import keyed_hash
from crypto.secret import Secret
from hsm.port import CardRef, SealedChange

SESSION_BYTES: Final = 32
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class IssuedControl:
    """A new control token, a UUID in its usual form; *expires_at* by the database's clock."""

    token: str = field(repr=False)
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class OpenSession:
    """A page session that has just begun."""

    session: str = field(repr=False)
    """256 random bits as base64url."""
    sid: str
    """What the vault is told of it: SHA-256 over the text of *session*, as base64url."""
    expires_in_seconds: int
    grant: Grant


class ControlTokens:
    """The use cases of control tokens over one store; *key* has at least 32 bytes."""

    def __init__(self, store: ControlStore, key: Secret[bytes]) -> None:
        self._store = store
        self._key = key
        self._hash("", "")  # a key that is too short is found at start

    async def issue(self, grant: Grant, actor: Actor) -> IssuedControl:
        """Issue a token; of those that are live for the same card, purpose and client, 3 stay.

        Raises:
            CardNotFound, ServiceUnavailable: as their names say.
        """
        token = str(uuid4())
        expires_at = await self._store.issue(self._token(token), grant, actor)
        if expires_at is None:
            raise CardNotFound
        return IssuedControl(token, expires_at)

    async def peek(self, token: str) -> Grant | None:
        """Read what a live token is good for, and change nothing."""
        return await self._store.peek(self._token(token))

    async def known(self, token: str) -> Grant | None:
        """Read what a token was issued for, whatever became of it; its row is kept for a day."""
        return await self._store.known(self._token(token))

    async def consume(
        self, token: str, purpose: Purpose, face: Face, actor: Actor, session: str | None = None
    ) -> ConsumedToken:
        """Consume a token for an image.

        A PIN that may be shown is audited; the state of its card is not judged.
        With *session*, of :func:`new_session`, a session begins that is good for its text.

        Raises:
            ControlEnded: it is not a live token for this.
            ServiceUnavailable: the database is unavailable.
        """
        session_hash = None if session is None else self._session(session)
        return _live(
            await self._store.consume(self._token(token), purpose, face, actor, session_hash)
        )

    async def end_with_text(self, session: str, face: Face, actor: Actor) -> ConsumedToken:
        """Consume the session that :meth:`consume` began, for the PIN as text; audit it likewise.

        Raises:
            ControlEnded: it is not a live session for this.
            ServiceUnavailable: the database is unavailable.
        """
        return _live(await self._store.end_with_text(self._session(session), face, actor))

    async def open(self, token: str, purpose: Purpose, face: Face) -> OpenSession:
        """Consume a token for a page session.

        Raises:
            ControlEnded: it is not a live token for this.
            ServiceUnavailable: the database is unavailable.
        """
        session = new_session()
        seconds, grant = _live(
            await self._store.open(self._token(token), self._session(session), purpose, face)
        )
        return OpenSession(session, sid(session), seconds, grant)

    async def session(self, session: str, purpose: Purpose) -> Grant:
        """Read what a live session is good for.

        Raises:
            ControlEnded: it is not a live session for this.
            ServiceUnavailable: the database is unavailable.
        """
        return _live(await self._store.session(self._session(session), purpose))

    async def extend(self, session: str) -> int:
        """Give a session its full time again, at most 1,200 s from its opening.

        Returns:
            The seconds that it has left.

        Raises:
            ControlEnded: it is not a live session.
            ServiceUnavailable: the database is unavailable.
        """
        return _live(await self._store.extend(self._session(session)))

    async def count_try(self, session: str) -> int:
        """Count a PIN that the policy refused.

        Returns:
            The tries that are left; with none left the session is over.

        Raises:
            ControlEnded: it is not a live session.
            ServiceUnavailable: the database is unavailable.
        """
        return _live(await self._store.count_try(self._session(session)))

    async def end(self, session: str, reason: EndReason) -> None:
        """End a session; one that is over stays as it is."""
        await self._store.end(self._session(session), reason)

    async def finish(
        self,
        session: str,
        card: CardRef,
        read: CardToChange,
        change: SealedChange,
        request_key: bytes,
        actor: Actor,
    ) -> bool:
        """Store the PIN that was set on a page, and end the session, in one statement.

        Args:
            session: a live session for setting a PIN.
            card: the card of its grant.
            read: that card, as it was when the vault sealed for the counter after it.
            change: what the vault made.
            request_key: SHA-256 over the JWE's decoded parts.
            actor: for the audit.

        Returns:
            False, and nothing is changed, when the card is no longer as *read*, the session is not
            live, or the JWE was accepted before.
        """
        return await self._store.change_pin(
            card, read, change, request_key, self._session(session), actor
        )

    async def plastic(self, issuer_id: str, plastic_id: str) -> Plastic:
        """Find a card by its plastic id.

        Raises:
            CardNotFound: there is none.
            ServiceUnavailable: the database is unavailable.
        """
        found = await self._store.plastic(issuer_id, plastic_id)
        if found is None:
            raise CardNotFound
        return found

    async def card_of(self, issuer_id: str, cardholder_id: str) -> CardOfHolder:
        """Choose a cardholder's card: an active one, else one that is not closed; the newest.

        Raises:
            CardNotFound: there is none.
            ServiceUnavailable: the database is unavailable.
        """
        card = await self._store.card_of(issuer_id, cardholder_id)
        if card is None:
            raise CardNotFound
        return card

    def _token(self, token: str) -> bytes:
        # Some apps write a UUID in capitals, as their platform does.
        return self._hash("token", token.strip().lower())

    def _session(self, session: str) -> bytes:
        return self._hash("session", session)

    def _hash(self, kind: str, text: str) -> bytes:
        return keyed_hash(self._key, kind.encode(), text.encode(errors="surrogatepass"))


def new_session() -> str:
    """Make the secret of a session: 256 random bits as base64url."""
    return secrets.token_urlsafe(SESSION_BYTES)


def sid(session: str) -> str:
    """Name a session to the vault."""
    return base64url.encode(hashlib.sha256(session.encode(errors="surrogatepass")).digest())


def _live(found: T | None) -> T:
    if found is None:
        raise ControlEnded
    return found

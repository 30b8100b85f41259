"""A PIN that is set on our own page: open a session, take the PIN, end it.

A policy's refusal leaves the session open for a few tries; whatever else comes of a PIN ends it.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from cms import metrics
from cms.domain.cards import Verb
from cms.domain.control import EndReason, Grant, canonical, require_cardholder_may
from cms.domain.errors import (
    CardForbids,
    ControlEnded,
    DomainError,
    PinForbidden,
    PinRefused,
    ServiceUnavailable,
    StoredValueBroken,
)
from cms.domain.limits import CHANGE_TRIES_MAX
from cms.domain.records import Actor
from cms.persistence.control_store import ControlStore
from cms.persistence.store import Store
from cms.services.audit import Audit, Reason
from cms.services.cardholder.apps import AnyApp, Apps, Servers
from cms.services.cardholder.control_tokens import new_session
from cms.services.vault import called
from crypto.errors import JoseError
from crypto.jose import jwe as jose
from hsm.client import VaultCalls
from hsm.manifest.policy import PolicyBody
from hsm.messages import PublicJwks, SetPinFromPage
from hsm.port import CardRef, Face, PublicKeyRole, Purpose


@dataclass(frozen=True, slots=True)
class Opening:
    """What the script of a page gets to know."""

    session: str = field(repr=False)
    grant_id: str
    """What it encrypts with the PIN, so that the vault takes the PIN for this session only."""
    expires_in_seconds: int
    last_four: str
    """Of the card's number."""
    policy: PolicyBody
    key: Mapping[str, str]
    """The public key, a JWK, to which it encrypts the PIN."""


class SetPage:
    """The set page of one face."""

    def __init__(
        self,
        face: Face,
        control_store: ControlStore,
        store: Store,
        clients: Apps | Servers,
        vault: VaultCalls,
        audit: Audit,
    ) -> None:
        self._face = face
        self._control_store = control_store
        self._store = store
        self._clients = clients
        self._vault = vault
        self._audit = audit

    async def open(self, control_token: str, app: AnyApp) -> Opening:
        """Consume a control token of *app* for a page session.

        That comes last, when all else that the page needs was found.

        Raises:
            ControlEnded: it is not a live control token for this page.
            ServiceUnavailable: database or vault are unavailable; the control token is not
                consumed.
        """
        keys = await called(self._vault, PublicJwks(PublicKeyRole.PAGE))
        session = new_session(control_token)
        seconds, last_four, grant = await self._control_store.open(
            control_token, session, Purpose.SET, self._face
        )
        policy, key = app.manifest.policy, keys["keys"][0]
        return Opening(session, grant.grant_id, seconds, last_four, policy, key)

    async def extend(self, session: str) -> int:
        """Give a session its full time again; tell how many seconds it has.

        Raises:
            ControlEnded: the session is not live.
            ServiceUnavailable: the database is unavailable.
        """
        await self._session(session)
        return await self._control_store.extend(session, self._face)

    async def cancel(self, session: str, correlation_id: str) -> None:
        """End a session as its cardholder wants; one that is over stays as it is.

        Raises:
            ServiceUnavailable: the database is unavailable.
        """
        with suppress(ControlEnded):
            grant = await self._session(session)
            await self._control_store.end(session, EndReason.CANCELLED)
            actor = Actor.of_grant(grant, correlation_id)
            await self._refused(grant, Reason.CANCELLED, actor)

    async def submit(
        self,
        session: str,
        control_token: str,
        jwe: str,
        correlation_id: str,
        error_id: str | None = None,
    ) -> None:
        """Take the PIN, store it and end the session.

        Args:
            session: a page's.
            control_token: the one that was consumed for it.
            jwe: the PIN.
            correlation_id: for the audit.
            error_id: for the audit.

        Raises:
            PinForbidden: the policy refuses it, and there are tries left.
            CardForbids: the card takes no PIN any more; the session is over.
            ControlEnded: the session is not live, or is now over.
            ServiceUnavailable: database or vault are unavailable; the session is over, and where
                the database could not be told it ends by its time.
        """
        grant = await self._session(session)
        actor = Actor.of_grant(grant, correlation_id, error_id)
        try:
            await self._take(session, canonical(control_token), jwe, grant, actor)
        except PinForbidden:
            raise
        except Exception:
            # Whatever else it is, a defect too: nobody tries again with the same session.
            await self._give_up(session)
            raise

    async def _take(
        self, session: str, control_token: str, jwe: str, grant: Grant, actor: Actor
    ) -> None:
        try:
            await self._store_pin(session, control_token, jwe, grant, actor)
        except PinForbidden as error:
            # Counted first: a try that could not be recorded is none the less one.
            left = await self._control_store.count_try(session)
            await self._refused(grant, error, actor)
            if left == 0:
                raise ControlEnded from None
            raise
        except ServiceUnavailable:
            raise
        except StoredValueBroken as error:
            card = CardRef(grant.issuer_id, grant.card_id)
            await self._audit.failed(card, Verb.SET_PIN, error, actor)
            raise
        except DomainError as error:
            await self._refused(grant, error, actor)
            if isinstance(error, CardForbids | ControlEnded):
                raise
            raise ControlEnded from None

    async def _store_pin(
        self, session: str, control_token: str, jwe: str, grant: Grant, actor: Actor
    ) -> None:
        card = CardRef(grant.issuer_id, grant.card_id)
        await self._clients.of(grant)
        request_key = _digest(jwe)
        for _ in range(CHANGE_TRIES_MAX):
            read = await self._store.read_for_set(card, request_key)
            if read is None or read.request_known:
                raise ControlEnded
            require_cardholder_may(
                self._face, Purpose.SET, read.state, personalised=read.personalised
            )
            change = await called(
                self._vault,
                SetPinFromPage(grant.sealed_grant, control_token, jwe, read.sealed_record),
            )
            if await self._control_store.change_pin(
                *(card, read, change, request_key, session, actor)
            ):
                return
            await self._session(session)
        metrics.conflict(self._face)
        raise ServiceUnavailable

    async def _session(self, session: str) -> Grant:
        grant = await self._control_store.read_session(session, Purpose.SET)
        if grant.face is not self._face:
            raise ControlEnded
        return grant

    async def _give_up(self, session: str) -> None:
        """End a session; without a database it ends by its time."""
        with suppress(ServiceUnavailable):
            await self._control_store.end(session, EndReason.FAILED)

    async def _refused(self, grant: Grant, why: DomainError | Reason, actor: Actor) -> None:
        await self._audit.refused(grant.issuer_id, grant.card_id, Verb.SET_PIN, why, actor)


def _digest(text: str) -> bytes:
    try:
        return jose.parse(text).digest
    except JoseError:
        raise PinRefused from None

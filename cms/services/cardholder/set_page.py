"""A PIN that is set on our own page: open a session, take the PIN, end it.

A policy's refusal leaves the session open for a few tries; whatever else comes of a PIN ends it.
"""

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from cms.domain.cards import Verb
from cms.domain.control import EndReason, Face, Grant, Purpose, permit
from cms.domain.errors import (
    CardForbids,
    ControlEnded,
    DomainError,
    PinForbidden,
    PinRefused,
    ServiceUnavailable,
)
from cms.domain.limits import CHANGE_TRIES_MAX
from cms.domain.records import Actor
from cms.persistence.store import Store
from cms.services.cardholder.apps import App, Apps
from cms.services.cardholder.control_tokens import ControlTokens, OpenSession, sid
from cms.services.cardholder.permission import REASONS
from cms.services.cardholder.policy import policy_of
from cms.services.vault import SealAlarm, in_vault
from crypto.errors import JoseError
from crypto.jose import jwe as jose
from hsm.config.policy import PolicyBody
from hsm.port import CardRef, PublicKeyRole
from hsm.worker_thread import WorkerThread

CANCELLED: Final = "CANCELLED"
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Opening:
    """What the script of a page gets to know."""

    session: OpenSession
    app: App
    policy: PolicyBody
    key: Mapping[str, str]
    """The public key, a JWK, to which it encrypts the PIN."""


class SetPage:
    """The set page of one face."""

    def __init__(
        self,
        face: Face,
        tokens: ControlTokens,
        store: Store,
        apps: Apps,
        worker_thread: WorkerThread,
    ) -> None:
        self._face = face
        self._tokens = tokens
        self._store = store
        self._apps = apps
        self._worker_thread = worker_thread

    async def open(self, token: str, app: App) -> Opening:
        """Consume a token of *app* for a session; only once all else that a page needs was found.

        Raises:
            ControlEnded: it is not a live token for this page.
            ServiceUnavailable: database or vault are unavailable; the token is not consumed.
        """
        policy = policy_of(app.issuer.config)
        keys = await in_vault(
            self._worker_thread, lambda vault: vault.public_jwks(PublicKeyRole.PAGE)
        )
        session = await self._tokens.open(token, Purpose.SET, self._face)
        return Opening(session, app, policy, keys["keys"][0])

    async def extend(self, session: str) -> int:
        """Give a session its full time again; tell how many seconds it has.

        Raises:
            ControlEnded, ServiceUnavailable: as their names say.
        """
        await self._session(session)
        return await self._tokens.extend(session)

    async def cancel(self, session: str, correlation_id: str) -> None:
        """End a session as its cardholder wants; one that is over stays as it is.

        Raises:
            ServiceUnavailable: the database is unavailable.
        """
        with suppress(ControlEnded):
            grant = await self._session(session)
            await self._tokens.end(session, EndReason.CANCELLED)
            actor = Actor(grant.client_id, correlation_id, grant.audit_user)
            await self._refuse(grant, CANCELLED, actor)

    async def submit(
        self, session: str, jwe: str, correlation_id: str, error_id: str | None = None
    ) -> None:
        """Take the PIN, store it and end the session.

        Raises:
            PinForbidden: the policy refuses it, and there are tries left.
            CardForbids: the card takes no PIN any more; the session is over.
            ControlEnded: the session is not live, or is now over.
            ServiceUnavailable: database or vault are unavailable; the session is over, and where
                the database could not be told it ends by its time.
        """
        grant = await self._session(session)
        actor = Actor(grant.client_id, correlation_id, grant.audit_user, error_id)
        try:
            await self._take(session, jwe, grant, actor)
        except PinForbidden:
            raise
        except Exception:
            # Whatever else it is, a defect too: nobody tries again with the same session.
            await self._give_up(session)
            raise

    async def _take(self, session: str, jwe: str, grant: Grant, actor: Actor) -> None:
        try:
            await self._store_pin(session, jwe, grant, actor)
        except PinForbidden as error:
            # Counted first: a try that could not be recorded is none the less one.
            left = await self._tokens.count_try(session)
            await self._refuse(grant, REASONS[type(error)], actor)
            if left == 0:
                raise ControlEnded from None
            raise
        except ServiceUnavailable:
            raise
        except SealAlarm as alarm:
            log.error("internal", exc_info=alarm)  # noqa: TRY400 - logs cut what it says
            raise ServiceUnavailable from None
        except DomainError as error:
            await self._refuse(grant, REASONS[type(error)], actor)
            if isinstance(error, CardForbids):
                raise
            raise ControlEnded from None

    async def _store_pin(self, session: str, jwe: str, grant: Grant, actor: Actor) -> None:
        card = CardRef(grant.issuer_id, grant.card_id)
        app = await self._apps.of(grant)
        request_key = _digest(jwe)
        for _ in range(CHANGE_TRIES_MAX):
            read = await self._store.read_for_set(card, request_key, actor)
            if read is None or read.request_known:
                raise ControlEnded
            permit(self._face, Purpose.SET, read.state, personalised=read.personalised)
            sealed_pan, counter, facts = read.sealed_pan, read.counter + 1, read.facts
            change = await in_vault(
                self._worker_thread,
                lambda vault: vault.set_pin_from_page(
                    jwe,
                    sid(session),
                    app.issuer.config,
                    card,
                    sealed_pan,  # noqa: B023 - the call ends before the next turn
                    counter,  # noqa: B023
                    facts,  # noqa: B023
                ),
            )
            if await self._tokens.finish(session, card, read, change, request_key, actor):
                return
            await self._session(session)
        raise ServiceUnavailable

    async def _session(self, session: str) -> Grant:
        return self._ours(await self._tokens.session(session, Purpose.SET))

    def _ours(self, grant: Grant) -> Grant:
        if grant.face is not self._face or grant.purpose is not Purpose.SET:
            raise ControlEnded
        return grant

    async def _give_up(self, session: str) -> None:
        """End a session; without a database it ends by its time."""
        with suppress(ServiceUnavailable):
            await self._tokens.end(session, EndReason.FAILED)

    async def _refuse(self, grant: Grant, reason: str, actor: Actor) -> None:
        await self._store.refuse(grant.issuer_id, grant.card_id, Verb.SET_PIN, reason, actor)


def _digest(text: str) -> bytes:
    try:
        return jose.parse(text).digest
    except JoseError:
        raise PinRefused from None

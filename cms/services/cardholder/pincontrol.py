"""The pincontrol face's use cases: a control id for a plastic, and what a page does with it.

A control id is this face's word for a control token.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from cms.domain.cards import Verb
from cms.domain.control import VERBS, Grant, Plastic
from cms.domain.errors import (
    BadRequest,
    CardForbids,
    CardNotFound,
    ControlEnded,
    DomainError,
    EvidenceRefused,
    Invalid,
    PinUnavailable,
    StoredValueBroken,
    TypeNotOffered,
    ValueNotPossible,
)
from cms.domain.records import Actor
from cms.persistence.control_store import ControlStore
from cms.services.audit import Audit
from cms.services.cardholder.apps import ServerApp
from cms.services.cardholder.control_tokens import ControlTokens
from cms.services.cardholder.permission import require_token_allowed
from cms.services.vault import called
from crypto.secret import Secret
from hsm.client import VaultCalls
from hsm.manifest.clients import ServerClient
from hsm.messages import GrantServer
from hsm.port import CardRef, Face, Purpose

FACE: Final = Face.PINCONTROL
CONTROL: Final = "control"
"""What was asked for, in the audit of a refusal that knows no verb yet."""


@dataclass(frozen=True, slots=True)
class ControlRequest:
    """What an issuer's server asks for."""

    plastic_id: str
    """As :func:`cms.domain.cards.parse_plastic_id` returns it."""
    purpose: Purpose


class ControlIds:
    """What an issuer's server and a page may ask for."""

    def __init__(
        self,
        control_tokens: ControlTokens[ServerClient],
        store: ControlStore,
        vault: VaultCalls,
        audit: Audit,
    ) -> None:
        self._control_tokens = control_tokens
        self._store = store
        self._vault = vault
        self._audit = audit

    async def issue(
        self,
        app: ServerApp,
        password: Secret[str],
        asked: ControlRequest | Invalid | BadRequest,
        actor: Actor,
    ) -> str:
        """Issue a control id for a plastic; a refusal is audited.

        Args:
            app: the server that asks.
            password: the server's, which the vault wants to see too.
            asked: what arrived, or why it could not be read.
            actor: for the audit.

        Raises:
            Invalid, BadRequest: *asked* is one.
            CardNotFound: the issuer has no such plastic.
            CardForbids: its state does not allow this, or it is personalised and takes no PIN.
            PinUnavailable: it has no PIN that may be shown.
            ValueNotPossible: the issuer takes PINs from D1 only.
            EvidenceRefused: to the vault password or plastic are wrong.
            ServiceUnavailable: database or vault are unavailable.
            StoredValueBroken: the card's record is not what was stored.
        """
        issuer_id, card_id = app.manifest.issuer_id, None
        if not isinstance(asked, ControlRequest):
            await self._audit.refused(issuer_id, card_id, CONTROL, asked, actor)
            raise asked
        try:
            plastic = await self._store.plastic(issuer_id, asked.plastic_id)
            card_id = plastic.card_id
            require_token_allowed(
                *(app.manifest, FACE, asked.purpose, plastic.state, plastic.pin_type),
                personalised=plastic.personalised,
            )
            return await self._issue(password, asked, plastic, actor)
        except (
            *(CardNotFound, CardForbids, PinUnavailable),
            *(ValueNotPossible, EvidenceRefused),
        ) as error:
            await self._audit.refused(issuer_id, card_id, VERBS[asked.purpose], error, actor)
            raise

    async def _issue(
        self, password: Secret[str], asked: ControlRequest, plastic: Plastic, actor: Actor
    ) -> str:
        """Have the vault grant a control id, and store it."""
        card = CardRef(plastic.issuer_id, plastic.card_id)
        try:
            granted = await called(
                self._vault,
                GrantServer(
                    *(actor.client_id, password, asked.plastic_id, asked.purpose),
                    *(card, plastic.sealed_record, plastic.counter),
                ),
            )
        except StoredValueBroken as error:
            await self._audit.failed(card, VERBS[asked.purpose], error, actor)
            raise
        grant = Grant(
            *(card.issuer_id, card.card_id, actor.client_id, FACE, asked.purpose),
            *(granted.grant_id, granted.grant),
            style={},
            audit_user=actor.audit_user,
        )
        await self._store.issue(granted.control_token, grant, plastic.counter, actor)
        return granted.control_token

    async def read_live(
        self, control_id: str, frame_key: str | None, address: str
    ) -> tuple[Grant, ServerApp]:
        """Read what a live control id is good for, in a frame of the client that has *frame_key*.

        Args:
            control_id: as it was sent.
            frame_key: None: it was not sent from a frame.
            address: the sender's.

        Raises:
            ControlEnded: it is not live, or of another client than the frame.
            TooManyFailures: too many were not live, as :meth:`ControlTokens.read` counts.
            ServiceUnavailable: database or vault are unavailable.
        """
        grant, app = await self._control_tokens.read_live(control_id, address)
        if frame_key not in (None, app.client.frame_key):
            raise ControlEnded
        return grant, app

    async def of_server(
        self, control_id: str, purpose: Purpose, app: ServerApp, address: str, actor: Actor
    ) -> Grant:
        """Read what a live control id is good for that a server sends itself; nothing is consumed.

        Raises:
            TypeNotOffered: the issuer has no PKI on.
            ControlEnded: it is not live, for something else, or was issued to another server.
            TooManyFailures: too many were not live, as :meth:`ControlTokens.read` counts.
            ServiceUnavailable: database or vault are unavailable.
        """
        try:
            return await self._of_server(control_id, purpose, app, address)
        except (ControlEnded, TypeNotOffered) as error:
            issued = await self._store.read_issued(control_id)
            own = issued is not None and issued.client_id == app.client.client_id
            card_id = issued.card_id if issued is not None and own else None
            await self.refused(app, card_id, VERBS[purpose], error, actor)
            raise

    async def _of_server(
        self, control_id: str, purpose: Purpose, app: ServerApp, address: str
    ) -> Grant:
        if not app.manifest.pin_operations.pki:
            raise TypeNotOffered
        grant, owner = await self._control_tokens.read_live(control_id, address)
        if grant.purpose is not purpose or owner.client.client_id != app.client.client_id:
            raise ControlEnded
        return grant

    async def refused(
        self, app: ServerApp, card_id: str | None, event: Verb, error: DomainError, actor: Actor
    ) -> None:
        """Audit that something else than a control id was refused to a server.

        Raises:
            ServiceUnavailable: the database is unavailable.
        """
        await self._audit.refused(app.manifest.issuer_id, card_id, event, error, actor)

    @asynccontextmanager
    async def refusals_audited(
        self, control_id: str, correlation_id: str, error_id: str
    ) -> AsyncIterator[None]:
        """Audit that a control id cannot be used for what is done here, if there ever was one.

        Raises:
            ServiceUnavailable: the database is unavailable.
        """
        try:
            yield
        except ControlEnded as error:
            grant = await self._store.read_issued(control_id)
            if grant is not None and grant.face is FACE:
                actor = Actor.of_grant(grant, correlation_id, error_id)
                event = VERBS[grant.purpose]
                await self._audit.refused(grant.issuer_id, grant.card_id, event, error, actor)
            raise

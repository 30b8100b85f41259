"""The hosted face's use cases: a cardholder's card, and control tokens for it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from cms.domain.control import VERBS, CardOfHolder, Grant
from cms.domain.errors import (
    CardForbids,
    CardNotFound,
    DomainError,
    EvidenceRefused,
    PinUnavailable,
    StepUpRequired,
    StoredValueBroken,
    ValueNotPossible,
)
from cms.domain.records import Actor
from cms.persistence.control_store import ControlStore
from cms.services.audit import Audit
from cms.services.cardholder.apps import HostedApp
from cms.services.cardholder.permission import require_token_allowed
from cms.services.vault import called
from crypto.secret import Secret
from hsm.client import VaultCalls
from hsm.messages import GrantBearer, VerifyBearer
from hsm.port import CardRef, Face, Purpose

FACE: Final = Face.HOSTED
STATUS: Final = "status"
"""What was asked for, in the audit of a refusal to tell of a card."""


@dataclass(frozen=True, slots=True)
class Wish:
    """How an app wants the image or the page; *style* as the contract writes it."""

    style: Mapping[str, object]
    redirect_url: str | None
    embedded: bool


@dataclass(frozen=True, slots=True)
class Asking:
    """An app and its cardholder, as a request names them."""

    app: HostedApp
    bearer: Secret[str]
    """The cardholder's access token, which the vault verifies."""
    actor: Actor


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A new control token, a UUID in its usual form; *expires_at* by the database's clock."""

    control_token: str = field(repr=False)
    expires_at: datetime


class HostedCards:
    """What an app may ask for its cardholder."""

    def __init__(self, store: ControlStore, vault: VaultCalls, audit: Audit) -> None:
        self._store = store
        self._vault = vault
        self._audit = audit

    async def card(self, asking: Asking, purpose: Purpose | None) -> CardOfHolder:
        """Choose the cardholder's card; a refusal is audited, once the cardholder is known.

        Args:
            asking: who asks.
            purpose: of the control token that is asked for; None: the card's status is.

        Raises:
            Unauthorized: the issuer's identity provider did not give this access token, or it is
                over.
            StepUpRequired: for a control token the cardholder must authenticate anew, or more
                strongly.
            CardNotFound: the cardholder has no card of this issuer.
            ServiceUnavailable: database or vault are unavailable.
        """
        issuer_id = asking.app.manifest.issuer_id
        try:
            message = VerifyBearer(asking.bearer, issuer_id, purpose is not None)
            cardholder_id = await called(self._vault, message)
            return await self._store.card_of(issuer_id, cardholder_id)
        except (StepUpRequired, CardNotFound) as error:
            await self.refused(asking, None, purpose, error)
            raise

    async def refused(
        self, asking: Asking, card_id: str | None, purpose: Purpose | None, error: DomainError
    ) -> None:
        """Audit that a control token for *purpose*, or a card's status, was refused.

        Raises:
            ServiceUnavailable: the database is unavailable.
        """
        event = STATUS if purpose is None else VERBS[purpose]
        issuer_id = asking.app.manifest.issuer_id
        await self._audit.refused(issuer_id, card_id, event, error, asking.actor)

    async def require_token_allowed(
        self, asking: Asking, card: CardOfHolder, purpose: Purpose
    ) -> None:
        """Let a control token be issued for a card; a refusal is audited.

        Raises:
            CardForbids: its state does not allow this.
            PinUnavailable: it has no PIN that may be shown.
            ValueNotPossible: the issuer takes PINs from D1 only.
            ServiceUnavailable: the database is unavailable.
        """
        try:
            require_token_allowed(
                *(asking.app.manifest, FACE, purpose, card.state, card.pin_type), personalised=True
            )
        except (CardForbids, PinUnavailable, ValueNotPossible) as error:
            await self.refused(asking, card.card_id, purpose, error)
            raise

    async def issue(
        self, asking: Asking, card: CardOfHolder, purpose: Purpose, wish: Wish
    ) -> IssuedToken:
        """Issue a control token; a refusal is audited.

        Raises:
            Unauthorized: the access token is over.
            StepUpRequired: the cardholder's authentication is too old now.
            EvidenceRefused: to the vault the card is not this cardholder's.
            CardNotFound: the card was deleted.
            ServiceUnavailable: database or vault are unavailable.
            StoredValueBroken: the card's record is not what was stored.
        """
        ref, actor = CardRef(card.issuer_id, card.card_id), asking.actor
        try:
            granted = await called(
                self._vault,
                GrantBearer(
                    *(asking.bearer, actor.client_id, purpose),
                    *(ref, card.sealed_record, card.counter),
                ),
            )
            grant = Grant(
                *(card.issuer_id, card.card_id, actor.client_id, FACE, purpose),
                *(granted.grant_id, granted.grant, wish.style, wish.redirect_url, wish.embedded),
            )
            expires_at = await self._store.issue(granted.control_token, grant, card.counter, actor)
        except (StepUpRequired, EvidenceRefused, CardNotFound) as error:
            await self.refused(asking, card.card_id, purpose, error)
            raise
        except StoredValueBroken as error:
            await self._audit.failed(ref, VERBS[purpose], error, actor)
            raise
        return IssuedToken(granted.control_token, expires_at)

"""The hosted face's use cases: a cardholder's card, and control tokens for it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cms.domain.control import VERBS, CardOfHolder, Grant
from cms.domain.errors import CardForbids, PinUnavailable, ValueNotPossible
from cms.domain.records import Actor
from cms.persistence.control_store import ControlStore
from cms.services.audit import Audit
from cms.services.cardholder.apps import HostedApp
from cms.services.cardholder.control_tokens import ControlTokens, IssuedToken
from cms.services.cardholder.permission import require_token_allowed
from hsm.manifest.clients import AppClient
from hsm.port import Face, Purpose

FACE: Final = Face.HOSTED


@dataclass(frozen=True, slots=True)
class Wish:
    """How an app wants the image or the page; *style* as the contract writes it."""

    style: Mapping[str, object]
    redirect_url: str | None
    embedded: bool


class HostedCards:
    """What an app may ask for its cardholder."""

    def __init__(
        self, control_tokens: ControlTokens[AppClient], store: ControlStore, audit: Audit
    ) -> None:
        self._control_tokens = control_tokens
        self._store = store
        self._audit = audit

    async def card(self, app: HostedApp, cardholder_id: str) -> CardOfHolder:
        """Choose the cardholder's card.

        Raises:
            CardNotFound: the cardholder has no card of this issuer.
            ServiceUnavailable: the database is unavailable.
        """
        return await self._store.card_of(app.manifest.issuer_id, cardholder_id)

    async def require_token_allowed(
        self, app: HostedApp, card: CardOfHolder, purpose: Purpose, actor: Actor
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
                *(app.manifest, FACE, purpose, card.state, card.pin_type), personalised=True
            )
        except (CardForbids, PinUnavailable, ValueNotPossible) as error:
            event = VERBS[purpose]
            await self._audit.refused(card.issuer_id, card.card_id, event, error, actor)
            raise

    async def issue(
        self, card: CardOfHolder, purpose: Purpose, wish: Wish, actor: Actor
    ) -> IssuedToken:
        """Issue a control token.

        Raises:
            CardNotFound: the card was deleted.
            ServiceUnavailable: the database is unavailable.
        """
        grant = Grant(
            *(card.issuer_id, card.card_id, actor.client_id, FACE, purpose),
            *(wish.style, wish.redirect_url, wish.embedded),
        )
        return await self._control_tokens.issue(grant, actor)

"""The hosted face's use cases: a cardholder's card, and tokens for it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cms.domain.control import VERBS, CardOfHolder, Face, Grant, Purpose
from cms.domain.errors import CardForbids, PinUnavailable, ValueNotPossible
from cms.domain.records import Actor
from cms.persistence.store import Store
from cms.services.cardholder.apps import App
from cms.services.cardholder.control_tokens import ControlTokens, IssuedControl
from cms.services.cardholder.permission import REASONS, permit_token

FACE: Final = Face.HOSTED


@dataclass(frozen=True, slots=True)
class Wish:
    """How an app wants the image or the page; *style* as the contract writes it."""

    style: Mapping[str, object]
    redirect_url: str | None
    embedded: bool


class HostedTokens:
    """What an app may ask for its cardholder."""

    def __init__(self, tokens: ControlTokens, store: Store) -> None:
        self._tokens = tokens
        self._store = store

    async def card(self, app: App, cardholder_id: str) -> CardOfHolder:
        """Choose the cardholder's card.

        Raises:
            CardNotFound, ServiceUnavailable: as their names say.
        """
        return await self._tokens.card_of(app.issuer.issuer_id, cardholder_id)

    async def permit(self, app: App, card: CardOfHolder, purpose: Purpose, actor: Actor) -> None:
        """Let a token be issued for a card; a refusal is audited.

        Raises:
            CardForbids: its state does not allow this.
            PinUnavailable: it has no PIN that may be shown.
            ValueNotPossible: the issuer takes PINs from D1 only.
            ServiceUnavailable: the database is unavailable.
        """
        try:
            permit_token(
                *(FACE, purpose, card.state, card.pin_type, app.issuer.config),
                personalised=True,
            )
        except (CardForbids, PinUnavailable, ValueNotPossible) as error:
            await self._store.refuse(
                card.issuer_id, card.card_id, VERBS[purpose], REASONS[type(error)], actor
            )
            raise

    async def issue(
        self, card: CardOfHolder, purpose: Purpose, wish: Wish, actor: Actor
    ) -> IssuedControl:
        """Issue a token.

        Raises:
            CardNotFound, ServiceUnavailable: as their names say.
        """
        grant = Grant(
            *(card.issuer_id, card.card_id, actor.client_id, FACE, purpose),
            *(wish.style, wish.redirect_url, wish.embedded),
        )
        return await self._tokens.issue(grant, actor)

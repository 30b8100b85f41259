"""The hosted face's use cases: a cardholder's card, tokens for it, and its PIN as an image."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cms.domain.cards import Verb, permit
from cms.domain.control import CardOfHolder, Face, Grant, Purpose
from cms.domain.errors import (
    CardForbids,
    ControlEnded,
    PinUnavailable,
    TryLater,
    ValueNotPossible,
)
from cms.persistence.store import Actor, Store
from cms.services.apps import App, Apps
from cms.services.control_tokens import ControlTokens, IssuedControl
from cms.services.pins import SealAlarm, in_vault, readable
from cms.services.set_page import REASONS
from crypto.pin_image import ImageStyle
from crypto.seccos.profile import SeccosProfile
from hsm.config import VerificationBody, parse_body
from hsm.errors import ConfigRefused
from hsm.lane import Lane
from hsm.port import CardRef, ConfigKind, PinBlockType, VaultConfig

FACE: Final = Face.HOSTED
VERBS: Final[Mapping[Purpose, Verb]] = {Purpose.VIEW: Verb.GET_PIN, Purpose.SET: Verb.SET_PIN}
log = logging.getLogger(__name__)


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
            CardNotFound, TryLater: as their names say.
        """
        return await self._tokens.card_of(app.issuer.issuer_id, cardholder_id)

    async def permit(self, app: App, card: CardOfHolder, purpose: Purpose, actor: Actor) -> None:
        """Let a token be issued for a card; a refusal is audited.

        Raises:
            CardForbids: its state does not allow this.
            PinUnavailable: it has no PIN that may be shown.
            ValueNotPossible: the issuer takes PINs from D1 only.
            TryLater: the database is away.
        """
        try:
            permit(VERBS[purpose], card.state)
            _require_pin(card, purpose)
            _require_values(app, purpose)
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
            CardNotFound, TryLater: as their names say.
        """
        grant = Grant(
            *(card.issuer_id, card.card_id, actor.client_id, FACE, purpose),
            *(wish.style, wish.redirect_url, wish.embedded),
        )
        return await self._tokens.issue(grant, actor)


class Reveal:
    """Shows a PIN once, as an image."""

    def __init__(self, tokens: ControlTokens, store: Store, apps: Apps, lane: Lane) -> None:
        self._tokens = tokens
        self._store = store
        self._apps = apps
        self._lane = lane

    async def find(self, token: str) -> tuple[Grant, App] | None:
        """Read what a token was issued for, whatever became of it; None: it is a guess.

        Raises:
            ControlEnded: the app is out of service.
            TryLater: the database is away.
        """
        grant = await self._tokens.known(token)
        return None if grant is None else (grant, await self._apps.of(grant))

    async def image(self, token: str, style: ImageStyle, actor: Actor) -> bytes:
        """Spend a token, then draw the PIN: a token is spent even if the PIN cannot be drawn.

        Raises:
            ControlEnded: it is not a live token for this, or the card shows no PIN any more.
            TryLater: database or vault are away, or what is stored is not what was stored.
        """
        burned = await self._tokens.burn(token, Purpose.VIEW, FACE, actor)
        read, card = burned.card, CardRef(burned.grant.issuer_id, burned.grant.card_id)
        try:
            permit(Verb.GET_PIN, read.state)
            sealed_pin = readable(read)
            return await in_vault(
                self._lane,
                lambda vault: vault.render_image(
                    sealed_pin, read.sealed_pan, style, card, read.counter
                ),
            )
        except (CardForbids, PinUnavailable) as error:
            await self._store.refuse(
                card.issuer_id, card.card_id, Verb.GET_PIN, REASONS[type(error)], actor
            )
            raise ControlEnded from None
        except SealAlarm as alarm:
            log.error("internal", exc_info=alarm)  # noqa: TRY400 - logs cut what it says
            raise TryLater from None


def _require_pin(card: CardOfHolder, purpose: Purpose) -> None:
    if purpose is Purpose.VIEW and not has_readable_pin(card):
        raise PinUnavailable


def _require_values(app: App, purpose: Purpose) -> None:
    if purpose is Purpose.SET and not takes_pins(app.issuer.config):
        raise ValueNotPossible


def has_readable_pin(card: CardOfHolder) -> bool:
    """Tell whether the card has a PIN in a form that may be shown."""
    return card.pin_type == PinBlockType.ISO0


def takes_pins(config: VaultConfig) -> bool:
    """Tell whether the issuer can make every verification value of a PIN that is not from D1.

    The vault decides when the PIN comes; a cardholder should not have to enter one first.
    """
    asked, profile = (_body(config, kind) for kind in (ConfigKind.VERIFICATION, ConfigKind.SECCOS))
    wants_prw = isinstance(asked, VerificationBody) and asked.prw
    return not (wants_prw and isinstance(profile, SeccosProfile) and profile.prw_source == "d1")


def _body(config: VaultConfig, kind: ConfigKind) -> object:
    sealed = config.get(kind)
    try:
        return parse_body(kind, sealed.body) if sealed else None
    except ConfigRefused:
        return None

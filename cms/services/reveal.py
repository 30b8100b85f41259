"""Shows a PIN once: as an image and, where its issuer allows it, as text to a page."""

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

from cms.domain.cards import Verb
from cms.domain.control import EndReason, Face, Grant, Purpose, permit
from cms.domain.errors import CardForbids, ControlEnded, PinUnavailable, TryLater
from cms.persistence.control_store import Burned
from cms.persistence.store import Actor, Store
from cms.services.apps import App, Apps
from cms.services.control_tokens import ControlTokens, new_session, sid
from cms.services.permission import REASONS
from cms.services.pins import SealAlarm, in_vault, readable
from cms.services.policy import allows_text
from crypto.errors import JoseError
from crypto.jose.jwk import parse_public
from crypto.pin_image import ImageStyle
from hsm.lane import Lane
from hsm.port import CardRef, PinVault, SealedPin

T = TypeVar("T")
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Shown:
    """A PNG, and the session that is good for the same PIN as text, if its issuer allows that."""

    png: bytes = field(repr=False)
    session: str | None = field(repr=False)


class Reveal:
    """Shows PINs at one face."""

    def __init__(
        self, face: Face, tokens: ControlTokens, store: Store, apps: Apps, lane: Lane
    ) -> None:
        self._face = face
        self._tokens = tokens
        self._store = store
        self._apps = apps
        self._lane = lane

    async def image(self, token: str, style: ImageStyle, actor: Actor) -> bytes:
        """Spend a token, then draw the PIN: a token is spent even if the PIN cannot be drawn.

        Raises:
            ControlEnded: it is not a live token for this, or the card shows no PIN any more.
            TryLater: database or vault are away, or what is stored is not what was stored.
        """
        burned = await self._tokens.burn(token, Purpose.VIEW, self._face, actor)
        return await self._draw(burned, style, actor)

    async def page_image(self, token: str, app: App, style: ImageStyle, actor: Actor) -> Shown:
        """Do as :meth:`image` for a page of *app*; where text is allowed, begin its session.

        Raises:
            ControlEnded, TryLater: as for :meth:`image`.
        """
        session = new_session() if allows_text(app.issuer.config) else None
        burned = await self._tokens.burn(token, Purpose.VIEW, self._face, actor, session)
        return Shown(await self._draw(burned, style, actor), session)

    async def text(
        self, session: str, key: Mapping[str, object], actor_of: Callable[[Grant], Actor]
    ) -> str:
        """End a session, then hand out the digits in a JWE to the page's *key*.

        Raises:
            ControlEnded: it is not a live session for this, its page's key cannot be used, or the
                card shows no PIN any more.
            TryLater: database or vault are away, or what is stored is not what was stored.
        """
        _require_public_key(key)
        grant = await self._tokens.session(session, Purpose.VIEW)
        app, actor = await self._apps.of(grant), actor_of(grant)
        burned = await self._tokens.end_with_text(session, self._face, actor)
        read, card = burned.card, _card(burned.grant)
        return await self._reveal(
            burned,
            actor,
            lambda vault, sealed_pin: vault.digits_jwe(
                *(sealed_pin, read.sealed_pan, sid(session), key),
                *(app.issuer.config, card, read.counter),
            ),
        )

    async def close(self, session: str) -> None:
        """End a session that was good for text; one that is over stays as it is.

        Raises:
            TryLater: the database is away.
        """
        with suppress(ControlEnded):
            await self._tokens.session(session, Purpose.VIEW)
            await self._tokens.end(session, EndReason.SHOWN)

    async def _draw(self, burned: Burned, style: ImageStyle, actor: Actor) -> bytes:
        read, card = burned.card, _card(burned.grant)
        return await self._reveal(
            burned,
            actor,
            lambda vault, sealed_pin: vault.render_image(
                sealed_pin, read.sealed_pan, style, card, read.counter
            ),
        )

    async def _reveal(
        self, burned: Burned, actor: Actor, verb: Callable[[PinVault, SealedPin], T]
    ) -> T:
        grant = burned.grant
        try:
            # Whether it is produced says nothing about seeing a PIN.
            permit(self._face, Purpose.VIEW, burned.card.state, produced=True)
            sealed_pin = readable(burned.card)
            return await in_vault(self._lane, lambda vault: verb(vault, sealed_pin))
        except (CardForbids, PinUnavailable) as error:
            reason = REASONS[type(error)]
            await self._store.refuse(grant.issuer_id, grant.card_id, Verb.GET_PIN, reason, actor)
            raise ControlEnded from None
        except SealAlarm as alarm:
            log.error("internal", exc_info=alarm)  # noqa: TRY400 - logs cut what it says
            raise TryLater from None


def _require_public_key(key: Mapping[str, object]) -> None:
    """Refuse, before the session is spent, what the vault would refuse afterwards."""
    try:
        parse_public(key, "enc")
    except JoseError:
        raise ControlEnded from None


def _card(grant: Grant) -> CardRef:
    return CardRef(grant.issuer_id, grant.card_id)

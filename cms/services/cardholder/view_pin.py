"""Shows a PIN once: as an image and, where its issuer allows it, as text to a page."""

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

from cms.domain.cards import Verb
from cms.domain.control import EndReason, Face, Grant, Purpose, permit
from cms.domain.errors import CardForbids, ControlEnded, PinUnavailable, ServiceUnavailable
from cms.domain.records import Actor, ConsumedToken
from cms.persistence.store import Store
from cms.services.cardholder.apps import App, Apps
from cms.services.cardholder.control_tokens import ControlTokens, new_session, sid
from cms.services.cardholder.permission import REASONS
from cms.services.cardholder.policy import allows_text
from cms.services.vault import SealAlarm, in_vault, readable
from crypto.errors import JoseError
from crypto.jose.jwk import parse_public
from crypto.pin_image import ImageStyle
from hsm.port import CardRef, PinVault, SealedPin
from hsm.worker_thread import WorkerThread

T = TypeVar("T")
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Shown:
    """A PNG, and the session that is good for the same PIN as text, if its issuer allows that."""

    png: bytes = field(repr=False)
    session: str | None = field(repr=False)


class PinView:
    """Shows PINs at one face."""

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

    async def image(self, token: str, style: ImageStyle, actor: Actor) -> bytes:
        """Consume a token, then draw the PIN: a token is consumed even if the PIN cannot be drawn.

        Raises:
            ControlEnded: it is not a live token for this, or the card shows no PIN any more.
            ServiceUnavailable: database or vault are unavailable, or what is stored is not what
                was stored.
        """
        consumed = await self._tokens.consume(token, Purpose.VIEW, self._face, actor)
        return await self._draw(consumed, style, actor)

    async def page_image(self, token: str, app: App, style: ImageStyle, actor: Actor) -> Shown:
        """Do as :meth:`image` for a page of *app*; where text is allowed, begin its session.

        Raises:
            ControlEnded, ServiceUnavailable: as for :meth:`image`.
        """
        session = new_session() if allows_text(app.issuer.config) else None
        consumed = await self._tokens.consume(token, Purpose.VIEW, self._face, actor, session)
        return Shown(await self._draw(consumed, style, actor), session)

    async def text(
        self, session: str, key: Mapping[str, object], actor_of: Callable[[Grant], Actor]
    ) -> str:
        """End a session, then hand out the digits in a JWE to the page's *key*.

        Raises:
            ControlEnded: it is not a live session for this, its page's key cannot be used, or the
                card shows no PIN any more.
            ServiceUnavailable: database or vault are unavailable, or what is stored is not what
                was stored.
        """
        _require_public_key(key)
        grant = await self._tokens.session(session, Purpose.VIEW)
        app, actor = await self._apps.of(grant), actor_of(grant)
        consumed = await self._tokens.end_with_text(session, self._face, actor)
        read, card = consumed.card, _card(consumed.grant)
        return await self._reveal(
            consumed,
            actor,
            lambda vault, sealed_pin: vault.digits_jwe(
                *(sealed_pin, read.sealed_pan, sid(session), key),
                *(app.issuer.config, card, read.counter),
            ),
        )

    async def close(self, session: str) -> None:
        """End a session that was good for text; one that is over stays as it is.

        Raises:
            ServiceUnavailable: the database is unavailable.
        """
        with suppress(ControlEnded):
            await self._tokens.session(session, Purpose.VIEW)
            await self._tokens.end(session, EndReason.SHOWN)

    async def _draw(self, consumed: ConsumedToken, style: ImageStyle, actor: Actor) -> bytes:
        read, card = consumed.card, _card(consumed.grant)
        return await self._reveal(
            consumed,
            actor,
            lambda vault, sealed_pin: vault.render_image(
                sealed_pin, read.sealed_pan, style, card, read.counter
            ),
        )

    async def _reveal(
        self, consumed: ConsumedToken, actor: Actor, verb: Callable[[PinVault, SealedPin], T]
    ) -> T:
        grant = consumed.grant
        try:
            # Whether it is personalised says nothing about seeing a PIN.
            permit(self._face, Purpose.VIEW, consumed.card.state, personalised=True)
            sealed_pin = readable(consumed.card)
            return await in_vault(self._worker_thread, lambda vault: verb(vault, sealed_pin))
        except (CardForbids, PinUnavailable) as error:
            reason = REASONS[type(error)]
            await self._store.refuse(grant.issuer_id, grant.card_id, Verb.GET_PIN, reason, actor)
            raise ControlEnded from None
        except SealAlarm as alarm:
            log.error("internal", exc_info=alarm)  # noqa: TRY400 - logs cut what it says
            raise ServiceUnavailable from None


def _require_public_key(key: Mapping[str, object]) -> None:
    """Refuse, before the session is consumed, what the vault would refuse afterwards."""
    try:
        parse_public(key, "enc")
    except JoseError:
        raise ControlEnded from None


def _card(grant: Grant) -> CardRef:
    return CardRef(grant.issuer_id, grant.card_id)

"""Shows a PIN once: as an image and, where its issuer allows it, as text to a page."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

from cms.domain.cards import Verb
from cms.domain.control import EndReason, canonical, require_cardholder_may
from cms.domain.errors import (
    CardForbids,
    ControlEnded,
    LimitReached,
    PinUnavailable,
    ServiceUnavailable,
    StoredValueBroken,
    TypeNotOffered,
)
from cms.domain.records import Actor, ConsumedToken
from cms.persistence.control_store import ControlStore
from cms.services.audit import Audit
from cms.services.cardholder.apps import AnyApp, Apps, Servers
from cms.services.cardholder.control_tokens import new_session
from cms.services.vault import called, readable
from crypto.errors import JoseError
from crypto.jose.jwk import parse_public
from crypto.pin_image import ImageStyle
from hsm import messages
from hsm.client import VaultCalls
from hsm.messages import DigitsJwe, ExportDeviceBlock, RenderImage
from hsm.port import (
    CardRef,
    DeviceBlock,
    Face,
    HandOut,
    Purpose,
    SealedGrant,
    SealedPin,
    SealedRecord,
)

T = TypeVar("T")
Reveal = Callable[[SealedGrant, str, SealedPin, SealedRecord], messages.Verb[HandOut[T]]]
"""Makes the message that has a PIN shown against a grant and its control token."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A PNG, and the session that is good for the same PIN as text, if its issuer allows that."""

    png: bytes = field(repr=False)
    session: str | None = field(repr=False)
    grant_id: str
    """What the vault tells the page with the text."""
    last_four: str
    """Of the card's number."""


class PinView:
    """Shows PINs at one face."""

    def __init__(
        self,
        face: Face,
        store: ControlStore,
        clients: Apps | Servers,
        vault: VaultCalls,
        audit: Audit,
    ) -> None:
        self._face = face
        self._store = store
        self._clients = clients
        self._vault = vault
        self._audit = audit

    async def image(self, control_token: str, style: ImageStyle, actor: Actor) -> bytes:
        """Consume a control token, then draw the PIN; consumed even if the PIN cannot be drawn.

        Raises:
            ControlEnded: it is not a live control token for this, or the card shows no PIN any
                more.
            ServiceUnavailable: database or vault are unavailable.
            StoredValueBroken: what is stored is not what was stored.
        """
        consumed = await self._store.consume(control_token, Purpose.VIEW, self._face)
        return await self._draw(control_token, consumed, style, actor)

    async def page_image(
        self, control_token: str, app: AnyApp, style: ImageStyle, actor: Actor
    ) -> Shown:
        """Do as :meth:`image` for a page of *app*; where text is allowed, begin its session.

        Raises:
            ControlEnded: it is not a live control token for this, or the card shows no PIN any
                more.
            ServiceUnavailable: database or vault are unavailable.
            StoredValueBroken: what is stored is not what was stored.
        """
        session = new_session(control_token) if app.manifest.policy.text_reveal else None
        consumed = await self._store.consume(control_token, Purpose.VIEW, self._face, session)
        png = await self._draw(control_token, consumed, style, actor)
        return Shown(png, session, consumed.grant.grant_id, consumed.last_four)

    async def text(
        self,
        session: str,
        control_token: str,
        key: Mapping[str, object],
        correlation_id: str,
        error_id: str | None = None,
    ) -> str:
        """End a session, then hand out the digits in a JWE to the page's *key*.

        Args:
            session: which the image came with.
            control_token: the one that was consumed for it.
            key: a public JWK.
            correlation_id: for the audit.
            error_id: for the audit.

        Raises:
            ControlEnded: it is not a live session for this, or that of another control token, its
                page's key cannot be used, or the card shows no PIN any more.
            ServiceUnavailable: database or vault are unavailable.
            StoredValueBroken: what is stored is not what was stored.
        """
        _require_public_key(key)
        grant = await self._store.read_session(session, Purpose.VIEW)
        await self._clients.of(grant)
        actor = Actor.of_grant(grant, correlation_id, error_id)
        consumed = await self._store.end_with_text(session, self._face)
        return await self._reveal(
            *(control_token, consumed, actor, f"{self._face} text"),
            lambda grant, token, pin, record: DigitsJwe(grant, token, pin, record, key),
        )

    async def device_block(
        self, control_token: str, public_key: bytes, actor: Actor
    ) -> DeviceBlock:
        """Consume a control token for a block to the device that has *public_key*, DER.

        Raises:
            ControlEnded: it is not a live control token for this, or the card shows no PIN any
                more.
            ServiceUnavailable: database or vault are unavailable.
            StoredValueBroken: what is stored is not what was stored.
        """
        consumed = await self._store.consume(control_token, Purpose.VIEW, self._face)
        return await self._reveal(
            *(control_token, consumed, actor, f"{self._face} pki"),
            lambda grant, token, pin, record: ExportDeviceBlock(
                grant, token, public_key, pin, record
            ),
        )

    async def close(self, session: str) -> None:
        """End a session that was good for text; one that is over stays as it is.

        Raises:
            ServiceUnavailable: the database is unavailable.
        """
        with suppress(ControlEnded):
            await self._store.read_session(session, Purpose.VIEW)
            await self._store.end(session, EndReason.SHOWN)

    async def _draw(
        self, control_token: str, consumed: ConsumedToken, style: ImageStyle, actor: Actor
    ) -> bytes:
        return await self._reveal(
            *(control_token, consumed, actor, self._face),
            lambda grant, token, pin, record: RenderImage(grant, token, pin, record, style),
        )

    async def _reveal(
        self,
        control_token: str,
        consumed: ConsumedToken,
        actor: Actor,
        where: str,
        reveal: Reveal[T],
    ) -> T:
        """Have the vault show a PIN; the audit row says *where*."""
        grant, token, record = consumed.grant, canonical(control_token), consumed.card.sealed_record
        card = CardRef(grant.issuer_id, grant.card_id)
        try:
            # Whether it is personalised says nothing about seeing a PIN.
            require_cardholder_may(self._face, Purpose.VIEW, consumed.card.state, personalised=True)
            sealed_pin = readable(consumed.card)
            handed_out = await called(
                self._vault, reveal(grant.sealed_grant, token, sealed_pin, record)
            )
        except (CardForbids, LimitReached, PinUnavailable, TypeNotOffered) as error:
            event = Verb.GET_PIN
            await self._audit.refused(grant.issuer_id, grant.card_id, event, error, actor)
            raise ControlEnded from None
        except (ControlEnded, ServiceUnavailable, StoredValueBroken) as error:
            await self._audit.failed(card, Verb.GET_PIN, error, actor)
            raise
        await self._audit.handed_out(card, consumed.card.counter, handed_out.receipt, actor, where)
        return handed_out.value


def _require_public_key(key: Mapping[str, object]) -> None:
    """Refuse, before the session is consumed, what the vault would refuse afterwards."""
    try:
        parse_public(key, "enc")
    except JoseError:
        raise ControlEnded from None

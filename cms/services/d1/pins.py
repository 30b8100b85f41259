"""Set, hand out and count the PIN of a card; activate a card. No clear PIN passes here."""

from dataclasses import dataclass

from cms import metrics
from cms.domain.cards import Verb, require_state_allows
from cms.domain.errors import (
    BadRequest,
    CardNotFound,
    ServiceUnavailable,
)
from cms.domain.limits import CHANGE_TRIES_MAX
from cms.domain.records import Actor, CardToChange
from cms.persistence.store import Store
from cms.services.audit import Audit
from cms.services.vault import called, readable
from hsm.client import VaultCalls
from hsm.messages import ExportJwe, SetPinFromJwe
from hsm.port import CardRef, PinBlockType, SealedChange


@dataclass(frozen=True, slots=True)
class PinEnvelope:
    """A PIN as it arrived: *request_key* is the digest of the JWE's decoded parts."""

    block_type: PinBlockType
    jwe: str
    request_key: bytes


class Pins:
    """The PIN use cases over one store and one vault."""

    def __init__(self, store: Store, vault: VaultCalls, audit: Audit) -> None:
        self._store = store
        self._audit = audit
        self._vault = vault

    async def set_pin(
        self, card: CardRef, envelope: PinEnvelope | BadRequest, actor: Actor
    ) -> None:
        """Replace the card's PIN; an envelope that was accepted before changes nothing.

        Args:
            card: the card.
            envelope: what arrived. One that could not be read is refused only after the card
                was checked, so that the order of answers holds.
            actor: the client, against which failures count, and for the audit.

        Raises:
            CardNotFound: the issuer has no such card.
            CardForbids: the card's state takes no PIN.
            BadRequest: *envelope* is one.
            TooManyFailures: too many PINs of the client could not be used.
            TypeNotOffered: the issuer takes no PIN of this type.
            PinRefused: the JWE does not open, what is in it is no PIN for this card, or the card
                takes no PIN in this form after too many wrong ones.
            PinForbidden: the issuer's policy forbids this PIN.
            ValueNotPossible: the PIN cannot give a verification value that the issuer asks for.
            CounterExhausted: the card has had as many changes as can be counted.
            Unauthorized: the client was taken out of the manifest meanwhile.
            ServiceUnavailable: vault or database is unavailable, or the card was changed by
                others at each of three tries.
            StoredValueBroken: the stored record is not the one stored.
        """
        key = envelope.request_key if isinstance(envelope, PinEnvelope) else None
        for _ in range(CHANGE_TRIES_MAX):
            read = await self._store.read_for_set(card, key)
            if read is None:
                raise CardNotFound
            require_state_allows(Verb.SET_PIN, read.state)
            if isinstance(envelope, BadRequest):
                raise envelope
            if read.request_known:
                return
            change = await self._seal(card, envelope, read, actor)
            if await self._store.change_pin(
                card, read, change, envelope.block_type, envelope.request_key, actor
            ):
                return
        metrics.conflict("d1")
        raise ServiceUnavailable

    async def get_pin(self, card: CardRef, actor: Actor) -> str:
        """Hand out the card's PIN as a compact JWE to D1.

        Raises:
            CardNotFound: the issuer has no such card.
            CardForbids: the card's state hands out no PIN.
            PinUnavailable: the card has no PIN, or one that must not be handed out.
            ServiceUnavailable: vault or database is unavailable.
            StoredValueBroken: the stored PIN is not the newest, or not the one stored.
        """
        read = await self._store.read_for_get(card)
        if read is None:
            raise CardNotFound
        require_state_allows(Verb.GET_PIN, read.state)
        sealed_pin = readable(read)
        try:
            handed_out = await called(
                self._vault, ExportJwe(sealed_pin, read.sealed_record, card, read.counter)
            )
        except ServiceUnavailable as error:
            await self._audit.failed(card, Verb.GET_PIN, error, actor)
            raise
        await self._audit.handed_out(card, read.counter, handed_out.receipt, actor)
        return handed_out.value

    async def change_counter(self, card: CardRef) -> int:
        """Count the card's committed PIN changes.

        Raises:
            CardNotFound: the issuer has no such card.
            CardForbids: the card is closed.
            ServiceUnavailable: the database is unavailable.
        """
        read = await self._store.read_counter(card)
        if read is None:
            raise CardNotFound
        state, counter = read
        require_state_allows(Verb.READ_COUNTER, state)
        return counter

    async def activate(self, card: CardRef, actor: Actor) -> None:
        """Make the card active; an active one stays so.

        Raises:
            CardNotFound: the issuer has no such card.
            CardForbids: the card is blocked or closed.
            ServiceUnavailable: the database is unavailable.
        """
        state = await self._store.activate(card, actor)
        if state is None:
            raise CardNotFound
        require_state_allows(Verb.ACTIVATE, state)

    async def _seal(
        self, card: CardRef, envelope: PinEnvelope, read: CardToChange, actor: Actor
    ) -> SealedChange:
        return await called(
            self._vault,
            SetPinFromJwe(
                envelope.jwe,
                envelope.block_type,
                card,
                read.sealed_record,
                read.counter + 1,
                actor.client_id,
            ),
        )

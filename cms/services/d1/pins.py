"""Set, hand out and count the PIN of a card; activate a card. No clear PIN passes here."""

import asyncio
import logging
from dataclasses import dataclass
from typing import Final
from weakref import WeakValueDictionary

from cms.domain.cards import Verb, require_state_allows
from cms.domain.errors import (
    BadRequest,
    CardNotFound,
    PinForbidden,
    PinRefused,
    Refusal,
    ServiceUnavailable,
    TooManyFailures,
)
from cms.domain.limits import CHANGE_TRIES_MAX, Tally
from cms.domain.records import Actor, CardToChange
from cms.persistence.store import Store
from cms.services.audit import Audit
from cms.services.vault import in_vault, readable
from hsm.manifest.policy import PolicyBody
from hsm.port import CardRef, PinBlockType, SealedChange
from hsm.worker_thread import WorkerThread

TALLIES: Final = {PinBlockType.ISO0: Tally.ISO0, PinBlockType.SECCOS: Tally.SECCOS}
#: What a client that may send PINs in a form never has to: a block for another PAN, and SECCOS
#: without its keys.
CLIENTS_FAULT: Final = {
    PinBlockType.ISO0: Refusal.WRONG_PIN_DATA,
    PinBlockType.SECCOS: Refusal.NOT_GENUINE,
}
CARD_REFUSED: Final = {
    Tally.ISO0: "iso0.card_refused",
    Tally.POLICY: "iso0.card_refused",
    Tally.SECCOS: "seccos.card_refused",
}
CLIENT_LIMITED: Final = {Tally.ISO0: "alarm.iso0_client", Tally.SECCOS: "alarm.seccos_client"}
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PinEnvelope:
    """A PIN as it arrived: *request_key* is the digest of the JWE's decoded parts."""

    block_type: PinBlockType
    jwe: str
    request_key: bytes


class Pins:
    """The PIN use cases over one store and one vault."""

    def __init__(self, store: Store, worker_thread: WorkerThread, audit: Audit) -> None:
        self._store = store
        self._audit = audit
        self._worker_thread = worker_thread
        self._turns = WeakValueDictionary[CardRef, asyncio.Lock]()

    async def set_pin(
        self, policy: PolicyBody, card: CardRef, envelope: PinEnvelope | BadRequest, actor: Actor
    ) -> None:
        """Replace the card's PIN; an envelope that was accepted before changes nothing.

        Args:
            policy: that of the caller's issuer: how many failures are too many.
            card: the card.
            envelope: what arrived. One that could not be read is refused only after the card
                was checked, so that the order of answers holds.
            actor: for the audit.

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
            ServiceUnavailable: vault or database is unavailable, or the card was changed by
                others at each of three tries.
            StoredValueBroken: the stored PAN is not the one stored.
        """
        if isinstance(envelope, BadRequest):
            return await self._set_pin(policy, card, envelope, actor)
        # Each of these may be a guess at PAN or PIN, and a guess counts once it failed. Guesses
        # that are sent at once must not all be made before the first is counted: a process makes
        # one of a card at a time, so there are at most as many beyond the limit as there are other
        # processes.
        async with self._turns.setdefault(card, asyncio.Lock()):
            try:
                await self._set_pin(policy, card, envelope, actor)
            except (PinRefused, PinForbidden) as error:
                await self._count(error, envelope.block_type, policy, card, actor)
                raise

    async def _set_pin(
        self, policy: PolicyBody, card: CardRef, envelope: PinEnvelope | BadRequest, actor: Actor
    ) -> None:
        key = envelope.request_key if isinstance(envelope, PinEnvelope) else None
        for _ in range(CHANGE_TRIES_MAX):
            read = await self._store.read_for_set(card, key, actor, policy)
            if read is None:
                raise CardNotFound
            require_state_allows(Verb.SET_PIN, read.state)
            if isinstance(envelope, BadRequest):
                raise envelope
            if read.request_known:
                return
            _require_trust(envelope.block_type, read)
            change = await self._seal(card, envelope, read)
            if await self._store.change_pin(
                card, read, change, envelope.block_type, envelope.request_key, actor
            ):
                return
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
            handed_out = await in_vault(
                self._worker_thread,
                lambda vault: vault.export_jwe(sealed_pin, read.sealed_record, card, read.counter),
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

    async def _seal(self, card: CardRef, envelope: PinEnvelope, read: CardToChange) -> SealedChange:
        return await in_vault(
            self._worker_thread,
            lambda vault: vault.set_pin_from_jwe(
                envelope.jwe,
                envelope.block_type,
                card,
                read.sealed_record,
                read.counter + 1,
            ),
        )

    async def _count(
        self,
        error: PinRefused | PinForbidden,
        form: PinBlockType,
        limits: PolicyBody,
        card: CardRef,
        actor: Actor,
    ) -> None:
        """Count a failure against those it speaks of, and say so when it is one too many."""
        refusal = error.refusal if isinstance(error, PinRefused) else None
        if refusal is Refusal.WRONG_PIN_DATA:
            await self._count_card(TALLIES[form], limits.failures_card_max, card)
        if isinstance(error, PinForbidden) and form is PinBlockType.ISO0:
            await self._count_card(Tally.POLICY, limits.refusals_card_max, card)
        if refusal is CLIENTS_FAULT[form]:
            await self._count_client(TALLIES[form], limits.failures_client_max, card, actor)

    async def _count_card(self, tally: Tally, failures_max: int, card: CardRef) -> None:
        if await self._store.count_card_failure(card, tally, failures_max):
            log.warning(
                CARD_REFUSED[tally],
                extra={
                    "issuer_id": card.issuer_id,
                    "card_id": card.card_id,
                    "count": failures_max,
                },
            )

    async def _count_client(
        self, tally: Tally, failures_max: int, card: CardRef, actor: Actor
    ) -> None:
        if await self._store.count_client_failure(
            card.issuer_id, actor.client_id, tally, failures_max
        ):
            log.error(
                CLIENT_LIMITED[tally],
                extra={
                    "issuer_id": card.issuer_id,
                    "client_id": actor.client_id,
                    "count": failures_max,
                },
            )


def _require_trust(form: PinBlockType, read: CardToChange) -> None:
    """Let a PIN pass in a form in which client and card have not failed too often.

    Raises:
        TooManyFailures: the client has.
        PinRefused: the card has; nobody is told.
    """
    if form in read.limited:
        raise TooManyFailures
    if form in read.refused:
        raise PinRefused(Refusal.CARD_REFUSED)

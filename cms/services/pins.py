"""Set, hand out and count the PIN of a card; activate a card. No clear PIN passes here."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from cms.domain.cards import Verb, permit
from cms.domain.errors import (
    BadRequest,
    CardNotFound,
    PinForbidden,
    PinRefused,
    PinUnavailable,
    TryLater,
    TypeNotOffered,
)
from cms.persistence.store import Actor, CardToChange, CardToRead, Store
from cms.services.directory import Issuer
from hsm.errors import (
    ConfigRefused,
    PinRejected,
    SealBroken,
    VaultUnavailable,
    WeakPinRefused,
)
from hsm.errors import TypeNotOffered as VaultTypeNotOffered
from hsm.lane import Lane
from hsm.port import CardRef, PinBlockType, PinVault, SealedPin

TRIES: Final = 3
T = TypeVar("T")
log = logging.getLogger(__name__)


class SealAlarm(Exception):
    """A stored value is not what was stored: tampering or a broken database. Never a wrong PIN."""


@dataclass(frozen=True, slots=True)
class PinEnvelope:
    """A PIN as it arrived: *request_key* is the digest of the JWE's decoded parts."""

    block_type: PinBlockType
    jwe: str
    request_key: bytes


class Pins:
    """The PIN use cases over one store and one vault."""

    def __init__(self, store: Store, lane: Lane) -> None:
        self._store = store
        self._lane = lane

    async def set_pin(
        self, issuer: Issuer, card: CardRef, envelope: PinEnvelope | BadRequest, actor: Actor
    ) -> None:
        """Replace the card's PIN; an envelope that was accepted before changes nothing.

        Args:
            issuer: the caller's issuer.
            card: the card.
            envelope: what arrived. One that could not be read is refused only after the card
                was checked, so that the order of answers holds.
            actor: for the audit.

        Raises:
            CardNotFound, CardForbids, BadRequest, TypeNotOffered, PinRefused, PinForbidden,
            TryLater: as their names say.
        """
        key = envelope.request_key if isinstance(envelope, PinEnvelope) else None
        for _ in range(TRIES):
            read = await self._store.read_for_set(card, key)
            if read is None:
                raise CardNotFound
            permit(Verb.SET_PIN, read.state)
            if isinstance(envelope, BadRequest):
                raise envelope
            if read.request_known:
                return
            sealed_pin = await self._seal(issuer, card, envelope, read)
            if await self._store.change_pin(
                card, read, sealed_pin, envelope.block_type, envelope.request_key, actor
            ):
                return
        raise TryLater

    async def get_pin(self, issuer: Issuer, card: CardRef, actor: Actor) -> str:
        """Hand out the card's PIN as a compact JWE to D1.

        Raises:
            CardNotFound, CardForbids, PinUnavailable, TryLater: as their names say.
            SealAlarm: the stored PIN is not the newest, or not the one stored.
        """
        read = await self._store.read_for_get(card, actor)
        if read is None:
            raise CardNotFound
        permit(Verb.GET_PIN, read.state)
        sealed_pin = _readable(read)
        return await self._vault(
            lambda vault: vault.export_jwe(
                sealed_pin, read.sealed_pan, issuer.config, card, read.counter
            )
        )

    async def change_counter(self, card: CardRef) -> int:
        """Count the card's committed PIN changes.

        Raises:
            CardNotFound, CardForbids, TryLater: as their names say.
        """
        read = await self._store.read_counter(card)
        if read is None:
            raise CardNotFound
        state, counter = read
        permit(Verb.READ_COUNTER, state)
        return counter

    async def activate(self, card: CardRef, actor: Actor) -> None:
        """Make the card active; an active one stays so.

        Raises:
            CardNotFound, CardForbids, TryLater: as their names say.
        """
        state = await self._store.activate(card, actor)
        if state is None:
            raise CardNotFound
        permit(Verb.ACTIVATE, state)

    async def _seal(
        self, issuer: Issuer, card: CardRef, envelope: PinEnvelope, read: CardToChange
    ) -> SealedPin:
        return await self._vault(
            lambda vault: vault.set_pin_from_jwe(
                envelope.jwe,
                envelope.block_type,
                issuer.config,
                card,
                read.sealed_pan,
                read.counter + 1,
            )
        )

    async def _vault(self, verb: Callable[[PinVault], T]) -> T:
        """Run a vault verb and say its failures in words of the domain."""
        try:
            return await self._lane.call(verb)
        except PinRejected:
            raise PinRefused from None
        except WeakPinRefused:
            raise PinForbidden from None
        except VaultTypeNotOffered:
            raise TypeNotOffered from None
        except SealBroken:
            raise SealAlarm from None
        except ConfigRefused as error:
            log.error("config.refused", extra={"reason": str(error)})  # noqa: TRY400 - no traceback
            raise TryLater from None
        except VaultUnavailable as error:
            log.warning("vault.unavailable", extra={"reason": str(error)})
            raise TryLater from None


def _readable(read: CardToRead) -> SealedPin:
    if read.sealed_pin is None or read.pin_type is not PinBlockType.ISO0:
        raise PinUnavailable
    if read.counter != read.newest:
        raise SealAlarm
    return read.sealed_pin

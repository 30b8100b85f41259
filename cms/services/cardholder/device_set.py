"""A PIN that a cardholder's device sends under a key made for it, through its issuer's server.

Neither the server nor this process can read it. The first PIN that is stored consumes the control
id; whatever else comes of a block ends it, so that nobody tries another.
"""

from contextlib import suppress

from cms import metrics
from cms.domain.cards import Verb
from cms.domain.control import Grant, canonical, require_cardholder_may
from cms.domain.errors import (
    CardNotFound,
    DomainError,
    ServiceUnavailable,
    StoredValueBroken,
)
from cms.domain.limits import CHANGE_TRIES_MAX
from cms.domain.records import Actor, CardToChange
from cms.persistence.control_store import ControlStore
from cms.persistence.store import Store
from cms.services.audit import Audit
from cms.services.vault import called
from hsm.client import VaultCalls
from hsm.messages import MakeDeviceKey, SetPinFromDevice
from hsm.port import CardRef, Face, Purpose


class DeviceSet:
    """Takes PINs from devices at the pincontrol face."""

    def __init__(
        self, control_store: ControlStore, store: Store, vault: VaultCalls, audit: Audit
    ) -> None:
        self._control_store = control_store
        self._store = store
        self._vault = vault
        self._audit = audit

    async def key(self, control_id: str, grant: Grant, public_key: bytes, actor: Actor) -> bytes:
        """Make a key for the device that has *public_key*, and return it enciphered to that.

        The control id stays as it is; a key before this one is no longer good.

        Args:
            control_id: a live one to set a PIN.
            grant: what it is good for.
            public_key: DER.
            actor: for the audit.

        Raises:
            CardNotFound: the card was deleted.
            ControlEnded: the control id is over, or had as many keys as it may have.
            CardForbids: the card takes no PIN.
            TypeNotOffered: the issuer has no PKI on.
            ServiceUnavailable: database or vault are unavailable.
            StoredValueBroken: what is stored is not what was stored.
        """
        card = CardRef(grant.issuer_id, grant.card_id)
        try:
            read = await self._card(card)
            made = await called(
                self._vault,
                MakeDeviceKey(
                    *(grant.sealed_grant, canonical(control_id), public_key, read.sealed_record)
                ),
            )
            await self._control_store.keep_tzpk(control_id, made.sealed_tzpk, actor)
        except DomainError as error:
            await self._not_done(card, error, actor)
            raise
        return made.tzpk

    async def set_pin(self, control_id: str, grant: Grant, block: bytes, actor: Actor) -> None:
        """Store a PIN, and consume the control id; after a failure it is over too.

        Where database or vault are unavailable it may be sent again while the control id lives.

        Raises:
            CardNotFound: the card was deleted.
            ControlEnded: the control id is over, or no device has a key for it.
            LimitReached: there were as many as may be on a day.
            ValueNotPossible, CounterExhausted: as the vault says.
            CardForbids: the card takes no PIN.
            TypeNotOffered: the issuer has no PKI on.
            PinRefused: the block cannot be used.
            PinForbidden: the policy forbids the PIN.
            TooManyFailures: too many blocks of the client could not be used.
            ServiceUnavailable: database or vault are unavailable.
            StoredValueBroken: what is stored is not what was stored.
        """
        card = CardRef(grant.issuer_id, grant.card_id)
        try:
            await self._store_pin(control_id, grant, card, block, actor)
        except ServiceUnavailable:
            raise
        except DomainError as error:
            with suppress(ServiceUnavailable):  # it ends by its time
                await self._control_store.end_token(control_id)
            await self._not_done(card, error, actor)
            raise

    async def _store_pin(
        self, control_id: str, grant: Grant, card: CardRef, block: bytes, actor: Actor
    ) -> None:
        for _ in range(CHANGE_TRIES_MAX):
            sealed_tzpk = await self._control_store.read_tzpk(control_id)
            read = await self._card(card)
            change = await called(
                self._vault,
                SetPinFromDevice(
                    *(grant.sealed_grant, canonical(control_id), sealed_tzpk),
                    *(block, read.sealed_record),
                ),
            )
            if await self._control_store.change_pin_from_device(
                *(card, read, change, control_id, actor)
            ):
                return
        metrics.conflict(Face.PINCONTROL)
        raise ServiceUnavailable

    async def _card(self, card: CardRef) -> CardToChange:
        read = await self._store.read_for_set(card, None)
        if read is None:
            raise CardNotFound
        require_cardholder_may(
            Face.PINCONTROL, Purpose.SET, read.state, personalised=read.personalised
        )
        return read

    async def _not_done(self, card: CardRef, error: DomainError, actor: Actor) -> None:
        if isinstance(error, StoredValueBroken):
            await self._audit.failed(card, Verb.SET_PIN, error, actor)
        elif not isinstance(error, ServiceUnavailable):
            await self._audit.refused(card.issuer_id, card.card_id, Verb.SET_PIN, error, actor)

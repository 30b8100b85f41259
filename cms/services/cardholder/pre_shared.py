"""PINs that an issuer's own server sees: blocks under a key that it shares with the vault.

The vault wants its password too, so that this process alone shows and sets no PIN.
"""

from dataclasses import dataclass

from cms import metrics
from cms.domain.cards import Verb
from cms.domain.control import require_cardholder_may
from cms.domain.errors import (
    CardNotFound,
    DomainError,
    Invalid,
    ServiceUnavailable,
    StoredValueBroken,
    TypeNotOffered,
)
from cms.domain.limits import CHANGE_TRIES_MAX
from cms.domain.records import Actor
from cms.persistence.control_store import ControlStore
from cms.persistence.store import Store
from cms.services.audit import Audit
from cms.services.cardholder.apps import ServerApp
from cms.services.vault import called, readable
from crypto.secret import Secret
from hsm.client import VaultCalls
from hsm.messages import ExportServerBlock, SetPinFromServer
from hsm.port import CardRef, Face, Purpose

FACE = Face.PINCONTROL


@dataclass(frozen=True, slots=True)
class ServerAsking:
    """An issuer's own server, and for which plastic and under which key it asks."""

    app: ServerApp
    password: Secret[str]
    plastic_id: str
    """As :func:`cms.domain.cards.parse_plastic_id` returns it."""
    zpk_index: str
    actor: Actor


class PreSharedKey:
    """The PIN operations under pre-shared keys."""

    def __init__(
        self, control_store: ControlStore, store: Store, vault: VaultCalls, audit: Audit
    ) -> None:
        self._control_store = control_store
        self._store = store
        self._vault = vault
        self._audit = audit

    async def view(self, asking: ServerAsking) -> bytes:
        """Hand out the PIN of a plastic: a block of 8 bytes.

        Raises:
            TypeNotOffered: the server has no pre-shared key.
            Invalid: it has none of this index.
            CardNotFound, EvidenceRefused: the issuer has no such plastic.
            CardForbids: its state does not allow this.
            PinUnavailable: it has no PIN that may be shown.
            LimitReached: there were as many as may be on a day.
            ServiceUnavailable: database or vault are unavailable.
            StoredValueBroken: what is stored is not what was stored.
        """
        found: CardRef | None = None
        try:
            _require_key(asking)
            found = await self._plastic(asking)
            read = await self._store.read_for_get(found)
            if read is None:
                raise CardNotFound
            # Whether it is personalised says nothing about seeing a PIN.
            require_cardholder_may(FACE, Purpose.VIEW, read.state, personalised=True)
            sealed_pin = readable(read)
            handed_out = await called(
                self._vault,
                ExportServerBlock(
                    asking.actor.client_id,
                    asking.password,
                    asking.plastic_id,
                    asking.zpk_index,
                    *(found, sealed_pin, read.sealed_record, read.counter),
                ),
            )
        except DomainError as error:
            await self._not_done(asking, found, Verb.GET_PIN, error)
            raise
        await self._audit.handed_out(
            *(found, read.counter, handed_out.receipt, asking.actor),
            f"{FACE} pre-shared key",
        )
        return handed_out.value

    async def set_pin(self, asking: ServerAsking, block: bytes) -> None:
        """Store the PIN of a plastic.

        Raises:
            TypeNotOffered: the server has no pre-shared key.
            Invalid: it has none of this index.
            CardNotFound, EvidenceRefused: the issuer has no such plastic.
            CardForbids: its state does not allow this, or it is personalised.
            PinRefused: the block cannot be used.
            PinForbidden: the policy forbids the PIN.
            TooManyFailures: too many blocks of the client could not be used.
            LimitReached: there were as many as may be on a day.
            ServiceUnavailable: database or vault are unavailable.
            StoredValueBroken: what is stored is not what was stored.
        """
        found: CardRef | None = None
        try:
            _require_key(asking)
            found = await self._plastic(asking)
            await self._store_pin(asking, found, block)
        except DomainError as error:
            await self._not_done(asking, found, Verb.SET_PIN, error)
            raise

    async def _store_pin(self, asking: ServerAsking, card: CardRef, block: bytes) -> None:
        for _ in range(CHANGE_TRIES_MAX):
            read = await self._store.read_for_set(card, None)
            if read is None:
                raise CardNotFound
            require_cardholder_may(FACE, Purpose.SET, read.state, personalised=read.personalised)
            change = await called(
                self._vault,
                SetPinFromServer(
                    asking.actor.client_id,
                    asking.password,
                    asking.plastic_id,
                    asking.zpk_index,
                    block,
                    *(card, read.sealed_record, read.counter + 1),
                ),
            )
            if await self._control_store.change_pin_from_server(card, read, change, asking.actor):
                return
        metrics.conflict(Face.PINCONTROL)
        raise ServiceUnavailable

    async def _plastic(self, asking: ServerAsking) -> CardRef:
        issuer_id = asking.app.manifest.issuer_id
        plastic = await self._control_store.plastic(issuer_id, asking.plastic_id)
        return CardRef(plastic.issuer_id, plastic.card_id)

    async def _not_done(
        self, asking: ServerAsking, card: CardRef | None, verb: Verb, error: DomainError
    ) -> None:
        """Audit what was refused; of what failed, that a PIN might have been handed out."""
        failed = isinstance(error, StoredValueBroken) or (
            isinstance(error, ServiceUnavailable) and verb is Verb.GET_PIN
        )
        if failed and card is not None:
            await self._audit.failed(card, verb, error, asking.actor)
        elif not isinstance(error, ServiceUnavailable):
            issuer_id = asking.app.manifest.issuer_id
            card_id = None if card is None else card.card_id
            await self._audit.refused(issuer_id, card_id, verb, error, asking.actor)


def _require_key(asking: ServerAsking) -> None:
    """Refuse what the vault would refuse too, and say why."""
    client_id, operations = asking.app.client.client_id, asking.app.manifest.pin_operations
    if not operations.has_keys(client_id):
        raise TypeNotOffered
    if operations.generation(client_id, asking.zpk_index) is None:
        raise Invalid(("zpkIndex", "names no key of this server"))

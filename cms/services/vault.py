"""Calling the vault, and what its refusals mean in words of the domain."""

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, TypeVar

import hsm.errors
from cms.domain.errors import (
    ControlEnded,
    CounterExhausted,
    DomainError,
    EvidenceRefused,
    LimitReached,
    PinForbidden,
    PinRefused,
    PinUnavailable,
    Refusal,
    ServiceUnavailable,
    StepUpRequired,
    StoredValueBroken,
    TooManyFailures,
    TypeNotOffered,
    Unauthorized,
    ValueNotPossible,
)
from cms.domain.records import CardToRead
from hsm.manifest.model import Manifest
from hsm.port import PinBlockType, PinVault, SealedPin
from hsm.worker_thread import WorkerThread

#: What the vault's refusals mean to the caller.
MEANINGS: Final[Mapping[type[hsm.errors.HsmError], Callable[[], DomainError]]] = {
    hsm.errors.PinRejected: PinRefused,
    hsm.errors.NotGenuine: partial(PinRefused, Refusal.NOT_GENUINE),
    hsm.errors.WrongPinData: partial(PinRefused, Refusal.WRONG_PIN_DATA),
    hsm.errors.CardRefusesForm: partial(PinRefused, Refusal.CARD_REFUSED),
    hsm.errors.ClientLimited: TooManyFailures,
    hsm.errors.WeakPinRefused: PinForbidden,
    hsm.errors.TypeNotOffered: TypeNotOffered,
    hsm.errors.ValueNotPossible: ValueNotPossible,
    hsm.errors.CounterExhausted: CounterExhausted,
    hsm.errors.CallerRefused: Unauthorized,
    hsm.errors.BearerRefused: Unauthorized,
    hsm.errors.StepUpMissing: StepUpRequired,
    hsm.errors.EvidenceRefused: EvidenceRefused,
    hsm.errors.GrantRefused: ControlEnded,
    hsm.errors.TextNotOffered: ControlEnded,
    hsm.errors.LimitReached: LimitReached,
    hsm.errors.PageKeyRejected: ControlEnded,
}
T = TypeVar("T")
log = logging.getLogger(__name__)


async def in_vault(worker_thread: WorkerThread, verb: Callable[[PinVault], T]) -> T:
    """Run a vault verb and say its failures in words of the domain.

    Raises:
        DomainError: as :data:`MEANINGS` says; ServiceUnavailable when the vault is unavailable.
        StoredValueBroken: a stored value is not what was stored.
    """
    try:
        return await worker_thread.call(verb)
    except tuple(MEANINGS) as error:
        meaning = MEANINGS[type(error)]()
        meaning.receipt = error.receipt
        raise meaning from None
    except hsm.errors.SealBroken:
        raise StoredValueBroken from None
    except hsm.errors.ManifestRefused as error:
        log.error("manifest.refused", extra={"reason": str(error)})  # noqa: TRY400 - no traceback
        raise ServiceUnavailable from None
    except hsm.errors.VaultUnavailable as error:
        log.warning("vault.unavailable", extra={"reason": str(error)})
        raise ServiceUnavailable from None


def manifest_of(vault: PinVault, issuer_id: str) -> Manifest | None:
    """Return the manifest of an issuer; None: this host never had one.

    Raises:
        ManifestRefused: it is not in force now.
    """
    return vault.read_manifest(issuer_id) if vault.manifest_version(issuer_id) else None


def readable(read: CardToRead) -> SealedPin:
    """Return the sealed PIN of a card that has one to hand out.

    Raises:
        PinUnavailable: it has none.
        StoredValueBroken: it is not the newest.
    """
    if read.sealed_pin is None or read.pin_type is not PinBlockType.ISO0:
        raise PinUnavailable
    if read.counter != read.newest:
        raise StoredValueBroken
    return read.sealed_pin

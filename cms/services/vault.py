"""Calling the vault, and what its refusals mean in words of the domain."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
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
from hsm.client import VaultCalls
from hsm.messages import Verb
from hsm.port import PinBlockType, SealedPin

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


async def called(vault: VaultCalls, message: Verb[T]) -> T:
    """Call a verb of the vault and say its failures in words of the domain.

    Raises:
        DomainError: as :data:`MEANINGS` says; ServiceUnavailable when the vault is unavailable,
            or of another release.
        StoredValueBroken: a stored value is not what was stored.
    """
    with in_words_of_the_domain():
        return await vault.call(message)


@contextmanager
def in_words_of_the_domain() -> Iterator[None]:
    """Say failures of the vault in words of the domain.

    Raises:
        DomainError: as :func:`called` does.
    """
    try:
        yield
    except tuple(MEANINGS) as error:
        meaning = MEANINGS[type(error)]()
        meaning.receipt = error.receipt
        raise meaning from None
    except hsm.errors.SealBroken:
        raise StoredValueBroken from None
    except hsm.errors.ManifestRefused as error:
        log.error("manifest.refused", extra={"reason": str(error)})  # noqa: TRY400 - no traceback
        raise ServiceUnavailable from None
    except hsm.errors.MessageRefused as error:
        # Web and vault of one release understand one another.
        log.error("vault.message_refused", extra={"reason": str(error)})  # noqa: TRY400 - as above
        raise ServiceUnavailable from None
    except hsm.errors.VaultUnavailable as error:
        log.warning("vault.unavailable", extra={"reason": str(error)})
        raise ServiceUnavailable from None


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

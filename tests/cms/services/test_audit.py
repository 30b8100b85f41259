"""What the audit says of a refusal, whichever face it happened at."""

import pytest

from cms.domain import errors
from cms.domain.errors import (
    ClientKeyInvalid,
    ClientKeyMissing,
    DomainError,
    PinRefused,
    Refusal,
    Unauthorized,
)
from cms.services.audit import REASONS, Reason, reason_of

#: Nobody is known yet whose audit it would be; or it is no refusal.
NOT_AUDITED = {
    ClientKeyInvalid,
    ClientKeyMissing,
    Unauthorized,
}


def test_every_refusal_has_a_reason() -> None:
    kinds = {
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, DomainError) and kind is not DomainError
    }
    assert REASONS.keys() == kinds - NOT_AUDITED


@pytest.mark.parametrize("refusal", Refusal)
def test_a_seccos_pin_is_refused_for_a_reason_of_its_own(refusal: Refusal) -> None:
    assert reason_of(PinRefused(refusal)) == refusal.value


def test_other_refusals_are_named_for_their_kind() -> None:
    assert reason_of(PinRefused()) == "PIN_REFUSED"
    assert reason_of(Reason.CANCELLED) == "CANCELLED"

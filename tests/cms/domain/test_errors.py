"""Every way to fail has an answer on the wire, and none carries a value."""

import pytest

from cms.domain import errors
from cms.domain.errors import (
    BadRequest,
    ClientKeyInvalid,
    ClientKeyMissing,
    ControlEnded,
    DomainError,
    EvidenceRefused,
    Field,
    Invalid,
    LimitReached,
    StepUpRequired,
)
from cms.faces.d1.problems import WIRE

#: No call of D1 ends in one of these.
OF_CARDHOLDERS = {
    *(ClientKeyInvalid, ClientKeyMissing, ControlEnded),
    *(EvidenceRefused, Invalid, LimitReached, StepUpRequired),
}
KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type)
    and issubclass(kind, DomainError)
    and kind not in {DomainError, *OF_CARDHOLDERS}
]


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_has_an_answer(kind: type[DomainError]) -> None:
    status, code, _ = WIRE[kind]
    assert status in {400, 401, 403, 404, 429, 500, 503}
    assert code == code.upper()


def test_no_answer_is_for_an_error_that_does_not_exist() -> None:
    assert WIRE.keys() == set(KINDS)


def test_a_bad_request_names_a_part_of_the_request_and_nothing_it_held() -> None:
    error = BadRequest(Field.TYPE)
    assert error.field == "type"
    assert error.args == ()
    assert str(error) == ""

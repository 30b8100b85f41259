"""Whether a control token is issued: the card's state, then its PIN, then what its issuer asks."""

from collections.abc import Mapping
from itertools import product

import pytest

from cms.domain.cards import CardState
from cms.domain.control import Face, Purpose
from cms.domain.errors import CardForbids, DomainError, PinUnavailable, ValueNotPossible
from cms.domain.records import IssuerRecord
from cms.services.cardholder.permission import require_token_allowed, takes_pins
from cms.services.directory import Issuer
from hsm.port import ConfigKind
from tests.issuer_records import config

VIEW, SET = Purpose.VIEW, Purpose.SET
BOTH: dict[ConfigKind, object] = {
    ConfigKind.SECCOS: {},
    ConfigKind.VERIFICATION: {"prw": True},
}


def issuer(bodies: Mapping[ConfigKind, object]) -> Issuer:
    sealed = {kind: config("testbank01", kind, body) for kind, body in bodies.items()}
    return Issuer.from_record("testbank01", IssuerRecord([], sealed))


@pytest.mark.parametrize(
    ("bodies", "takes"),
    [
        ({}, True),
        ({ConfigKind.SECCOS: {}}, True),
        ({ConfigKind.VERIFICATION: {"prw": True}}, True),
        (BOTH, False),
        (BOTH | {ConfigKind.VERIFICATION: {"prw": False}}, True),
        (BOTH | {ConfigKind.VERIFICATION: {"none such": 1}}, True),
        (BOTH | {ConfigKind.SECCOS: {"none such": 1}}, True),
    ],
)
def test_only_where_d1_makes_the_prw_that_is_asked_for_no_pin_is_taken(
    bodies: Mapping[ConfigKind, object], takes: bool
) -> None:
    assert takes_pins(issuer(bodies)) is takes


@pytest.mark.parametrize(
    ("purpose", "state", "pin_type", "bodies", "personalised", "refusal"),
    [
        (VIEW, "active", "ISO0", {}, True, None),
        (VIEW, "active", "ISO0", BOTH, True, None),
        (VIEW, "active", None, {}, False, PinUnavailable),
        (VIEW, "active", "SECCOS", {}, False, PinUnavailable),
        (VIEW, "blocked", None, {}, False, CardForbids),
        (SET, "active", None, {}, False, None),
        (SET, "inactive", "SECCOS", {}, False, None),
        (SET, "active", None, BOTH, False, ValueNotPossible),
        (SET, "active", None, BOTH, True, CardForbids),
        (SET, "closed", None, BOTH, False, CardForbids),
    ],
)
def test_the_first_thing_that_forbids_is_told(
    purpose: Purpose,
    state: str,
    pin_type: str | None,
    bodies: Mapping[ConfigKind, object],
    personalised: bool,
    refusal: type[DomainError] | None,
) -> None:
    asked = (issuer(bodies), Face.PINCONTROL, purpose, CardState(state), pin_type)
    if refusal is None:
        require_token_allowed(*asked, personalised=personalised)
        return
    with pytest.raises(refusal):
        require_token_allowed(*asked, personalised=personalised)


@pytest.mark.parametrize(("pin_type", "personalised"), [*product([None, "ISO0"], [False, True])])
def test_the_hosted_face_does_not_ask_whether_a_card_is_personalised(
    pin_type: str | None, personalised: bool
) -> None:
    require_token_allowed(
        issuer({}), Face.HOSTED, SET, CardState.ACTIVE, pin_type, personalised=personalised
    )

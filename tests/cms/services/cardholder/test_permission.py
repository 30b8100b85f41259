"""Whether a control token is issued: the card's state, then its PIN, then what its issuer asks."""

from collections.abc import Mapping
from itertools import product

import pytest

from cms.domain.cards import CardState
from cms.domain.errors import CardForbids, DomainError, PinUnavailable, ValueNotPossible
from cms.services.cardholder.permission import require_token_allowed, takes_pins
from hsm.manifest.model import Manifest, parse
from hsm.port import Face, Purpose
from tests.operators import manifest

VIEW, SET = Purpose.VIEW, Purpose.SET
BOTH: dict[str, object] = {"seccos": {}, "verification": {"prw": True}}


def decided(members: Mapping[str, object]) -> Manifest:
    return parse(manifest("testbank01", 1, **members))


@pytest.mark.parametrize(
    ("members", "takes"),
    [
        ({}, True),
        ({"seccos": {}}, True),
        ({"verification": {"prw": True}}, True),
        (BOTH, False),
        (BOTH | {"verification": {"prw": False}}, True),
        (BOTH | {"seccos": {"prw_source": "issuer"}}, True),
    ],
)
def test_only_where_d1_makes_the_prw_that_is_asked_for_no_pin_is_taken(
    members: Mapping[str, object], takes: bool
) -> None:
    assert takes_pins(decided(members)) is takes


@pytest.mark.parametrize(
    ("purpose", "state", "pin_type", "members", "personalised", "refusal"),
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
    members: Mapping[str, object],
    personalised: bool,
    refusal: type[DomainError] | None,
) -> None:
    asked = (decided(members), Face.PINCONTROL, purpose, CardState(state), pin_type)
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
        decided({}), Face.HOSTED, SET, CardState.ACTIVE, pin_type, personalised=personalised
    )

"""What a feed says of a card beside its record."""

from collections.abc import Mapping
from itertools import product

import pytest

from cms.domain.cards import CardState, CardType
from cms.operator.card_import import MEMBERS, Details
from hsm.errors import CardRefused
from hsm.feed_cards import OTHER_MEMBERS

FULL: Mapping[str, str | bool] = {
    "state": "active",
    "cardType": "METAL",
    "personalised": False,
    "encryptedPinBlock": "f.g.h.i.j",
    "type": "ISO_0",
    "pinStatus": "W",
}


def test_all_of_it_may_be_said_or_nothing() -> None:
    assert Details.read(FULL) == Details(
        CardState.ACTIVE, CardType.METAL, False, "f.g.h.i.j", "ISO_0", pin_is_made=False
    )
    assert Details.read({}) == Details(None, None, None, None, None, pin_is_made=False)
    assert Details.read({"pinStatus": "D"}).pin_is_made


def test_what_the_vault_passes_on_is_what_is_read() -> None:
    assert {*MEMBERS} == {*OTHER_MEMBERS}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *product(["state", "cardType"], ["", "new", "ACTIVE", "metal", True]),
        *product(["personalised"], ["", "true"]),
        *product(["encryptedPinBlock", "type"], [True, False]),
        *product(["pinStatus"], ["", "S", "d", True]),
    ],
)
def test_a_bad_member_is_named_with_what_it_may_be(name: str, value: str | bool) -> None:
    with pytest.raises(CardRefused) as refused:
        Details.read({**FULL, name: value})
    assert str(refused.value) == f"refused member: {name} ({MEMBERS[name]})"


def test_a_type_without_the_pin_block_that_it_is_of_is_refused() -> None:
    with pytest.raises(CardRefused, match=r"^missing member: encryptedPinBlock \("):
        Details.read({"type": "ISO0"})

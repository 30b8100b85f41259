"""What a card allows its holder: the one table, cell by cell."""

from itertools import product

import pytest

from cms.domain.cards import CardState
from cms.domain.control import STATES, VERBS, require_cardholder_may
from cms.domain.errors import CardForbids
from hsm.port import Face, Purpose

#: Face, purpose, state, whether it is personalised.
ALLOWED = {
    ("hosted", "view", "active", False),
    ("hosted", "view", "active", True),
    ("hosted", "set", "active", False),
    ("hosted", "set", "active", True),
    ("pincontrol", "view", "inactive", False),
    ("pincontrol", "view", "inactive", True),
    ("pincontrol", "view", "active", False),
    ("pincontrol", "view", "active", True),
    ("pincontrol", "set", "inactive", False),
    ("pincontrol", "set", "active", False),
}


@pytest.mark.parametrize(
    ("face", "purpose", "state", "personalised"),
    [*product(Face, Purpose, CardState, [False, True])],
)
def test_each_cell_of_the_table(
    face: Face, purpose: Purpose, state: CardState, personalised: bool
) -> None:
    if (face.value, purpose.value, state.value, personalised) in ALLOWED:
        require_cardholder_may(face, purpose, state, personalised=personalised)
        return
    with pytest.raises(CardForbids):
        require_cardholder_may(face, purpose, state, personalised=personalised)


def test_every_face_has_a_row_for_every_purpose() -> None:
    assert STATES.keys() == {*Face}
    assert VERBS.keys() == {*Purpose}
    assert all({*VERBS.values()} <= rows.keys() for rows in STATES.values())

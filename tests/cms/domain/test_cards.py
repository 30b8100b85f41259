"""The two tables of a card's life."""

import itertools

import pytest

from cms.domain.cards import ALLOWED_STATES, NEXT_STATES, CardState, Verb, require_state_allows
from cms.domain.errors import CardForbids

ALLOWED = {
    Verb.SET_PIN: "active",
    Verb.GET_PIN: "active",
    Verb.READ_COUNTER: "inactive active blocked",
    Verb.ACTIVATE: "inactive active",
}
MOVES = {
    "inactive": "active blocked closed",
    "active": "blocked closed",
    "blocked": "active closed",
    "closed": "",
}


@pytest.mark.parametrize(("verb", "state"), list(itertools.product(Verb, CardState)))
def test_a_verb_passes_in_the_states_that_allow_it(verb: Verb, state: CardState) -> None:
    if state in ALLOWED[verb].split():
        require_state_allows(verb, state)
    else:
        with pytest.raises(CardForbids):
            require_state_allows(verb, state)


def test_every_verb_stands_in_the_table() -> None:
    assert ALLOWED_STATES.keys() == set(Verb)


def test_an_operator_moves_a_card_only_so() -> None:
    assert {state: set(moves) for state, moves in NEXT_STATES.items()} == {
        state: set(moves.split()) for state, moves in MOVES.items()
    }

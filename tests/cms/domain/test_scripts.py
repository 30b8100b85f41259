"""The life of a script."""

from cms.domain.scripts import NEXT_STATES, ScriptState

MOVES = {
    "pending": "built superseded",
    "built": "built delivered confirmed superseded",
    "delivered": "built delivered confirmed superseded",
    "confirmed": "confirmed",
    "superseded": "",
}


def test_a_script_goes_only_so() -> None:
    assert {state: set(moves) for state, moves in NEXT_STATES.items()} == {
        state: set(moves.split()) for state, moves in MOVES.items()
    }


def test_from_everywhere_but_its_ends_a_script_may_be_superseded() -> None:
    ends = {ScriptState.CONFIRMED, ScriptState.SUPERSEDED}
    for state in ScriptState:
        assert (ScriptState.SUPERSEDED in NEXT_STATES[state]) == (state not in ends)

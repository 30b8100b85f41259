"""What a table of key generations may say, and what may follow it."""

import json
from collections.abc import Mapping
from itertools import product

import pytest

from hsm.errors import ManifestRefused
from hsm.manifest.generation_table import (
    SHARED_STATES,
    SHARED_SUCCESSORS,
    SUCCESSORS,
    GenerationTable,
    State,
    parse,
)
from hsm.pkcs11.keys import KeyLabel, KeyRole
from tests.key_tables import FIRST, rotated, table

LATER = "2021-01-01T00:00:00+00:00"
SHARED = "pvk@testbank01.g1"


def refusal(states: Mapping[str, str]) -> str:
    with pytest.raises(ManifestRefused) as refused:
        table(states)
    return str(refused.value)


def test_a_table_is_read_back_from_the_bytes_that_are_signed() -> None:
    text = table(rotated("pin"))
    read = parse(text)
    assert read.canonical() == text
    assert read.active[KeyRole.PIN] == KeyLabel(KeyRole.PIN, 2)
    assert read.states[KeyLabel(KeyRole.PIN_MAC, 1)] is State.DECRYPT_ONLY
    assert json.loads(text)["type"] == "generations"


@pytest.mark.parametrize(
    ("states", "message"),
    [
        ({**FIRST, "d1.g1": "loaded"}, "exactly one active"),
        ({**FIRST, "d1.g2": "active"}, "exactly one active"),
        ({**FIRST, "pin.g2": "loaded"}, "one state"),
        ({**FIRST, "pin-mac.g2": "loaded"}, "one state"),
        ({**FIRST, "pin.g2": "loaded", "pin-mac.g2": "retired"}, "one state"),
        ({**FIRST, "pin.g0": "loaded"}, "no key label"),
        ({**FIRST, "nothing.g1": "loaded"}, "no key label"),
        ({**FIRST, SHARED: "decrypt-only"}, "a shared key is"),
        ({**FIRST, SHARED: "loaded"}, "a shared key is"),
        ({**FIRST, "log-mac.g2": "destroyed"}, "never destroyed"),
    ],
    ids=str,
)
def test_a_table_that_cannot_be_is_refused(states: Mapping[str, str], message: str) -> None:
    assert message in refusal(states)


def after(old: GenerationTable, states: Mapping[str, str], *changed: str) -> None:
    since = dict.fromkeys(changed, LATER)
    parse(table(states, 2, since)).check_follows(old)


@pytest.mark.parametrize(("old", "new"), [*product(State, State)], ids=str)
def test_a_key_becomes_what_it_can(old: State, new: State) -> None:
    """Of a second key of role d1, while a third one is active or gives way to it."""

    def states(second: State) -> Mapping[str, str]:
        first = "decrypt-only" if second is State.ACTIVE else "active"
        return {**FIRST, "d1.g1": first, "d1.g2": second.value}

    before = parse(table(states(old)))
    moved = [] if states(old)["d1.g1"] == states(new)["d1.g1"] else ["d1.g1"]
    changed = ["d1.g2"] if old is not new else []
    if new in SUCCESSORS[old]:
        after(before, states(new), *changed, *moved)
        return
    with pytest.raises(ManifestRefused, match="cannot become"):
        after(before, states(new), *changed, *moved)


def test_nothing_comes_back_that_was_compromised_and_what_was_retired_does() -> None:
    opening = {State.LOADED, State.ACTIVE, State.DECRYPT_ONLY, State.RETIRED}
    for successors in (SUCCESSORS, SHARED_SUCCESSORS):
        assert not successors[State.COMPROMISED] & opening
        assert successors[State.DESTROYED] == {State.DESTROYED}
    assert State.DECRYPT_ONLY in SUCCESSORS[State.RETIRED]
    assert State.ACTIVE in SHARED_SUCCESSORS[State.RETIRED]


@pytest.mark.parametrize(("old", "new"), [*product(sorted(SHARED_STATES), sorted(SHARED_STATES))])
def test_a_shared_key_becomes_what_it_can(old: State, new: State) -> None:
    before = parse(table({**FIRST, SHARED: old}))
    changed = [SHARED] if old != new else []
    if new in SHARED_SUCCESSORS[old]:
        after(before, {**FIRST, SHARED: new}, *changed)
        return
    with pytest.raises(ManifestRefused, match="cannot become"):
        after(before, {**FIRST, SHARED: new}, *changed)


def test_a_table_names_every_key_that_the_one_before_names() -> None:
    with pytest.raises(ManifestRefused, match="leaves out"):
        after(parse(table({**FIRST, SHARED: "compromised"})), FIRST)


def test_a_key_that_no_table_named_is_not_destroyed_at_once() -> None:
    before = parse(table(FIRST))
    after(before, {**FIRST, SHARED: "compromised"}, SHARED)
    with pytest.raises(ManifestRefused, match="does not name"):
        after(before, {**FIRST, SHARED: "destroyed"}, SHARED)


def test_the_date_of_a_state_is_that_of_the_change_to_it() -> None:
    before = parse(table({**FIRST, SHARED: "active"}))
    with pytest.raises(ManifestRefused, match="another date"):
        after(before, {**FIRST, SHARED: "active"}, SHARED)
    # Within the same second.
    after(before, {**FIRST, SHARED: "compromised"})


def with_kcv(states: Mapping[str, str], label: str, kcv: str | None, version: int = 1) -> bytes:
    changed = [x for x, state in states.items() if state == "compromised"] if version > 1 else []
    body = json.loads(table(states, version, dict.fromkeys(changed, LATER)))
    body["generations"][label]["kcv"] = kcv
    return json.dumps(body).encode()


def test_the_kcv_of_a_shared_key_that_is_compromised_stays_in_the_table() -> None:
    before = parse(table({**FIRST, SHARED: "active"}))
    compromised = {**FIRST, SHARED: "compromised"}
    known = parse(with_kcv(compromised, SHARED, "1A2B3C", 2))
    known.check_follows(before)
    known.check_follows(parse(with_kcv(compromised, SHARED, None, 2)))  # it may be found later
    for kcv in (None, "1A2B3D"):
        with pytest.raises(ManifestRefused, match="another KCV"):
            parse(with_kcv(compromised, SHARED, kcv, 2)).check_follows(known)
    for states, label in (({**FIRST, SHARED: "active"}, SHARED), (FIRST, "pin.g1")):
        with pytest.raises(ManifestRefused, match="has the KCV"):
            parse(with_kcv(states, label, "1A2B3C"))
    with pytest.raises(ManifestRefused):
        parse(with_kcv(compromised, SHARED, "1a2b3c", 2))

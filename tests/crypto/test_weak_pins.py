import pytest

from crypto.errors import PinLengthError, WeakPinError
from crypto.types import Pin
from crypto.weak_pins import PinPolicy, check

REPEATED = {"0000", "1111", "2222", "3333", "4444", "5555", "6666", "7777", "8888", "9999"}
ASCENDING = {"0123", "1234", "2345", "3456", "4567", "5678", "6789"}
DESCENDING = {"3210", "4321", "5432", "6543", "7654", "8765", "9876"}


def refused(policy: PinPolicy) -> set[str]:
    weak = set()
    for number in range(10_000):
        text = f"{number:04}"
        try:
            check(Pin(text), policy)
        except WeakPinError:
            weak.add(text)
    return weak


def test_of_all_4_digit_pins_exactly_these_are_weak() -> None:
    assert refused(PinPolicy(4, 12)) == REPEATED | ASCENDING | DESCENDING


def test_each_rule_can_be_turned_off() -> None:
    assert refused(PinPolicy(4, 12, refuse_repeated=False)) == ASCENDING | DESCENDING
    assert refused(PinPolicy(4, 12, refuse_runs=False)) == REPEATED
    assert refused(PinPolicy(4, 12, refuse_repeated=False, refuse_runs=False)) == set()


@pytest.mark.parametrize(
    "text", ["012345", "123456789", "0123456789", "9876543210", "987654", "777777777777"]
)
def test_longer_pins_are_weak_in_the_same_ways(text: str) -> None:
    with pytest.raises(WeakPinError):
        check(Pin(text), PinPolicy(4, 12))


@pytest.mark.parametrize("text", ["7890", "8901", "0987", "1235", "123457", "1123", "777778"])
def test_a_run_is_the_whole_pin_and_ends_at_9_and_0(text: str) -> None:
    check(Pin(text), PinPolicy(4, 12))


@pytest.mark.parametrize(("least", "most"), [(4, 4), (4, 6), (4, 12), (6, 6), (6, 12), (12, 12)])
def test_a_length_outside_the_policy_is_refused(least: int, most: int) -> None:
    accepted = []
    for length in range(4, 13):
        try:
            check(Pin("739182645071"[:length]), PinPolicy(least, most))
        except PinLengthError:
            continue
        accepted.append(length)
    assert accepted == list(range(least, most + 1))


def test_length_is_judged_before_strength() -> None:
    with pytest.raises(PinLengthError):
        check(Pin("1234"), PinPolicy(6, 12))


@pytest.mark.parametrize(("least", "most"), [(3, 6), (4, 13), (6, 5), (0, 0), (-4, 4)])
def test_a_policy_outside_the_standard_cannot_be_made(least: int, most: int) -> None:
    with pytest.raises(ValueError, match="4 <= min <= max <= 12"):
        PinPolicy(least, most)

"""Random PINs: every PIN that a policy takes is drawn as often as any other, counted out."""

from collections import Counter
from collections.abc import Iterator
from itertools import product

import pytest

from crypto import random_pin
from crypto.errors import RandomnessError, WeakPinError
from crypto.types import Pin, Random
from crypto.weak_pins import PinPolicy, check

POLICY = PinPolicy(4, 8)
ALL_TAKEN = PinPolicy(4, 8, refuse_repeated=False, refuse_runs=False)
SPARE = "4071"
"""What is drawn when what came first is refused."""


def giving(*draws: bytes) -> Random:
    """Give these bytes, one after the other, each filled up with bytes that are dropped."""
    left: Iterator[bytes] = iter(draws)
    return lambda size_bytes: next(left).ljust(size_bytes, b"\xff")


def digits(text: str) -> bytes:
    return bytes(map(int, text))


def test_each_digit_has_as_many_bytes_as_any_other_and_six_bytes_are_dropped() -> None:
    drawn: Counter[str] = Counter()
    for byte in range(256):
        pin = random_pin.draw(ALL_TAKEN, giving(bytes([byte]) + digits(SPARE)))
        text = pin.reveal()
        drawn["dropped" if text == SPARE and byte >= 250 else text[0]] += 1
    assert drawn == {**dict.fromkeys("0123456789", 25), "dropped": 6}


def test_each_byte_is_a_digit_of_its_own_wherever_it_stands() -> None:
    for place, byte in product(range(4), range(250)):
        sent = bytearray(digits("4071"))
        sent[place] = byte
        expected = list("4071")
        expected[place] = str(byte % 10)
        assert random_pin.draw(ALL_TAKEN, giving(bytes(sent))).reveal() == "".join(expected)


def test_of_all_pins_each_that_is_taken_comes_once_and_each_weak_one_is_drawn_anew() -> None:
    drawn: Counter[str] = Counter()
    weak = 0
    for number in range(10_000):
        pin = f"{number:04}"
        found = random_pin.draw(POLICY, giving(digits(pin), digits(SPARE))).reveal()
        try:
            check(Pin(pin), POLICY)
        except WeakPinError:
            weak += 1
            # None of its digits is in what is drawn then: no weak PIN makes another one likelier.
            assert found == SPARE
        else:
            drawn[found] += 1
    assert weak == 10 + 14
    assert len(drawn) == 10_000 - weak
    assert {*drawn.values()} == {1}


@pytest.mark.parametrize("length", range(4, 13))
def test_it_has_as_many_digits_as_the_policy_asks_for_at_least(length: int) -> None:
    policy = PinPolicy(length, 12)
    pin = random_pin.draw(policy, lambda size_bytes: bytes(i * 7 % 250 for i in range(size_bytes)))
    assert len(pin.reveal()) == length


def test_too_few_usable_bytes_are_no_shorter_pin() -> None:
    assert random_pin.draw(POLICY, giving(digits("407"), digits(SPARE))).reveal() == SPARE


@pytest.mark.parametrize("byte", [0, 3, 255])
def test_a_source_that_is_stuck_gives_no_pin(byte: int) -> None:
    with pytest.raises(RandomnessError):
        random_pin.draw(POLICY, lambda size_bytes: bytes([byte]) * size_bytes)
    # The control: where the policy takes what it gives, it is a PIN.
    if byte < 250:
        assert random_pin.draw(ALL_TAKEN, lambda size_bytes: bytes([byte]) * size_bytes)

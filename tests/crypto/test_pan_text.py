"""A PAN is found whatever stands between its digits, and honest references are left alone."""

import random
import uuid

import pytest
from hypothesis import given, strategies

from crypto.pan_text import holds_pan, holds_pan_ending, holds_this_pan
from crypto.types import Pan

PAN = "4111111111111111"
SEPARATORS = [
    "",
    " ",
    "-",
    ".",
    "_",
    "/",
    " - ",
    "\u00a0",
    "\u200b",
    "\u2010",
    "\u0301",
    "·",
    "x",
    ", ",
]
WRITINGS = ["0123456789", "\uff10\uff11\uff12\uff13\uff14\uff15\uff16\uff17\uff18\uff19",
            "٠١٢٣٤٥٦٧٨٩", "⁰¹²³⁴⁵⁶⁷⁸⁹"]  # fmt: skip

pans = strategies.from_regex("[1-9][0-9]{12,18}", fullmatch=True).filter(
    lambda digits: Pan(digits).luhn_valid
)


@given(pans, strategies.data())
def test_any_pan_is_found_with_any_separators_in_any_digits(
    digits: str, data: strategies.DataObject
) -> None:
    writing = data.draw(strategies.sampled_from(WRITINGS))
    separators = data.draw(strategies.lists(strategies.sampled_from(SEPARATORS), min_size=19))
    text = "".join(writing[int(d)] + gap for d, gap in zip(digits, separators, strict=False))
    for around in (text, f"clerk {text} asked", f"12{text}7"):
        assert holds_pan(around)
        assert holds_this_pan(around, Pan(digits))


@pytest.mark.parametrize(
    "text", ["", "demo clerk", "4111-1111 1111.1113", "411111111111", "2026-11-27", "\u0663" * 12]
)
def test_what_is_no_pan_is_left_alone(text: str) -> None:
    assert not holds_pan(text)
    assert not holds_this_pan(text, Pan(PAN))


def test_letters_separate_numbers_only_where_they_may() -> None:
    assert holds_pan("41111111x11111111")
    assert not holds_pan("41111111x11111111", across_letters=False)
    assert holds_pan("4111 1111-1111_1111", across_letters=False)


def test_hardly_any_random_uuid_looks_like_a_pan() -> None:
    chance = random.Random(7)
    made = [str(uuid.UUID(int=chance.getrandbits(128), version=4)) for _ in range(10_000)]
    assert sum(holds_pan(text, across_letters=False) for text in made) < 100


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (PAN, True),
        (f"0{PAN}0", True),
        ("4111-1111-1111-1111", True),
        ("4111111111111112", False),
        ("11", False),
        ("1111", False),
        ("auth0|5f7c8ec71111", False),
        ("\uff14" + PAN[1:], True),
        ("", False),
    ],
)
def test_a_text_that_may_contain_the_pan_is_found_by_its_last_four_digits(
    text: str, found: bool
) -> None:
    assert holds_pan_ending(text, "1111") is found

"""A PAN is found whatever stands between its digits, and honest references are left alone."""

import random
import unicodedata
import uuid
from typing import Any

import pytest
from hypothesis import given, strategies

from crypto.pan_text import holds_long_number, holds_pan, holds_pan_ending, holds_this_pan
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


def with_check_digit(payload: str) -> str:
    return next(payload + digit for digit in "0123456789" if Pan(payload + digit).luhn_valid)


pans = strategies.from_regex("[1-9][0-9]{11,17}", fullmatch=True).map(with_check_digit)


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


@given(strategies.from_regex("[0-9]{0,24}", fullmatch=True))
def test_a_number_holds_a_pan_if_13_to_19_digits_in_it_have_a_valid_check_digit(run: str) -> None:
    parts = (run[start:end] for start in range(len(run)) for end in range(start + 13, start + 20))
    whole = [part for part in parts if 13 <= len(part) <= 19 and part[0] != "0"]
    assert holds_pan(run) is any(Pan(part).luhn_valid for part in whole)


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


def test_no_random_uuid_looks_like_a_pan() -> None:
    chance = random.Random(7)
    for _ in range(10_000):
        made = str(uuid.UUID(int=chance.getrandbits(128), version=4))
        assert not holds_pan(f"call {made}", across_letters=False)


def test_what_is_only_written_like_a_uuid_may_be_a_pan() -> None:
    for text in ("41111111-1111-1111-0000-000000000000", f"{PAN}-1111-4111-8111-111111111111"):
        assert holds_pan(text, across_letters=False)


@given(pans, strategies.data())
def test_a_number_as_long_as_a_pan_is_found_in_long_text(
    digits: str, data: strategies.DataObject
) -> None:
    writing = data.draw(strategies.sampled_from(WRITINGS))
    gaps = strategies.sampled_from([gap for gap in SEPARATORS if gap != "x"])
    separators = data.draw(strategies.lists(gaps, min_size=19))
    text = "".join(writing[int(d)] + gap for d, gap in zip(digits, separators, strict=False))
    assert holds_long_number(f"{'a' * 1000}{text}")


def test_no_long_text_is_normalised_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Combining marks in the wrong order take the square of their number, seconds of a header."""
    normalize, lengths = unicodedata.normalize, set()

    def note(form: Any, text: str) -> str:  # noqa: ANN401 - the name of a form
        lengths.add(len(text))
        return normalize(form, text)

    monkeypatch.setattr(unicodedata, "normalize", note)
    marks = "\u0345" * 100 + "\u0300" * 100 + "\u0316" * 100
    assert holds_long_number(f"a{marks}" + "\uff14" * 13)
    assert lengths == {1}


@pytest.mark.parametrize("text", ["", "1" * 12, "123456 a 7890123"])
def test_a_shorter_number_is_not(text: str) -> None:
    assert not holds_long_number(text)


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

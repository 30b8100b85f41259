"""How long, and how much of, what was verified is remembered."""

import pytest

from cms.services import cache
from cms.services.cache import TtlCache


def test_what_is_remembered_is_bounded_and_the_oldest_goes_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [1_700_000_000.0]
    monkeypatch.setattr(cache, "ENTRIES_MAX", 2)
    remembered = TtlCache[str, int](lambda: now[0])
    for number, key in enumerate("abc"):
        remembered.keep(key, number, now[0] + 10)
    assert [remembered.get(key) for key in "abc"] == [None, 1, 2]
    now[0] += 10
    assert [remembered.get(key) for key in "abc"] == [None, None, None]
    assert not remembered._items

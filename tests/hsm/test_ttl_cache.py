"""How long an entry of a TTL cache is found, and how many there are."""

import pytest

from hsm import ttl_cache
from hsm.ttl_cache import TtlCache


def test_a_cache_is_bounded_and_its_oldest_entry_goes_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [1_700_000_000.0]
    monkeypatch.setattr(ttl_cache, "ENTRIES_MAX", 2)
    entries = TtlCache[str, int](lambda: now[0])
    for number, key in enumerate("abc"):
        entries.put(key, number, now[0] + 10)
    assert [entries.get(key) for key in "abc"] == [None, 1, 2]
    now[0] += 10
    assert [entries.get(key) for key in "abc"] == [None, None, None]
    assert not entries._entries

"""Ten unknown control tokens a minute from one address, then it waits."""

from contextlib import suppress

import pytest

from cms.domain.errors import TooManyFailures
from cms.services.cardholder import rate_limit
from cms.services.cardholder.rate_limit import RateLimiter
from tests.cms.services.clock import Clock


@pytest.fixture
def counted(clock: Clock) -> RateLimiter:
    return RateLimiter(clock)


def fail(counted: RateLimiter, address: str, count: int = 10) -> None:
    for _ in range(count):
        counted.check(address)
        counted.failed(address)


def test_the_eleventh_guess_in_a_minute_is_refused(counted: RateLimiter) -> None:
    fail(counted, "192.0.2.1")
    with pytest.raises(TooManyFailures):
        counted.check("192.0.2.1")
    counted.check("192.0.2.2")


def test_the_window_moves(counted: RateLimiter, clock: Clock) -> None:
    fail(counted, "192.0.2.1", 9)
    clock.now += 40
    fail(counted, "192.0.2.1", 1)
    with pytest.raises(TooManyFailures):
        counted.check("192.0.2.1")
    clock.now += 20
    fail(counted, "192.0.2.1", 9)
    with pytest.raises(TooManyFailures):
        counted.check("192.0.2.1")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9"),
        ("192.0.2.1", "::ffff:192.0.2.1"),
        ("unknown", ""),
        # A port behind an address is not part of it.
        ("192.0.2.1:443", "192.0.2.1"),
        ("[2001:db8::1]:443", "2001:db8::2"),
        ("[2001:db8::1]", "2001:db8::2"),
        ("[::ffff:192.0.2.1]:1", "192.0.2.1"),
    ],
)
def test_who_has_many_addresses_or_writes_one_in_many_ways_guesses_no_more_often(
    counted: RateLimiter, one: str, other: str
) -> None:
    fail(counted, one)
    with pytest.raises(TooManyFailures):
        counted.check(other)
    counted.check("2001:db8:1:3::1")
    if other:
        counted.check("")


def test_only_so_many_addresses_are_remembered_those_that_failed_last(
    counted: RateLimiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_limit, "ADDRESSES_MAX", 3)
    for number in range(1, 4):
        fail(counted, f"192.0.2.{number}", 9)
    for number in (1, 3):
        counted.failed(f"192.0.2.{number}")
    fail(counted, "192.0.2.4")
    assert len(counted._failed_at) == 3
    counted.check("192.0.2.2")
    for number in (1, 3, 4):
        with pytest.raises(TooManyFailures):
            counted.check(f"192.0.2.{number}")


def test_memory_is_bounded_however_often_an_address_fails(counted: RateLimiter) -> None:
    for _ in range(1000):
        with suppress(TooManyFailures):
            counted.failed("192.0.2.1")
    assert [len(failed_at) for failed_at in counted._failed_at.values()] == [10]


def test_asking_is_not_remembered(counted: RateLimiter) -> None:
    counted.check("192.0.2.1")
    assert not counted._failed_at


def test_an_eleventh_failure_is_refused_and_not_counted(counted: RateLimiter, clock: Clock) -> None:
    fail(counted, "192.0.2.1")
    clock.now += 59
    with pytest.raises(TooManyFailures):
        counted.failed("192.0.2.1")
    clock.now += 1
    counted.check("192.0.2.1")


def test_failures_at_one_client_are_nothing_to_another(counted: RateLimiter) -> None:
    for _ in range(10):
        counted.failed("192.0.2.1", "a")
    for client_id in ("b", ""):
        counted.check("192.0.2.1", client_id)
    with pytest.raises(TooManyFailures):
        counted.check("192.0.2.1", "a")

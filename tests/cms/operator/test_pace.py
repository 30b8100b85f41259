"""How fast a command calls the vault, with a clock of the test's own."""

from math import inf

from cms.operator.pace import CALL_SECONDS_MAX, REST_CALLS_MAX, Pace

COUNT_MAX = 100


class Clock:
    """Stands still but for calls and rests."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.rests: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.rests.append(seconds)
        self.now += seconds


def call(pace: Pace, clock: Clock, count: int, seconds: float) -> float:
    """Call; return how long the rest after it was."""
    clock.rests.clear()
    with pace.call(count):
        clock.now += seconds
    return sum(clock.rests)


def opened(per_second_max: float = inf) -> tuple[Pace, Clock]:
    clock = Clock()
    return Pace(COUNT_MAX, per_second_max, lambda: clock.now, clock.sleep), clock


def test_a_call_has_as_many_things_as_keep_the_vault_for_a_short_time() -> None:
    pace, clock = opened()
    assert pace.count == 1
    call(pace, clock, 1, CALL_SECONDS_MAX / 8.5)
    assert pace.count == 8
    call(pace, clock, 8, 8 * CALL_SECONDS_MAX / 20.5)
    assert pace.count == 20
    call(pace, clock, 20, 20 * CALL_SECONDS_MAX / 1000)
    assert pace.count == COUNT_MAX


def test_a_slow_hsm_is_asked_for_one_thing_at_a_time() -> None:
    pace, clock = opened()
    call(pace, clock, 1, 20 * CALL_SECONDS_MAX)
    assert pace.count == 1


def test_who_waits_for_nobody_does_not_rest() -> None:
    pace, clock = opened()
    assert [call(pace, clock, 4, 0.004) for _ in range(5)] == [0] * 5
    assert call(pace, clock, 4, 0.0055) == 0


def test_who_waits_for_others_lets_them_be_the_longer_the_more_they_are() -> None:
    pace, clock = opened()
    call(pace, clock, 4, 0.004)
    some, more = call(pace, clock, 4, 0.008), call(pace, clock, 4, 0.012)
    assert 0 < some < more
    # It always goes on, however long it had to wait.
    assert call(pace, clock, 4, 10.0) <= REST_CALLS_MAX * 0.004 * 1.001
    assert call(pace, clock, 4, 0.004) == 0


def test_no_more_things_are_done_in_a_second_than_was_said() -> None:
    pace, clock = opened(per_second_max=100)
    began_at = clock.now
    for _ in range(50):
        call(pace, clock, 10, 0.001)
    assert 500 / (clock.now - began_at) <= 100.001

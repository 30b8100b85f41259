"""What a worker counts goes to the host's file in time, whichever counter it is of."""

from unittest.mock import Mock

import pytest

from hsm.server.start import _flush_if_due


@pytest.mark.parametrize(
    ("waits", "next_seconds"),
    [((None, 3.0), 3.0), ((2.0, 3.0), 2.0), ((2.0, None), 2.0), ((None, None), None)],
)
def test_every_counter_is_asked_and_the_next_one_is_waited_for(
    waits: tuple[float | None, float | None], next_seconds: float | None
) -> None:
    counters = [Mock(flush_if_due=Mock(return_value=seconds)) for seconds in waits]
    assert _flush_if_due(*counters) == next_seconds
    for counter in counters:
        counter.flush_if_due.assert_called_once()

"""The clock that the services are given in tests."""

START = 1_700_000_000


class Clock:
    """Seconds since 1970, as the test says."""

    def __init__(self) -> None:
        self.now = float(START)

    def __call__(self) -> float:
        return self.now

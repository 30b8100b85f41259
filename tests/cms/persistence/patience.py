"""A store that waits: for tests of what does not depend on time, on a machine that is busy."""

import pytest

from cms.persistence import address, connection, pool
from cms.sandbox import HANG_SECONDS


def without_deadlines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the stores that are made from now on wait as long as it takes."""
    for module in (connection, pool):
        monkeypatch.setattr(module, "STATEMENT_SECONDS_MAX", HANG_SECONDS)
    monkeypatch.setattr(pool, "CHECK_SECONDS_MAX", HANG_SECONDS)
    monkeypatch.setattr(pool, "WAIT_SECONDS_MAX", HANG_SECONDS)
    monkeypatch.setattr(connection, "SERVER_STATEMENT_MS_MAX", HANG_SECONDS * 1000)
    monkeypatch.setattr(address, "CONNECT_SECONDS", HANG_SECONDS)

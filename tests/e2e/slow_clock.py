"""A vault on a host whose clock is an hour slow.

``python -m tests.e2e.slow_clock`` is its supervisor, with more words one of its workers.
"""

import sys
from datetime import UTC, datetime, timedelta

from hsm.server import logs, start
from hsm.server.supervisor import Supervisor
from hsm.settings import ServerSettings

MODULE = "tests.e2e.slow_clock"
SLOW = timedelta(hours=1)


def an_hour_ago() -> datetime:
    """Take the time for an hour earlier."""
    return datetime.now(UTC) - SLOW


if __name__ == "__main__":
    if sys.argv[1:]:
        setattr(start, "_now", an_hour_ago)  # noqa: B010 - the name is no part of its interface
        sys.exit(start.main(sys.argv[1:]))
    logs.configure()
    Supervisor(ServerSettings(), [sys.executable, "-m", MODULE, "sandbox"]).run()

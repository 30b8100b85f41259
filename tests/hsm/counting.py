"""A worker that counts in a process of its own: ``python -m tests.hsm.counting DIRECTORY``.

Once it reads a line it tries, and prints how many of its tries and hand-outs were let through.
"""

import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from hsm.counts import Counts, Quota, Window
from hsm.errors import CardRefusesForm, LimitReached

TRIES, LET_THROUGH_MAX = 200, 100


def main(directory: Path) -> None:
    counts = Counts(directory, lambda: datetime.now(UTC))
    window = Window("testbank01", "kind", "card-1", LET_THROUGH_MAX, 60, CardRefusesForm)
    quota = Quota(counts.today(), "testbank01", "kind", "card-1", LET_THROUGH_MAX)
    tried = handed_out = 0
    print("ready", flush=True)  # noqa: T201 - this is how it answers
    sys.stdin.readline()
    for _ in range(TRIES):
        with suppress(CardRefusesForm):
            counts.begin([window])
            tried += 1
        with suppress(LimitReached):
            counts.hand_out([quota])
            handed_out += 1
    print(tried, handed_out)  # noqa: T201 - likewise


if __name__ == "__main__":
    main(Path(sys.argv[1]))

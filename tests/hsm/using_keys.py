"""A worker that uses a key until it is told: ``python -m tests.hsm.using_keys DIRECTORY USES``.

It counts that many uses one by one, prints a line, and ends when its input does.
"""

import sys
from datetime import UTC, datetime
from pathlib import Path

from hsm.counts import Counts
from hsm.key_budgets import KeyBudgets
from hsm.pkcs11.hsm_token import KeyUnit
from hsm.pkcs11.keys import KeyLabel, KeyRole

LABEL = KeyLabel(KeyRole.PVK, 1, "testbank01")


def main(directory: Path, uses: int) -> None:
    budgets = KeyBudgets(Counts(directory, lambda: datetime.now(UTC)))
    for _ in range(uses):
        budgets.count(LABEL, KeyUnit.TDES_BLOCKS, 1)
    print("done", flush=True)  # noqa: T201 - this is how it answers
    sys.stdin.read()
    budgets.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))

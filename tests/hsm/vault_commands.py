"""Verbs of the vault that a test calls on a host of its own, in a process of their own."""

import subprocess
import sys
from typing import Protocol

from cms.sandbox import HANG_SECONDS
from tests.hsm.commanding import Operator
from tests.hsm.own_process import ROOT, environment


class Where(Protocol):
    operator: Operator
    settings: dict[str, str]


LOAD = """
import sys
from hsm.local import open_vault
print(open_vault().load_generations(sys.stdin.read()))
"""


def load(where: Where, text: str) -> None:
    """Have a host take a table, as its vault does."""
    done = subprocess.run(
        [sys.executable, "-c", LOAD],
        cwd=ROOT,
        env={**environment(where.operator.softhsm), **where.settings},
        input=text,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr

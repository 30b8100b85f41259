"""Verbs of the vault that a test calls on a host of its own, in a process of their own."""

import subprocess
import sys
from collections.abc import Mapping

from cms.sandbox import HANG_SECONDS
from tests.hsm.commanding import Operator
from tests.hsm.own_process import ROOT, environment

LOAD = """
import sys
from hsm.local import open_vault
print(open_vault().load_generations(sys.stdin.read()))
"""


def load(operator: Operator, settings: Mapping[str, str], text: str) -> None:
    """Have a host take a table, as its vault does."""
    done = subprocess.run(
        [sys.executable, "-c", LOAD],
        cwd=ROOT,
        env={**environment(operator.softhsm), **settings},
        input=text,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr

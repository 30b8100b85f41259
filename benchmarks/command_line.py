"""How long ``--help`` takes, beside a Python that does nothing.

Nearly all of it is imports: what a command works with is imported when it runs.
"""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.measure import heading, machine

ROOT: Final = Path(__file__).resolve().parents[1]
ROUNDS: Final = 15
FLOOR: Final = "python -c pass"
COMMANDS: Final[Mapping[str, Sequence[str]]] = {
    FLOOR: ("-c", "pass"),
    "python -m cms --help": ("-m", "cms", "--help"),
    "python -m hsm --help": ("-m", "hsm", "--help"),
}


def seconds_of(arguments: Sequence[str]) -> float:
    """Run Python with *arguments* once and return how long it took."""
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return time.perf_counter() - started


def main() -> int:
    """Measure and print."""
    heading(f"Command line · {machine()}")
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for arguments in COMMANDS.values():  # compiles what was not, and is not measured
        seconds_of(arguments)
    for _ in range(ROUNDS):
        for name, arguments in COMMANDS.items():
            seconds[name].append(seconds_of(arguments))
    medians = {name: median(values) for name, values in seconds.items()}
    print(f"{'medians':<32}{'ms':>10}{'ratio':>10}")
    for name, taken in medians.items():
        print(f"{name:<32}{taken * 1e3:>10.0f}{taken / medians[FLOOR]:>10.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

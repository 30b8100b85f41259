"""What the benchmarks share: the machine line, interleaved rounds, medians.

Figures of a shared machine drift by tens of percent within minutes. So whatever is compared is
measured in turns, round after round in one run, and the median of the rounds is shown.
"""

import os
import platform
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Final

ROUNDS: Final = 5
ROUND_SECONDS: Final = 0.1


@dataclass
class Figures:
    """What rounds of load measured, by the kind of request."""

    rates: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Of the machine, by the part of one request that no service can leave out."""
    latencies_ms: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))


def machine() -> str:
    """Describe what the figures were measured on, in one line."""
    cores = len(os.sched_getaffinity(0))
    return (
        f"{cores} cores, {_processor()}, Python {platform.python_version()}, "
        f"SoftHSM {_version('softhsm2-util', '--version')}, load {os.getloadavg()[0]:.1f}"
    )


def interleaved(
    operations: Mapping[str, Callable[[], object]],
    rounds: int = ROUNDS,
    round_seconds: float = ROUND_SECONDS,
) -> dict[str, float]:
    """Run each operation for a while, in turns; return the median of operations per second."""
    rates: dict[str, list[float]] = {name: [] for name in operations}
    for _ in range(rounds):
        for name, operation in operations.items():
            rates[name].append(rate(operation, round_seconds))
    return {name: median(values) for name, values in rates.items()}


def rate(operation: Callable[[], object], seconds: float) -> float:
    """Repeat *operation* for about *seconds* and return how often it runs in one second."""
    clock = time.perf_counter
    operation()
    done, batch = 0, 1
    started = clock()
    while (elapsed := clock() - started) < seconds:
        for _ in range(batch):
            operation()
        done += batch
        # The clock is read about a hundred times a round, whatever the operation costs.
        if elapsed < seconds / 100:
            batch *= 2
    return done / elapsed


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which *share* of the values lie; 0 when there are none."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else 0.0


def p50_and_p99(values: Sequence[float], width: int, p99_width: int) -> str:
    """Format both percentiles for a table, each right-aligned to so many columns."""
    return f"{percentile(values, 0.5):>{width}.1f}{percentile(values, 0.99):>{p99_width}.1f}"


def print_memory(mib_of_each: Mapping[str, Sequence[float]]) -> None:
    """Print what each worker of a program takes."""
    listed = (
        f"{program} {', '.join(f'{mib:.0f}' for mib in each)}"
        for program, each in mib_of_each.items()
    )
    print(f"\nresident memory of each worker, MiB: {'; '.join(listed)}")


def print_calls(what: str, calls: Counter[str]) -> None:
    """Print how often *what* calls the HSM token, and by which of its operations."""
    listed = ", ".join(f"{name} {count}" for name, count in sorted(calls.items()))
    print(f"token calls of {what}: {calls.total()} ({listed})")


def capacity(seconds: Sequence[float]) -> float:
    """Return the seconds of the machine for one: those who took *seconds* worked side by side."""
    return 1 / sum(1 / each for each in seconds)


def print_parts(what: str, rate: float, seconds: Mapping[str, Sequence[float]]) -> None:
    """Print how much of what one request takes of the machine no service can leave out.

    Args:
        what: the kind of request.
        rate: how many the service answers a second.
        seconds: of the machine for each part, measured alone, in every round.
    """
    parts = {name: median(values) for name, values in seconds.items()}
    heading(f"What one {what} takes of the machine, all cores together, in microseconds")
    for name, taken in parts.items():
        print(f"{name:<34}{taken * 1e6:>7.0f}   alone {1 / taken:.0f}/s")
    least = sum(parts.values())
    print(f"{'sum of these':<34}{least * 1e6:>7.0f}   would be {1 / least:.0f}/s")
    print(f"{'the service':<34}{1e6 / rate:>7.0f}   is {rate:.0f}/s, ratio {rate * least:.2f}")


def report_agreement(counts: Mapping[str, Sequence[int]]) -> int:
    """Say whether answers, database and audit have the same number of each; return an exit code."""
    differing = {what: each for what, each in counts.items() if len(set(each)) != 1}
    for what, each in differing.items():
        print(f"answers and database differ over {what}: {each}", file=sys.stderr)
    if not differing:
        counted = ", ".join(f"{each[0]} {what}" for what, each in counts.items())
        print(f"\nanswers, database and audit agree: {counted}")
    return int(bool(differing))


def heading(text: str) -> None:
    """Print the title of a table."""
    print(f"\n{text}\n", flush=True)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _version(*command: str) -> str:
    try:
        printed = subprocess.run(command, capture_output=True, check=True).stdout.decode()
    except (OSError, subprocess.CalledProcessError):
        return "not there"
    return printed.strip()

"""Which program spends the processor's time of a request, whatever else the machine does."""

import os
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.measure import heading

TICKS: Final = os.sysconf("SC_CLK_TCK")
LOAD: Final = "load generator"


class ProcessorTime:
    """Reads what families of processes have spent.

    Args:
        parents: the first process of each program. What else descends from this process is the
            load generator.
    """

    def __init__(self, parents: Mapping[str, int]) -> None:
        self._programs = {pid: program for program, pid in parents.items()}
        self.each_us: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        """Of one request, by its kind and the program, a round after the other."""

    def seconds(self) -> Mapping[str, float]:
        """Add up what each program's processes have spent since they began."""
        spent: dict[str, float] = defaultdict(float)
        parents = {}
        seconds = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            pid = int(path.parent.name)
            parents[pid] = int(fields[1])
            seconds[pid] = (int(fields[11]) + int(fields[12])) / TICKS
        for pid, each in seconds.items():
            program = self._program(pid, parents)
            if program is not None:
                spent[program] += each
        return spent

    def note(self, kind: str, before: Mapping[str, float], requests: int) -> None:
        """Note what *requests* of a kind took since *before*."""
        for program, spent in self.seconds().items():
            self.each_us[kind][program].append((spent - before.get(program, 0)) / requests * 1e6)

    def show(self, names: Mapping[str, str]) -> None:
        """Print a line for each kind of request."""
        programs = [*self._programs.values(), LOAD]
        heading("Processor time of one request at saturation, microseconds, medians")
        print(f"{'':<16}" + "".join(f"{program:>16}" for program in programs) + f"{'sum':>8}")
        for kind, name in names.items():
            each = [median(self.each_us[kind][program]) for program in programs]
            print(f"{name:<16}" + "".join(f"{us:>16.0f}" for us in each) + f"{sum(each):>8.0f}")

    def _program(self, pid: int, parents: Mapping[int, int]) -> str | None:
        while pid in parents:
            if pid in self._programs:
                return self._programs[pid]
            if pid == os.getpid():
                return LOAD
            pid = parents[pid]
        return None

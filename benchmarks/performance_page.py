"""``docs/performance.md`` and its plots, made of the figures that one run of ``stack`` left.

``python -m benchmarks.performance_page`` makes them anew of the same figures.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Final, Self

from benchmarks import bar_chart
from benchmarks.deployment import ROOT

DOCS: Final = ROOT / "docs"
PAGE: Final = "performance.md"
FIGURES: Final = "performance/figures.json"
RATES: Final = "performance/requests.svg"
LATENCIES: Final = "performance/latency.svg"
PROCESSOR: Final = "performance/processor.svg"


@dataclass(frozen=True)
class Measured:
    """One kind of request at one front."""

    per_second: Sequence[float]
    """At saturation, a round after the other."""
    cpu_us: Mapping[str, float]
    """Of one request at saturation, by program."""
    p50_ms: float
    p99_ms: float
    """At one rate for all fronts."""


@dataclass(frozen=True)
class Figures:
    """What a run measured: kinds of requests by name, and in each the fronts."""

    machine: str
    round_seconds: float
    latency_seconds: float
    connections: int
    paced_per_second: Mapping[str, float]
    """At what rate latencies were measured, by kind."""
    measured: Mapping[str, Mapping[str, Measured]]

    @classmethod
    def read(cls, text: str) -> Self:
        """Read what :meth:`written` wrote."""
        members = json.loads(text)
        members["measured"] = {
            kind: {front: Measured(**each) for front, each in fronts.items()}
            for kind, fronts in members["measured"].items()
        }
        return cls(**members)

    def written(self) -> str:
        """Write them as JSON."""
        return json.dumps(asdict(self), indent=1) + "\n"


def files(figures: Figures) -> Mapping[str, str]:
    """Make the page and all that belongs to it, by their paths below ``docs``."""
    rates = {
        kind: {front: median(each.per_second) for front, each in fronts.items()}
        for kind, fronts in figures.measured.items()
    }
    p99 = {
        kind: {front: each.p99_ms for front, each in fronts.items()}
        for kind, fronts in figures.measured.items()
    }
    processor = {
        f"{kind}, {_short(front)}": each.cpu_us
        for kind, fronts in figures.measured.items()
        for front, each in fronts.items()
    }
    return {
        PAGE: _page(figures),
        FIGURES: figures.written(),
        RATES: bar_chart.grouped("Requests a second at saturation, medians", rates),
        LATENCIES: bar_chart.grouped("p99 at one rate for all, in milliseconds", p99),
        PROCESSOR: bar_chart.stacked("Processor time of one request, in microseconds", processor),
    }


def write(figures: Figures, docs: Path = DOCS) -> None:
    """Write the page and all that belongs to it."""
    for name, text in files(figures).items():
        path = docs / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")


def _short(front: str) -> str:
    return front.replace("service ", "").replace("HAProxy, ", "")


def _page(figures: Figures) -> str:
    rounds = len(next(iter(next(iter(figures.measured.values())).values())).per_second)
    return f"""# Performance

The whole stack, as D1 reaches it through [our HAProxy](proxies.md), beside the service without a
proxy: in one run, on one machine that makes the load too. `python -m benchmarks stack` measures,
and writes this page and its plots.

Machine: {figures.machine}.

![Requests a second]({RATES})

{_rates(figures)}

*Ratio* is of medians, to the service alone. Rounds: {rounds} of {figures.round_seconds:.0f} s for
each, in turns, with {figures.connections} kept-alive connections and mutual TLS. A host has a vault
with one worker, and a web with one. Every PUT carried a JWE of its own. All answers were checked,
and the change counters moved by the number of PUTs that were accepted. Where the rounds of one row
differ more than two rows do, the rows say nothing of each other; *load* is that of the machine
before the run, and what else ran on its cores is in every figure.

![p99]({LATENCIES})

{_latencies(figures)}

Here requests came at random moments, at each front as many a second: half of what the slowest of
them did. A latency counts from when a request was due. They were taken for
{figures.latency_seconds:g} s at each front: one stall of the machine shows in a p99 of so few.

![Processor time]({PROCESSOR})

{_processor(figures)}

Microseconds of one request at saturation, whatever else the machine does. HAProxy spends what TLS
takes, which the web then does not. Both hosts, the proxy, the database and the load share the
cores: on an idle machine the figures of two hosts tell what a second one costs, not what it adds
where it has a machine of its own. What each part of a request takes is in the
[benchmarks' own page](../benchmarks/README.md).
"""


def _rates(figures: Figures) -> str:
    lines = ["| | | a second | ratio | rounds |", "|---|---|---|---|---|"]
    for kind, fronts in figures.measured.items():
        alone = median(next(iter(fronts.values())).per_second)
        for front, each in fronts.items():
            rate = median(each.per_second)
            rounds = ", ".join(f"{one:.0f}" for one in each.per_second)
            lines.append(f"| {kind} | {front} | {rate:.0f} | {rate / alone:.2f} | {rounds} |")
    return "\n".join(lines)


def _latencies(figures: Figures) -> str:
    lines = ["| | | a second | p50 ms | p99 ms |", "|---|---|---|---|---|"]
    for kind, fronts in figures.measured.items():
        for front, each in fronts.items():
            rate = figures.paced_per_second[kind]
            row = f"| {kind} | {front} | {rate:.0f} | {each.p50_ms:.1f} | {each.p99_ms:.1f} |"
            lines.append(row)
    return "\n".join(lines)


def _processor(figures: Figures) -> str:
    programs = [*next(iter(next(iter(figures.measured.values())).values())).cpu_us]
    lines = [f"| | | {' | '.join(programs)} | sum |", "|---|---|" + "---|" * (len(programs) + 1)]
    for kind, fronts in figures.measured.items():
        for front, each in fronts.items():
            spent = [each.cpu_us[program] for program in programs]
            cells = " | ".join(f"{us:.0f}" for us in (*spent, sum(spent)))
            lines.append(f"| {kind} | {front} | {cells} |")
    return "\n".join(lines)


if __name__ == "__main__":
    write(Figures.read((DOCS / FIGURES).read_text(encoding="utf-8")))

"""D1's requests through HAProxy, to one and to two hosts, beside the service without a proxy.

All run at the same time and are measured in turns (:mod:`benchmarks.stack_hosts`); latencies at
one rate for all. The page of it in ``docs`` is written anew (:mod:`benchmarks.performance_page`),
unless an answer was wrong or the change counters did not move by the number of PUTs that were
accepted.
"""

import sys
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks import deployment, load, measure, performance_page, requests, stack_hosts
from benchmarks.performance_page import Figures, Measured
from benchmarks.processor_time import LOAD, ProcessorTime
from benchmarks.stack_hosts import FRONTS
from cms.sandbox.partners.d1 import D1Client

ROUNDS: Final = 5
ROUND_SECONDS: Final = 4.0
LATENCY_SECONDS: Final = 15.0
START_SECONDS: Final = 0.5
KINDS: Final = {"put": "PUT pin", "get": "GET pin", "counter": "changeCounter"}
PROGRAMS: Final = (LOAD, "HAProxy", "web", "vault", "Postgres")
"""What processor time is added up by: the first words of what runs."""


@dataclass
class Bench:
    """The measurements of one run."""

    crew: load.Crew
    ports: Mapping[str, int]
    processor_time: ProcessorTime
    rates: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    """By kind and front."""
    wrong: Counter[tuple[str, int]] = field(default_factory=Counter)
    puts: int = 0

    def warm_up(self) -> None:
        """Set each PIN once, through every front."""
        for front in FRONTS:
            self.crew.do("prepare", "put", deployment.CARDS // load.PROCESSES)
            self._run("put", load.Plan(self.ports[front], load.CONNECTIONS, 0.0, 1.0))

    def saturate(self, kind: str, front: str) -> None:
        """Send as many requests as are answered."""
        self.crew.do("prepare", kind, int(requests.RATE_MAX[kind] * ROUND_SECONDS / load.PROCESSES))
        before = self.processor_time.seconds()
        plan = load.Plan(self.ports[front], load.CONNECTIONS, 0.0, ROUND_SECONDS)
        outcome = self._run(kind, plan)
        self.processor_time.note(f"{kind} {front}", before, outcome.statuses.total())
        self.rates[kind, front].append(outcome.per_second)

    def pace(self, kind: str, front: str, rate: float) -> tuple[float, float]:
        """Send *rate* requests a second; return p50 and p99 in milliseconds."""
        share = rate / load.PROCESSES
        self.crew.do("prepare", kind, int(share * LATENCY_SECONDS * 1.5))
        plan = load.Plan(self.ports[front], load.CONNECTIONS, 0.0, LATENCY_SECONDS, share)
        taken = self._run(kind, plan).latencies_ms
        return measure.percentile(taken, 0.5), measure.percentile(taken, 0.99)

    def figures(self, machine: str) -> Figures:
        """Measure latencies, and put together what was measured."""
        paced = {
            kind: min(median(self.rates[kind, front]) for front in FRONTS) / 2 for kind in KINDS
        }
        return Figures(
            machine,
            ROUND_SECONDS,
            LATENCY_SECONDS,
            load.PROCESSES * load.CONNECTIONS,
            {name: paced[kind] for kind, name in KINDS.items()},
            {
                name: {front: self._measured(kind, front, paced[kind]) for front in FRONTS}
                for kind, name in KINDS.items()
            },
        )

    def _measured(self, kind: str, front: str, rate: float) -> Measured:
        p50_ms, p99_ms = self.pace(kind, front, rate)
        return Measured(
            [round(each, 1) for each in self.rates[kind, front]],
            self._cpu_us(f"{kind} {front}"),
            round(p50_ms, 2),
            round(p99_ms, 2),
        )

    def _cpu_us(self, measured: str) -> Mapping[str, float]:
        spent = {
            program: median(us) for program, us in self.processor_time.each_us[measured].items()
        }
        return {
            program: round(sum(us for name, us in spent.items() if name.startswith(program)), 1)
            for program in PROGRAMS
        }

    def _run(self, kind: str, plan: load.Plan) -> load.Outcome:
        plan = replace(plan, starts_at=time.monotonic() + START_SECONDS)
        outcome = load.merge(self.crew.do("run", plan))
        self.puts += outcome.statuses[204] if kind == "put" else 0
        for status, count in outcome.statuses.items():
            if status != requests.STATUS[kind]:
                self.wrong[kind, status] += count
        return outcome


def main(docs: Path = performance_page.DOCS) -> int:
    """Measure, print and write the page."""
    machine = measure.machine()
    measure.heading(f"The whole stack · {machine}")
    with deployment.directory_and_hsm_token() as (directory, hsm_token):
        (port,) = deployment.free_ports(1)
        issuer = deployment.make_issuer(directory, hsm_token, f"https://localhost:{port}")
        with (
            deployment.database(directory, issuer) as (url, copy_url),
            stack_hosts.running(directory, url, port) as stack,
        ):
            with D1Client(issuer.d1) as client:
                target = load.Target(issuer.d1, client.new_access_token(), issuer.seccos_keys)
            crew = load.Crew(load.PROCESSES, requests.work, target, issuer, copy_url)
            bench = Bench(crew, stack.ports, ProcessorTime(stack.parents))
            bench.warm_up()
            for _ in range(ROUNDS):
                for kind in KINDS:
                    for front in FRONTS:
                        bench.saturate(kind, front)
            figures = bench.figures(machine)
            crew.dismiss()
            moved = requests.changes(url)
    _print(figures)
    for (kind, status), count in bench.wrong.items():
        print(f"wrong answers: {count} times {status} to {kind}", file=sys.stderr)
    if moved != bench.puts:
        print(f"{bench.puts} PUTs were accepted, counters moved by {moved}", file=sys.stderr)
    if bench.wrong or moved != bench.puts:
        return 1
    performance_page.write(figures, docs)
    return 0


def _print(figures: Figures) -> None:
    print(f"{'':<16}{'':<20}{'median/s':>10}{'ratio':>8}{'p50 ms':>8}{'p99 ms':>8}")
    for kind, fronts in figures.measured.items():
        alone = median(next(iter(fronts.values())).per_second)
        for front, each in fronts.items():
            rate = median(each.per_second)
            line = f"{kind:<16}{front:<20}{rate:>10.0f}{rate / alone:>8.2f}"
            print(f"{line}{each.p50_ms:>8.1f}{each.p99_ms:>8.1f}")


if __name__ == "__main__":
    sys.exit(main())

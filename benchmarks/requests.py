"""PUT pin, GET pin and changeCounter against a whole deployment, with the load on the same cores.

A worker of the vault, two of the web behind mutual TLS, or as many as asked for; kept-alive
connections, a Postgres whose commits are on the disk before they are answered, a SoftHSM token. Two
processes make the load: every PUT carries a JWE of its own, made before the clock starts, and goes
to one of 200 cards, or as SECCOS to one of 200 more. Every status is checked, and at the end the
change counters must have moved by exactly the number of PUTs answered 204.

*At saturation* each connection sends its next request as soon as it has its answer. *At half*
requests come at random moments at half the rate just measured, and a latency counts from the moment
when the request was due, so that a stall is not hidden by a generator that waits for it.

The ratio at the end compares the PUT rate with a service whose own code costs nothing: the
parts that no service can leave out are measured alone, in turns with the rest, by two processes
on the same cores (:mod:`benchmarks.floors`). One PUT takes 1/rate seconds of the machine; the
ratio is the share of it that the token calls, the two statements with their commit, and the
server with its TLS account for. 1.0 cannot be beaten; what is missing to it is our code, its
frameworks, and waiting.
"""

import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from statistics import median
from typing import Any, Final

from benchmarks import deployment, floors, load, measure
from benchmarks.processor_time import ProcessorTime
from cms.persistence import admin, tables
from cms.sandbox.partners.d1 import D1Client
from hsm.pkcs11.token import Pkcs11Token
from hsm.port import PinBlockType

ROUNDS: Final = 3
ROUND_SECONDS: Final = 5.0
HALF_SECONDS: Final = 8.0
FLOOR_SECONDS: Final = 2.0
START_SECONDS: Final = 0.5
RATE_MAX: Final = {"put": 2000, "seccos": 2000, "get": 4000, "counter": 10_000}
"""As many requests a second are made in advance."""
GOALS: Final = {"put": 1500, "seccos": 900, "get": 2200, "counter": 6000}
NAMES: Final = {
    "put": "PUT pin, ISO-0",
    "seccos": "PUT pin, SECCOS",
    "get": "GET pin",
    "counter": "changeCounter",
}
STATUS: Final = {"put": 204, "seccos": 204, "get": 200, "counter": 200, "tls": 204}
PUTS: Final = ("put", "seccos")


def work(
    pipe: "Connection[Any, Any]",
    target: load.Target,
    issuer: deployment.Issuer,
    copy_url: str,
    part: int,
) -> None:
    """Be one of the processes that make the load."""
    generator = load.Generator(target, part, load.PROCESSES)
    jobs: dict[str, Callable[..., object]] = {
        "prepare": generator.prepare,
        "prepare one": generator.prepare_one,
        "run": generator.run,
        "token": lambda seconds: floors.token_seconds(issuer, seconds),
        "commit": lambda seconds: floors.commit_seconds(copy_url, part, load.PROCESSES, seconds),
    }
    load.answer_jobs(pipe, jobs)
    floors.close_hsm_token()


@dataclass
class Figures(measure.Figures):
    """What the rounds measured."""

    wrong: Counter[tuple[str, int]] = field(default_factory=Counter)
    """Answers that should not have come: kind and status."""
    puts: int = 0


class Bench:
    """The measurements of one deployment."""

    def __init__(
        self, crew: load.Crew, port: int, tls_port: int, processor_time: ProcessorTime
    ) -> None:
        self._crew = crew
        self._processor_time = processor_time
        self._port = port
        self._tls_port = tls_port
        self.figures = Figures()

    def give_every_card_a_pin(self) -> None:
        """Set each PIN once; warms everything up too."""
        self._crew.do("prepare", "put", deployment.CARDS // load.PROCESSES)
        self._run("put", load.Plan(self._port, load.CONNECTIONS, 0.0, 1.0))

    def saturate(self, kind: str) -> None:
        """Send as many requests as are answered."""
        self._crew.do("prepare", kind, int(RATE_MAX[kind] * ROUND_SECONDS / load.PROCESSES))
        before = self._processor_time.seconds()
        outcome = self._run(kind, load.Plan(self._port, load.CONNECTIONS, 0.0, ROUND_SECONDS))
        self._processor_time.note(kind, before, outcome.statuses.total())
        self.figures.rates[kind].append(outcome.per_second)
        self.figures.latencies_ms[kind] += outcome.latencies_ms

    def halve(self, kind: str) -> None:
        """Send requests at half the rate of saturation."""
        rate = median(self.figures.rates[kind]) / 2 / load.PROCESSES
        self._crew.do("prepare", kind, int(rate * HALF_SECONDS * 1.5))
        plan = load.Plan(self._port, load.CONNECTIONS, 0.0, HALF_SECONDS, rate)
        self.figures.latencies_ms[f"{kind} at half"] += self._run(kind, plan).latencies_ms

    def measure_floors(self) -> None:
        """Measure each part of a PUT alone."""
        seconds = self.figures.seconds
        seconds["token calls"].append(measure.capacity(self._crew.do("token", FLOOR_SECONDS)))
        seconds["two statements, one commit"].append(
            measure.capacity(self._crew.do("commit", FLOOR_SECONDS))
        )
        self._crew.do("prepare one")
        outcome = self._run("tls", load.Plan(self._tls_port, load.CONNECTIONS, 0.0, FLOOR_SECONDS))
        seconds["server, TLS and load generator"].append(1 / outcome.per_second)

    def _run(self, kind: str, plan: load.Plan) -> load.Outcome:
        plan = replace(plan, starts_at=time.monotonic() + START_SECONDS)
        outcome = load.merge(self._crew.do("run", plan))
        self.figures.puts += outcome.statuses[204] if kind in PUTS else 0
        for status, count in outcome.statuses.items():
            if status != STATUS[kind]:
                self.figures.wrong[kind, status] += count
        return outcome


def main() -> int:
    """Measure and print."""
    workers = deployment.Workers.asked_for()
    measure.heading(f"D1 requests · {measure.machine()} · {workers}")
    with deployment.directory_and_hsm_token() as (directory, hsm_token):
        ports = deployment.free_ports(3)
        issuer = deployment.make_issuer(directory, hsm_token, f"https://localhost:{ports[0]}")
        calls = {
            verb: _hsm_token_calls(hsm_token, issuer, verb) for verb in ("put", "seccos", "get")
        }
        with (
            deployment.database(directory, issuer) as (url, copy_url),
            deployment.serving(directory, ports, url, workers) as service,
            deployment.running(("-m", "benchmarks.floors", str(ports[2])), directory / "floor.log"),
        ):
            with D1Client(issuer.d1) as client:
                target = load.Target(issuer.d1, client.new_access_token(), issuer.seccos_keys)
            crew = load.Crew(load.PROCESSES, work, target, issuer, copy_url)
            processor_time = service.processor_time()
            bench = Bench(crew, ports[0], ports[2], processor_time)
            bench.give_every_card_a_pin()
            for _ in range(ROUNDS):
                for kind in GOALS:
                    bench.saturate(kind)
                bench.measure_floors()
            for kind in GOALS:
                bench.halve(kind)
            crew.dismiss()
            memory = service.resident_mib()
            moved = changes(url)
    figures = bench.figures
    _print_requests(figures)
    processor_time.show(NAMES)
    measure.print_memory(memory)
    for kind, counts in calls.items():
        measure.print_calls(f"a {NAMES[kind]}", counts)
    measure.print_parts("PUT", median(figures.rates["put"]), figures.seconds)
    return _verdict(figures, moved)


def _print_requests(figures: Figures) -> None:
    print(
        f"{'':<16}{'goal/s':>7}{'median/s':>10}   {'rounds':<18}{'p50 ms':>8}{'p99 ms':>8}", end=""
    )
    print(f"{'p50 at half':>14}{'p99 at half':>13}")
    for kind, goal in GOALS.items():
        rates = figures.rates[kind]
        rounds = " ".join(f"{rate:.0f}" for rate in rates)
        line = f"{NAMES[kind]:<16}{goal:>7}{median(rates):>10.0f}   {rounds:<18}"
        line += measure.p50_and_p99(figures.latencies_ms[kind], 8, 8)
        print(line + measure.p50_and_p99(figures.latencies_ms[f"{kind} at half"], 14, 13))
    ratio = median(figures.rates["seccos"]) / median(figures.rates["put"])
    print(f"\nSECCOS PUTs a second for each ISO-0 PUT, medians: {ratio:.2f} (goal 0.60)")


def _verdict(figures: Figures, moved: int) -> int:
    """Say whether the service did what it was asked to: not how fast."""
    for (kind, status), count in figures.wrong.items():
        print(f"wrong answers: {count} times {status} to {kind}", file=sys.stderr)
    if moved != figures.puts:
        print(f"{figures.puts} PUTs were accepted, counters moved by {moved}", file=sys.stderr)
    return 1 if figures.wrong or moved != figures.puts else 0


def _hsm_token_calls(hsm_token: Pkcs11Token, issuer: deployment.Issuer, verb: str) -> Counter[str]:
    """Count the HSM token calls of one request, with the manifest already verified."""
    counting = floors.CountingHsmToken(hsm_token)
    vault = floors.counted_vault(counting)
    card, sealed = next(iter(issuer.sealed.items()))
    sealed_pin = floors.set_one_pin(vault, issuer)
    assert sealed_pin is not None, "it came as ISO-0"
    requests: dict[str, Callable[[], object]] = {
        "put": lambda: floors.set_one_pin(vault, issuer),
        "seccos": lambda: floors.set_one_pin(vault, issuer, PinBlockType.SECCOS),
        "get": lambda: vault.export_jwe(sealed_pin, sealed.sealed_record, card, 1),
    }
    requests[verb]()
    counting.calls.clear()
    requests[verb]()
    return counting.calls


def changes(url: str) -> int:
    """Add up the change counters of all cards."""
    with admin.connect(url).begin() as connection:
        return sum(
            card["counter"] for card in admin.rows(connection, tables.cards, deployment.ISSUER)
        )


if __name__ == "__main__":
    sys.exit(main())

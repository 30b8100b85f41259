"""PUT pin, GET pin and changeCounter with 200 cards and with many more: ten million.

One vault, one Postgres, and a web service for each of two databases in it, which are asked in turns
for the same 200 cards. In the second database stand as many other cards as make up the number:
rows that SQL made, whose sealed values are copies of those of a real card, so that no PIN of theirs
opens. What their number costs is measured, the depth of indexes and what of them is in memory; and
changeCounter, which opens nothing, of cards drawn from all of them, beside that of the 200.

The load is that of :mod:`benchmarks.requests` at saturation; every status is checked.
"""

import argparse
import sys
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Final

import psycopg

from benchmarks import deployment, load, measure, requests
from cms.persistence.tables import cards
from cms.sandbox.partners.d1 import D1Client
from hsm.port import CARD_ID_PATTERN

CARDS: Final = 10_000_000
KINDS: Final = ("put", "get", "counter", "any")
NAMES: Final = {**requests.NAMES, "any": "changeCounter, any"}
ROUNDS: Final = 15
ROUND_SECONDS: Final = 2.0
START_SECONDS: Final = 0.5
SHARE_MAX: Final = 0.1
"""The goal: so much less than with 200 cards, at most."""
BATCH: Final = 500_000
"""Rows in a transaction."""


@dataclass
class Bench:
    """The measurements of both databases, by the number of their cards."""

    crew: load.Crew
    ports: dict[int, int]
    rates: dict[tuple[int, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    wrong: Counter[tuple[str, int]] = field(default_factory=Counter)
    """Answers that should not have come: kind and status."""

    def measure(self, kind: str, number: int) -> None:
        """Send as many requests as are answered, to one after the other; who is first changes."""
        turns = list(self.ports.items())
        for count, port in turns if number % 2 else reversed(turns):
            asked = "counter" if kind == "any" and count == deployment.CARDS else kind
            self.rates[count, kind].append(self._run(asked, port, ROUND_SECONDS))

    def warm_up(self) -> None:
        """Give every card a PIN."""
        for port in self.ports.values():
            self._run("put", port, 2.0)

    def _run(self, kind: str, port: int, seconds: float) -> float:
        rate_max = requests.RATE_MAX["counter" if kind == "any" else kind]
        self.crew.do("prepare", kind, int(rate_max * seconds / load.PROCESSES))
        plan = load.Plan(port, load.CONNECTIONS, 0.0, seconds)
        plan = replace(plan, starts_at=time.monotonic() + START_SECONDS)
        outcome = load.merge(self.crew.do("run", plan))
        for status, count in outcome.statuses.items():
            if status != (204 if kind == "put" else 200):
                self.wrong[kind, status] += count
        return outcome.per_second


def multiply(url: str, count: int) -> range:
    """Make cards by SQL until there are *count*: copies of the first, under other ids.

    Returns:
        Their numbers.
    """
    others = {
        "card_id": "'other-' || n",
        "plastic_id": "'9' || n",
        "cardholder_id": "'other-' || n",
    }
    names = [column.name for column in cards.columns]
    made = ", ".join(others.get(name, name) for name in names)
    statement = (
        f"INSERT INTO cards ({', '.join(names)}) SELECT {made} FROM cards,"
        " generate_series(%s::bigint, %s::bigint) AS n WHERE card_id = 'card-0000'"
    )
    assert CARD_ID_PATTERN.fullmatch(f"other-{count}")
    with psycopg.connect(url, autocommit=True) as connection:
        # Of rows that are copies, no key need be looked up.
        connection.execute("SET session_replication_role = replica")
        connection.execute("SET synchronous_commit = off")
        (there,) = connection.execute("SELECT count(*) FROM cards").fetchone() or (0,)
        for first in range(there, count, BATCH):
            connection.execute(statement, (first, min(first + BATCH, count) - 1))
        # What Postgres would else do while it is measured.
        connection.execute("VACUUM (FREEZE, ANALYZE) cards")
        connection.execute("CHECKPOINT")
    return range(there, count)


def size_gb(url: str) -> float:
    """Return what the cards take, with their indexes."""
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT pg_total_relation_size('cards')").fetchone()
    return row[0] / 1e9 if row else 0.0


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cards", type=int, default=CARDS, metavar="N")
    many: int = parser.parse_args().cards
    measure.heading(f"Many cards · {measure.machine()}")
    with deployment.directory_and_hsm_token() as (directory, hsm_token):
        ports = deployment.free_ports(4)
        public_url = f"https://localhost:{ports[0]}"
        issuer = deployment.make_issuer(directory, hsm_token, public_url, cards=deployment.CARDS)
        workers = deployment.Workers(vault=1, web=2)
        with deployment.database(directory, issuer) as (url, copy_url):
            began = time.monotonic()
            others = multiply(copy_url, many)
            made = f"{many} cards take {size_gb(copy_url):.1f} GB, made in"
            print(f"{made} {time.monotonic() - began:.0f} s", flush=True)
            with (
                deployment.serving(directory, ports[:2], url, workers),
                deployment.serving_web(directory, ports[2:], public_url, copy_url, workers.web),
                D1Client(issuer.d1) as client,
            ):
                target = load.Target(
                    *(issuer.d1, client.new_access_token(), issuer.seccos_keys), others
                )
                crew = load.Crew(load.PROCESSES, requests.work, target, issuer, copy_url)
                bench = Bench(crew, {deployment.CARDS: ports[0], many: ports[2]})
                bench.warm_up()
                for number in range(ROUNDS):
                    for kind in KINDS:
                        bench.measure(kind, number)
                crew.dismiss()
    return _report(bench, many)


def _report(bench: Bench, many: int) -> int:
    few = deployment.CARDS
    print(f"{'medians a second':<18}{few:>12}{many:>12}{'ratio':>8}   ratio of each round")
    for kind in KINDS:
        with_few, with_many = bench.rates[few, kind], bench.rates[many, kind]
        ratios = [each / other for each, other in zip(with_many, with_few, strict=True)]
        listed = " ".join(f"{ratio:.2f}" for ratio in ratios)
        line = f"{NAMES[kind]:<18}{median(with_few):>12.0f}{median(with_many):>12.0f}"
        print(f"{line}{median(ratios):>8.2f}   {listed}")
    print(f"\ngoal: each ratio at least {1 - SHARE_MAX:.2f}")
    for (kind, status), count in bench.wrong.items():
        print(f"wrong answers: {count} times {status} to {kind}", file=sys.stderr)
    return int(bool(bench.wrong))


if __name__ == "__main__":
    sys.exit(main())

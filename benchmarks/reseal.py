"""Cards resealed a second, what of it no program can leave out, and what cardholders notice.

A whole deployment as in :mod:`benchmarks.requests`, with cards that each have a record and a PIN
under the first generation of keys. Then the HSM token gets the second. A round reseals every card
as ``python -m cms reseal`` does, in this process, while nothing else calls, and without rests: on a
machine that others use it would give way to these. In turns with it, the token calls of the same
cards are measured alone, in this process, and the statements alone, on a copy of the database; one
after the other they would take the sum, of which the command does some at the same time. Between
rounds the rows are put back.

Then GETs and PUTs come at random moments, once without a reseal and once during one, which gives
way to them. Every status is checked.
"""

import sys
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Final

import psycopg

from benchmarks import deployment, floors, load, measure
from benchmarks.operators import Operators
from benchmarks.requests import work
from cms.operator.card_reseal import CARDS_AT_ONCE, CardReseal, changed_by
from cms.operator.pace import Pace
from cms.persistence import admin, reseal
from cms.persistence.admin import Database
from cms.sandbox.partners.d1 import D1Client
from hsm.admin_client import AdminClient
from hsm.local import vault_over
from hsm.manifest.generation_table import State
from hsm.pkcs11 import own_keys
from hsm.pkcs11.keys import MAC_ROLES, OWN_ROLES, KeyLabel
from hsm.pkcs11.token import Pkcs11Token
from hsm.port import RESEAL_CARDS_MAX, StoredCard
from hsm.settings import VaultSettings
from hsm.vault import Vault

CARDS: Final = 8000
ROUNDS: Final = 5
GOAL_A_SECOND: Final = 1500
SILENCE_SECONDS: Final = 60.0
LOAD_SECONDS: Final = 5.0
"""Shorter than a reseal beside it takes."""
LOAD_A_SECOND: Final = 150
"""Of GETs, then of PUTs."""
START_SECONDS: Final = 0.5
STATUS: Final = {"get": 200, "put": 204}


@dataclass
class Bench:
    """The measurements of one deployment."""

    directory: Path
    url: str
    copy_url: str
    vault: Vault
    """In this process."""
    hsm_token: floors.CountingHsmToken
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Of all cards."""

    def keep(self) -> None:
        """Remember how the rows are, to put them back."""
        for url in (self.url, self.copy_url):
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(
                    "CREATE TABLE before AS SELECT card_id, sealed_record, sealed_pin FROM cards"
                )
                connection.execute("ANALYZE")

    def put_back(self, url: str) -> None:
        """Store every card as it was."""
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(
                "UPDATE cards SET sealed_record = before.sealed_record,"
                " sealed_pin = before.sealed_pin FROM before WHERE cards.card_id = before.card_id"
            )
            connection.execute("VACUUM ANALYZE cards")

    def reseal(self, database: Database, pace: Pace) -> float:
        """Reseal every card; return how many a second."""
        with AdminClient(self.directory / "sockets", SILENCE_SECONDS) as vault:
            began_at = time.perf_counter()
            report = CardReseal(database, vault, pace).run(deployment.ISSUER, lambda _: None)
            return report.resealed / (time.perf_counter() - began_at)

    def measure_floors(self) -> None:
        """Measure the token calls, and the statements, of all cards alone."""
        with admin.connect(self.copy_url).connect() as database:
            beginnings = self.vault.reseal([]).beginnings
            cards = reseal.read_left(
                database, deployment.ISSUER, beginnings, after="", count_max=CARDS
            )
            database.commit()
            self.hsm_token.seconds = 0.0
            changes = {card.card: self._resealed(card) for card, _ in cards}
            self.seconds["token calls"].append(self.hsm_token.seconds / len(cards))
            began_at, after = time.perf_counter(), ""
            while found := reseal.read_left(
                database, deployment.ISSUER, beginnings, after=after, count_max=CARDS_AT_ONCE
            ):
                database.commit()
                pairs = [(stored, changes[stored.card]) for stored, _ in found]
                reseal.store(database, deployment.ISSUER, pairs)
                database.commit()
                after = found[-1][0].card.card_id
            self.seconds["statements"].append((time.perf_counter() - began_at) / len(cards))
        self.put_back(self.copy_url)

    def _resealed(self, card: StoredCard) -> StoredCard:
        (resealed,) = self.vault.reseal([card]).cards
        return changed_by(card, resealed)


@dataclass
class Load:
    """GETs and PUTs at random moments."""

    crew: load.Crew
    port: int
    wrong: Counter[tuple[str, int]] = field(default_factory=Counter)

    def run(self, kind: str) -> Sequence[float]:
        """Send them for some seconds; return their latencies in milliseconds."""
        rate = LOAD_A_SECOND / load.PROCESSES
        self.crew.do("prepare", kind, int(rate * LOAD_SECONDS * 1.5))
        starts_at = time.monotonic() + START_SECONDS
        plan = load.Plan(self.port, load.CONNECTIONS, starts_at, LOAD_SECONDS, rate)
        outcome = load.merge(self.crew.do("run", plan))
        for status, count in outcome.statuses.items():
            if status != STATUS[kind]:
                self.wrong[kind, status] += count
        return outcome.latencies_ms


def make_second_active(directory: Path, hsm_token: Pkcs11Token) -> None:
    """Make a second generation of every key that seals, and have the host take it."""
    second = [KeyLabel(role, 2) for pair in MAC_ROLES.items() for role in pair]
    list(own_keys.create(hsm_token, second))
    states = {KeyLabel(role, 1): State.ACTIVE for role in OWN_ROLES}
    states |= {KeyLabel(x.role, 1): State.DECRYPT_ONLY for x in second}
    states |= dict.fromkeys(second, State.ACTIVE)
    operators = Operators()
    operators.be_trusted(directory)
    vault_over(hsm_token, VaultSettings()).load_generations(operators.generations(1, states))


def main() -> int:
    """Measure and print."""
    workers = deployment.Workers.asked_for()
    measure.heading(f"Resealing · {measure.machine()} · {workers}")
    with deployment.directory_and_hsm_token() as (directory, hsm_token):
        ports = deployment.free_ports(2)
        url = f"https://localhost:{ports[0]}"
        issuer = deployment.make_issuer(directory, hsm_token, url, CARDS)
        pins = deployment.set_pins(hsm_token, issuer)
        make_second_active(directory, hsm_token)
        counting = floors.CountingHsmToken(hsm_token)
        vault = floors.counted_vault(counting)
        with (
            deployment.database(directory, issuer, pins) as urls,
            deployment.serving(directory, ports, urls[0], workers) as service,
        ):
            bench = Bench(directory, *urls, vault, counting)
            bench.keep()
            processor_time = service.processor_time()
            rates = list[float]()
            # Open until the end: what a process of Postgres spent is known while it runs.
            with admin.connect(bench.url).connect() as database:
                for _ in range(ROUNDS):
                    before = processor_time.seconds()
                    no_rests = Pace(RESEAL_CARDS_MAX, sleep=lambda _: None)
                    rates.append(bench.reseal(database, no_rests))
                    processor_time.note("reseal", before, CARDS)
                    bench.put_back(bench.url)
                    bench.measure_floors()
            with D1Client(issuer.d1) as client:
                target = load.Target(issuer.d1, client.new_access_token(), issuer.seccos_keys)
            crew = load.Crew(load.PROCESSES, work, target, issuer, urls[1])
            under_load = Load(crew, ports[0])
            latencies = {kind: measure_beside(bench, under_load, kind) for kind in STATUS}
            crew.dismiss()
    listed = " ".join(f"{rate:.0f}" for rate in rates)
    print(f"cards a second, alone: {median(rates):.0f} (goal {GOAL_A_SECOND}), rounds {listed}")
    processor_time.show({"reseal": "a card"})
    measure.print_parts("card", median(rates), bench.seconds)
    print(f"\n{LOAD_A_SECOND} a second beside it{'p50 ms':>10}{'p99 ms':>10}   cards a second")
    for kind, (alone, beside, rate) in latencies.items():
        print(f"{kind + ', no reseal':<22}{measure.p50_and_p99(alone, 10, 10)}")
        print(f"{kind + ', reseal':<22}{measure.p50_and_p99(beside, 10, 10)}{rate:>17.0f}")
    for (kind, status), count in under_load.wrong.items():
        print(f"wrong answers: {count} times {status} to {kind}", file=sys.stderr)
    return 1 if under_load.wrong else 0


def measure_beside(
    bench: Bench, under_load: Load, kind: str
) -> tuple[Sequence[float], Sequence[float], float]:
    """Measure requests without a reseal and during one, and the reseal meanwhile."""
    alone = under_load.run(kind)
    with ThreadPoolExecutor(1) as thread:
        # Rows are put back in between: that would hold those of the load for long.
        rate = thread.submit(_reseal_once, bench)
        beside = under_load.run(kind)
    bench.put_back(bench.url)
    return alone, beside, rate.result()


def _reseal_once(bench: Bench) -> float:
    with admin.connect(bench.url).connect() as database:
        return bench.reseal(database, Pace(RESEAL_CARDS_MAX))


if __name__ == "__main__":
    sys.exit(main())

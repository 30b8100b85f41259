"""PUT pin, GET pin and changeCounter with one and two workers of each program, and more callers.

Each row is a deployment of its own, one after another, so the rows drift with the machine; the rows
of callers are of one deployment. Every status is checked.
"""

import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from typing import Final

from benchmarks import deployment, load, measure, requests
from benchmarks.deployment import Workers
from cms.sandbox.partners.d1 import D1Client

KINDS: Final = ("put", "get", "counter")
WORKERS: Final = (Workers(1, 1), Workers(1, 2), Workers(2, 1), Workers(2, 2))
CONNECTIONS: Final = (1, 16, 64)
USUAL: Final = load.PROCESSES * load.CONNECTIONS
ROUND_SECONDS: Final = 4.0
START_SECONDS: Final = 0.5


class Scale:
    """What was measured, and which answers should not have come."""

    def __init__(self) -> None:
        self.wrong: Counter[tuple[str, int]] = Counter()

    def measure(self, workers: Workers, connections: tuple[int, ...]) -> None:
        """Print a row for each number of connections to one deployment."""
        with deployment.directory_and_hsm_token() as (directory, hsm_token), ExitStack() as stack:
            ports = deployment.free_ports(2)
            issuer = deployment.make_issuer(directory, hsm_token, f"https://localhost:{ports[0]}")
            url, copy_url = stack.enter_context(deployment.database(directory, issuer))
            stack.enter_context(deployment.serving(directory, ports, url, workers))
            with D1Client(issuer.d1) as client:
                target = load.Target(issuer.d1, client.new_access_token(), issuer.seccos_keys)
            for count in connections:
                processes = min(count, load.PROCESSES)
                crew = load.Crew(processes, requests.work, target, issuer, copy_url)
                self._run(crew, "put", processes, load.Plan(ports[0], 1, 0.0, 1.0))  # warms up
                plan = load.Plan(ports[0], count // processes, 0.0, ROUND_SECONDS)
                rates = [self._run(crew, kind, processes, plan).per_second for kind in KINDS]
                crew.dismiss()
                cells = "".join(f"{rate:>20.0f}" for rate in rates)
                print(f"{workers.vault:>8}{workers.web:>8}{count:>14}{cells}", flush=True)

    def _run(self, crew: load.Crew, kind: str, processes: int, plan: load.Plan) -> load.Outcome:
        crew.do("prepare", kind, int(requests.RATE_MAX[kind] * plan.seconds / processes))
        plan = replace(plan, starts_at=time.monotonic() + START_SECONDS)
        outcome = load.merge(crew.do("run", plan))
        for status, count in outcome.statuses.items():
            if status != requests.STATUS[kind]:
                self.wrong[kind, status] += count
        return outcome


def main() -> int:
    """Measure and print; with arguments, one deployment: a process opens one HSM token only."""
    if sys.argv[1:]:
        vault, web, *connections = map(int, sys.argv[1:])
        scale = Scale()
        scale.measure(Workers(vault, web), tuple(connections))
        for (kind, status), count in scale.wrong.items():
            print(f"wrong answers: {count} times {status} to {kind}", file=sys.stderr)
        return 1 if scale.wrong else 0
    measure.heading(f"Workers and connections · {measure.machine()}")
    columns = "".join(f"{requests.NAMES[kind] + '/s':>20}" for kind in KINDS)
    print(f"{'vault':>8}{'web':>8}{'connections':>14}{columns}", flush=True)
    deployments = [(workers, (USUAL,)) for workers in WORKERS] + [(Workers(1, 2), CONNECTIONS)]
    return max(_row(workers, connections) for workers, connections in deployments)


def _row(workers: Workers, connections: tuple[int, ...]) -> int:
    words = [str(each) for each in (workers.vault, workers.web, *connections)]
    command = [sys.executable, "-m", "benchmarks.scale", *words]
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

"""Tokens, images and pages of the hosted face against a whole deployment, load on the same cores.

As :mod:`benchmarks.requests`, on the cardholder listener: two workers behind TLS, a Postgres whose
commits are on the disk before they are answered, a SoftHSM token, and two processes that make the
load. Every token is asked for with a bearer of its own, so every bearer is verified; every image
consumes a token that the service issued, and every page submit a session that it opened, for which
a JWE was made before the clock started. No card has more live tokens than the service lets it have.

Every status and every ``X-Pin-Result`` is checked. At the end the answers must agree with the
audit, the consumed tokens and the change counters: that, and only that, makes the exit code 1.

The ratio at the end compares the image rate with a service whose own code costs nothing, as
:mod:`benchmarks.requests` does for PUT.
"""

import json
import secrets
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, repeat
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any, Final

from benchmarks import deployment, floors, load, measure
from benchmarks.processor_time import ProcessorTime
from cms.domain.cards import Verb
from cms.domain.control import EndReason
from cms.persistence.statements.control_token import ISSUED
from cms.sandbox.partners.d1 import D1Config
from crypto.pin_image import ImageStyle
from hsm.pkcs11.token import Pkcs11Token
from hsm.port import SealedPin

CARDS: Final = 1600
"""A PIN that is set ends all else of its card: so many pages can be submitted in one round."""
ROUNDS: Final = 3
ROUND_SECONDS: Final = 2.0
HALF_SECONDS: Final = 4.0
FLOOR_SECONDS: Final = 0.8
START_SECONDS: Final = 0.3
STOCK_SECONDS_MAX: Final = 30.0
KINDS: Final = ("token", "image", "submit")
NAMES: Final = {"token": "token issue", "image": "image", "submit": "page submit"}
RATE_FIRST: Final = {"token": 1500, "image": 800, "submit": 600}
"""As many a second are prepared for the first round; for others, a half more than were answered."""
GOAL: Final = 1200
GOAL_P99_MS: Final = 15
STATUS: Final = {"token": 200, "image": 200, "submit": 204, "set token": 200, "session": 200}


@dataclass(frozen=True)
class Target:
    """Where to send requests, and as whom."""

    d1: D1Config
    """For TLS: the cardholder listener does not ask for its certificate."""
    directory: Path
    """Of the deployment, where the identity provider's key is."""
    port: int


class Generator:
    """One process' share of the load: its own cards, so that no two processes meet on one."""

    def __init__(self, target: Target, part: int) -> None:
        self._target = target
        self._provider = deployment.identity(target.directory)
        self._cards = range(part, CARDS, load.PROCESSES)
        self._issued = 0
        # The newest, of which no card has more than may be live.
        self._tokens = deque[str](maxlen=2 * len(self._cards))
        self._set_tokens: list[str] = []
        self._sessions: list[Mapping[str, Any]] = []
        self._kind = ""
        self._requests: Iterator[bytes] = iter(())

    def prepare(self, kind: str, count: int) -> Sequence[tuple[str, load.Outcome]]:
        """Make *count* requests, or as many as cards allow; return what had to be asked first."""
        asked = []
        if kind == "image":
            if (missing := count - len(self._tokens)) > 0:
                asked = [self._ask("token", missing)]
            count = min(count, len(self._tokens))
        if kind == "submit":
            self._tokens.clear()
            self._sessions.clear()
            asked = [self._ask("set token", min(count, len(self._cards)))]
            asked += [self._ask("session", len(self._set_tokens))]
            count = len(self._sessions)
        self._make(kind, count)
        return asked

    def prepare_one(self) -> None:
        """Make one GET, to be sent over and over to a server that does not look at it."""
        self._kind = "bare"
        self._requests = repeat(load.request("GET", "/"))

    def run(self, plan: load.Plan) -> load.Outcome:
        """Send what was prepared, in its order."""
        takers = {
            "token": lambda answer: self._tokens.append(_json(answer)["token"]),
            "set token": lambda answer: self._set_tokens.append(_json(answer)["token"]),
            "session": lambda answer: self._sessions.append(_session(answer)),
        }
        outcome = load.send(plan, self._requests, self._target.d1, takers.get(self._kind))
        self._issued += outcome.statuses.total() if self._kind == "token" else 0
        return outcome

    def _ask(self, kind: str, count: int) -> tuple[str, load.Outcome]:
        """Have the service make what other requests need; the time it takes does not count."""
        self._make(kind, count)
        plan = load.Plan(self._target.port, load.CONNECTIONS, time.monotonic(), STOCK_SECONDS_MAX)
        return kind, self.run(plan)

    def _make(self, kind: str, count: int) -> None:
        makers: dict[str, Callable[[int], bytes]] = {
            "token": lambda number: self._token("/v1/card/pin/token", self._issued + number),
            "image": lambda _: load.request("GET", f"/details-image?token={self._tokens.pop()}"),
            "set token": lambda number: self._token("/v1/card/set-pin/token", number),
            "session": lambda _: _open(self._set_tokens.pop()),
            "submit": lambda _: self._submit(),
        }
        self._kind = kind
        self._requests = iter([makers[kind](number) for number in range(count)])

    def _token(self, path: str, number: int) -> bytes:
        card = self._cards[number % len(self._cards)]
        bearer = self._provider.issue(_card_id(card))
        headers = f"x-client-key: {deployment.APP}", f"Authorization: Bearer {bearer}"
        return load.request("POST", path, *headers)

    def _submit(self) -> bytes:
        opened = self._sessions.pop()
        block = f"14{deployment.random_pin()}{secrets.token_hex(5).upper()}"
        named = {name: opened[name] for name in ("grantId", "controlToken")}
        plaintext = {**named, "block": block}
        jwe = deployment.encrypt_json(plaintext, opened["key"])
        members = {name: opened[name] for name in ("session", "controlToken")}
        return _post("/pin-direct/submit", **members, jwe=jwe)


def _card_id(number: int) -> str:
    return f"card-{number:04}"


def _open(control_token: str) -> bytes:
    """Ask for a page session; the answer has the control token in its correlation id."""
    return _post("/pin-direct/session", f"X-Correlation-Id: {control_token}", token=control_token)


def _session(answer: bytearray) -> Mapping[str, Any]:
    head = bytes(answer.partition(load.HEADER_END)[0]).decode("latin-1").lower()
    control_token = head.partition("x-correlation-id:")[2].partition("\r")[0].strip()
    return {**_json(answer), "controlToken": control_token}


def _post(path: str, *headers: str, **members: str) -> bytes:
    content_type = "Content-Type: application/json"
    return load.request("POST", path, content_type, *headers, body=json.dumps(members))


def _json(answer: bytearray) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(answer.partition(load.HEADER_END)[2])
    return content


def _work(
    pipe: "Connection[Any, Any]",
    target: Target,
    issuer: deployment.Issuer,
    pin: SealedPin,
    copy_url: str,
    part: int,
) -> None:
    generator = Generator(target, part)
    copied: list[bytes] = []

    def stock() -> None:
        cards = [_card_id(number) for number in range(part, CARDS, load.PROCESSES)]
        copied[:] = floors.stock_tokens(copy_url, cards)

    load.answer_jobs(
        pipe,
        {
            "prepare": generator.prepare,
            "prepare one": generator.prepare_one,
            "run": generator.run,
            "image": lambda seconds: floors.image_seconds(issuer, pin, ImageStyle(), seconds),
            "stock": stock,
            "consume": lambda seconds: floors.consume_seconds(copy_url, copied, seconds),
        },
    )
    floors.close_hsm_token()


@dataclass
class Figures(measure.Figures):
    """What the rounds measured."""

    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    """By kind and status, whether they were measured or not."""
    pin_results: Counter[str] = field(default_factory=Counter)


class Bench:
    """The measurements of one deployment."""

    def __init__(
        self, crew: load.Crew, port: int, bare_port: int, processor_time: ProcessorTime
    ) -> None:
        self._crew = crew
        self._processor_time = processor_time
        self._port = port
        self._bare_port = bare_port
        self.figures = Figures()

    def warm_up(self, kind: str) -> None:
        """Send a few; they are checked as all others are."""
        self._prepare(kind, 100)
        self._run(kind, load.Plan(self._port, load.CONNECTIONS, 0.0, ROUND_SECONDS))

    def saturate(self, kind: str) -> None:
        """Send as many requests as are answered."""
        rates = self.figures.rates[kind]
        rate = 1.5 * max(rates) if rates else RATE_FIRST[kind]
        self._prepare(kind, int(rate * ROUND_SECONDS / load.PROCESSES))
        before = self._processor_time.seconds()
        outcome = self._run(kind, load.Plan(self._port, load.CONNECTIONS, 0.0, ROUND_SECONDS))
        self._processor_time.note(kind, before, outcome.statuses.total())
        rates.append(outcome.per_second)
        self.figures.latencies_ms[kind] += outcome.latencies_ms

    def halve(self, kind: str) -> None:
        """Send requests at half the rate of saturation."""
        rate = median(self.figures.rates[kind]) / 2 / load.PROCESSES
        self._prepare(kind, int(rate * HALF_SECONDS * 1.3))
        plan = load.Plan(self._port, load.CONNECTIONS, 0.0, HALF_SECONDS, rate)
        self.figures.latencies_ms[f"{kind} at half"] += self._run(kind, plan).latencies_ms

    def measure_floors(self) -> None:
        """Measure each part of an image alone."""
        seconds = self.figures.seconds
        hsm_token, drawing = zip(*self._crew.do("image", FLOOR_SECONDS), strict=True)
        seconds["token calls"].append(measure.capacity(hsm_token))
        seconds["drawing"].append(measure.capacity(drawing))
        self._crew.do("stock")
        consume = self._crew.do("consume", FLOOR_SECONDS)
        seconds["two statements, one commit"].append(measure.capacity(consume))
        self._crew.do("prepare one")
        outcome = self._run(
            "bare", load.Plan(self._bare_port, load.CONNECTIONS, 0.0, FLOOR_SECONDS)
        )
        seconds["server, TLS and load generator"].append(1 / outcome.per_second)

    def _prepare(self, kind: str, count: int) -> None:
        for asked, outcome in chain(*self._crew.do("prepare", kind, count)):
            self._note(asked, outcome)

    def _run(self, kind: str, plan: load.Plan) -> load.Outcome:
        plan = replace(plan, starts_at=time.monotonic() + START_SECONDS)
        outcome = load.merge(self._crew.do("run", plan))
        self._note(kind, outcome)
        return outcome

    def _note(self, kind: str, outcome: load.Outcome) -> None:
        if kind == "bare":
            return
        for status, count in outcome.statuses.items():
            self.figures.answers[kind, status] += count
        self.figures.pin_results += outcome.pin_results


def main() -> int:
    """Measure and print."""
    workers = deployment.Workers.asked_for()
    measure.heading(f"Hosted face · {measure.machine()} · {workers}")
    with deployment.directory_and_hsm_token() as (directory, hsm_token):
        ports = deployment.free_ports(4)
        issuer = deployment.make_issuer(
            directory, hsm_token, f"https://localhost:{ports[0]}", CARDS
        )
        pins = deployment.set_pins(hsm_token, issuer)
        first_pin = next(iter(pins.values())).sealed_pin
        assert first_pin is not None, "they came as ISO-0"
        calls = _hsm_token_calls(hsm_token, issuer, first_pin)
        with deployment.database(directory, issuer, pins) as (url, copy_url):
            settings = deployment.cardholder_settings(directory, ports[2])
            with (
                deployment.serving(directory, ports, url, workers, settings) as service,
                deployment.running(
                    ("-m", "benchmarks.floors", str(ports[3])), directory / "floor.log"
                ),
            ):
                target = Target(issuer.d1, directory, ports[2])
                crew = load.Crew(load.PROCESSES, _work, target, issuer, first_pin, copy_url)
                processor_time = service.processor_time()
                bench = Bench(crew, ports[2], ports[3], processor_time)
                for kind in KINDS:
                    bench.warm_up(kind)
                for _ in range(ROUNDS):
                    for kind in KINDS:
                        bench.saturate(kind)
                    bench.measure_floors()
                for kind in KINDS:
                    bench.halve(kind)
                crew.dismiss()
                memory = service.resident_mib()
            found = deployment.stored(url)
    figures = bench.figures
    _print_requests(figures)
    processor_time.show(NAMES)
    measure.print_memory(memory)
    measure.print_calls("an image", calls)
    measure.print_parts("image", median(figures.rates["image"]), figures.seconds)
    return _verdict(figures, found)


def _hsm_token_calls(
    hsm_token: Pkcs11Token, issuer: deployment.Issuer, pin: SealedPin
) -> Counter[str]:
    """Count the HSM token calls of one image, with the manifest already verified."""
    counting = floors.CountingHsmToken(hsm_token)
    vault = floors.counted_vault(counting)
    floors.draw_one_image(vault, issuer, pin, ImageStyle())
    counting.calls.clear()
    floors.draw_one_image(vault, issuer, pin, ImageStyle())
    return counting.calls


def _print_requests(figures: Figures) -> None:
    print(
        f"{'':<14}{'goal/s':>7}{'median/s':>10}   {'rounds':<18}{'p50 ms':>8}{'p99 ms':>8}", end=""
    )
    print(f"{'p50 at half':>14}{'p99 at half':>13}{'goal':>7}")
    for kind in KINDS:
        rates = figures.rates[kind]
        rounds = " ".join(f"{rate:.0f}" for rate in rates)
        goal, goal_ms = (GOAL, GOAL_P99_MS) if kind == "image" else ("", "")
        line = f"{NAMES[kind]:<14}{goal:>7}{median(rates):>10.0f}   {rounds:<18}"
        line += measure.p50_and_p99(figures.latencies_ms[kind], 8, 8)
        line += measure.p50_and_p99(figures.latencies_ms[f"{kind} at half"], 14, 13)
        print(f"{line}{goal_ms:>7}")


def _verdict(figures: Figures, found: Mapping[str, int]) -> int:
    """Say whether the service did what it was asked to: not how fast."""
    wrong = {each: n for each, n in figures.answers.items() if each[1] != STATUS[each[0]]}
    for (kind, status), count in wrong.items():
        print(f"wrong answers: {count} times {status} to {kind}", file=sys.stderr)
    issued = figures.answers["token", 200] + figures.answers["set token", 200]
    shown, submitted = figures.answers["image", 200], figures.answers["submit", 204]
    agree = {
        "tokens": (issued, found["tokens"], found[f"audit {ISSUED}"]),
        "images": (
            *(shown, figures.pin_results["shown"], figures.pin_results.total()),
            *(found[f"tokens {EndReason.SHOWN}"], found[f"audit {Verb.GET_PIN}"]),
        ),
        "pages": (
            *(submitted, found["changes"]),
            *(found[f"tokens {EndReason.SET}"], found[f"audit {Verb.SET_PIN}"]),
        ),
    }
    return measure.report_agreement(agree) or int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())

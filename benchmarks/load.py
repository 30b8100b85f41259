"""A load generator that costs little: it shares the cores with what it measures.

Requests are bytes made before the clock starts. A connection is kept alive and carries one
request at a time; of an answer only the status, the length and what became of a PIN are read.
"""

import asyncio
import json
import multiprocessing
import random
import re
import ssl
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from multiprocessing.connection import Connection
from typing import Any, Final

import uvloop

from benchmarks.deployment import CARDS, ISSUER, pin_jwe, seccos_jwe
from cms.sandbox.partners.d1 import D1Config
from cms.sandbox.partners.d1_seccos import Keys

LENGTH: Final = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)
PIN_RESULT: Final = re.compile(rb"\r\nx-pin-result: *([a-z]+)", re.IGNORECASE)
HEADER_END: Final = b"\r\n\r\n"
PROCESSES: Final = 2
CONNECTIONS: Final = 12
"""Of each process that makes load."""
PATH: Final = f"/cms/api/v1/issuers/{ISSUER}/cards/%s/pin"
#: A connection that is not answered for so long ends the measurement with an error.
ANSWER_SECONDS_MAX: Final = 10.0


@dataclass(frozen=True)
class Target:
    """Where to send requests, and as whom."""

    d1: D1Config
    bearer: str
    seccos_keys: Keys
    others: Sequence[int] = ()
    """Numbers of cards ``other-``, which have no PIN that opens."""


@dataclass(frozen=True)
class Plan:
    """One measurement of one process.

    *rate* is None for as many requests as are answered, else that many a second, at random
    (Poisson) moments whether or not earlier ones were answered.
    """

    port: int
    connections: int
    starts_at: float
    seconds: float
    rate: float | None = None


@dataclass
class Outcome:
    """What came back. Latencies count from when a request was due, in milliseconds."""

    per_second: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    pin_results: Counter[str] = field(default_factory=Counter)
    """Of the answers that have this header."""
    latencies_ms: list[float] = field(default_factory=list)


class Crew:
    """Processes that work at the same time, each on its part.

    Args:
        processes: how many.
        work: what each runs: takes its end of a pipe, *arguments* and its number, answers each job
            that comes, and returns when None comes.
        arguments: for *work*.
    """

    def __init__(self, processes: int, work: Callable[..., None], *arguments: object) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pipes: list[Connection[Any, Any]] = []
        for part in range(processes):
            ours, theirs = spawn.Pipe()
            # Daemons end with this process.
            spawn.Process(target=work, args=(theirs, *arguments, part), daemon=True).start()
            theirs.close()
            self._pipes.append(ours)

    def do(self, job: str, *arguments: object) -> Sequence[Any]:
        """Let each process do a job; wait for all and return their results."""
        for pipe in self._pipes:
            pipe.send((job, arguments))
        return [pipe.recv() for pipe in self._pipes]

    def dismiss(self) -> None:
        """End the processes."""
        for pipe in self._pipes:
            pipe.send(None)


def answer_jobs(pipe: "Connection[Any, Any]", jobs: Mapping[str, Callable[..., object]]) -> None:
    """Do what comes through *pipe* until None comes."""
    while (message := pipe.recv()) is not None:
        job, arguments = message
        pipe.send(jobs[job](*arguments))


class Generator:
    """One process' share of the load: its own cards, so that no two processes meet on one."""

    def __init__(self, target: Target, part: int, parts: int) -> None:
        self._target = target
        self._cards = range(part, CARDS, parts)
        self._requests: Iterator[bytes] = iter(())
        self._kind = ""
        self._seccos_changes = 0

    def prepare(self, kind: str, count: int) -> None:
        """Make *count* requests of a kind; each PUT holds a JWE of its own."""
        makers = {
            "put": self._put,
            "seccos": self._put_seccos,
            "get": self._get,
            "counter": self._counter,
            "any": self._counter_of_any,
        }
        self._kind = kind
        self._requests = iter([makers[kind](number) for number in range(count)])

    def prepare_one(self) -> None:
        """Make one PUT, to be sent over and over to a server that does not look at it."""
        self._requests = repeat(self._put(0))

    def run(self, plan: Plan) -> Outcome:
        """Send what was prepared, in its order."""
        outcome = send(plan, self._requests, self._target.d1)
        if self._kind == "seccos":
            self._seccos_changes += outcome.statuses[204]
        return outcome

    def _put(self, number: int) -> bytes:
        token = pin_jwe(self._target.d1.issuer_jwk)
        return self._put_pin(self._card_id(number), "ISO0", token)

    def _put_seccos(self, number: int) -> bytes:
        """Make a PUT with the counter that its card will have when its turn comes."""
        number += self._seccos_changes
        keys = self._target.seccos_keys
        token = seccos_jwe(self._target.d1.issuer_jwk, keys, number // len(self._cards))
        return self._put_pin(self._card_id(number, CARDS), "SECCOS", token)

    def _put_pin(self, card_id: str, type_: str, token: str) -> bytes:
        body = json.dumps({"type": type_, "encryptedPinBlock": token})
        return self._request("PUT", card_id, "", body)

    def _get(self, number: int) -> bytes:
        return self._request("GET", self._card_id(number), "")

    def _counter(self, number: int) -> bytes:
        return self._request("GET", self._card_id(number), "/changeCounter")

    def _counter_of_any(self, _: int) -> bytes:
        card_id = f"other-{random.choice(self._target.others)}"
        return self._request("GET", card_id, "/changeCounter")

    def _card_id(self, number: int, first: int = 0) -> str:
        return f"card-{first + self._cards[number % len(self._cards)]:04d}"

    def _request(self, method: str, card_id: str, tail: str, body: str = "") -> bytes:
        lines = [
            f"{method} {PATH % card_id}{tail} HTTP/1.1",
            "Host: localhost",
            f"Authorization: Bearer {self._target.bearer}",
        ]
        if body:
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


def request(method: str, path: str, *headers: str, body: str = "") -> bytes:
    """Make a request."""
    lines = (f"{method} {path} HTTP/1.1", "Host: localhost", *headers)
    return "\r\n".join((*lines, f"Content-Length: {len(body)}", "", body)).encode()


def send(
    plan: Plan,
    requests: Iterator[bytes],
    d1: D1Config,
    take: Callable[[bytearray], None] | None = None,
) -> Outcome:
    """Send *requests* as planned, or until there are no more; hand each answer to *take*."""
    return uvloop.run(_Run(plan, requests, take).measure(d1))


class _Run:
    """One measurement."""

    def __init__(
        self,
        plan: Plan,
        requests: Iterator[bytes],
        take: Callable[[bytearray], None] | None,
    ) -> None:
        self.plan = plan
        self.requests = requests
        self.take = take
        self.outcome = Outcome()
        self.ends_at = plan.starts_at + plan.seconds
        self.idle: deque[_Connection] = deque()
        self.waiting: deque[float] = deque()
        """When each request was due that no connection was free for."""
        self.in_flight = 0
        self.last_at = 0.0

    async def measure(self, d1: D1Config) -> Outcome:
        loop = asyncio.get_running_loop()
        tls = client_context(d1)
        for _ in range(self.plan.connections):
            _, connection = await loop.create_connection(
                lambda: _Connection(self),
                "127.0.0.1",
                self.plan.port,
                ssl=tls,
                server_hostname="localhost",
            )
            self.idle.append(connection)
        connections = list(self.idle)
        await asyncio.sleep(self.plan.starts_at - time.monotonic())
        if self.plan.rate is None:
            while self.idle:
                self.idle.popleft().send(time.monotonic())
        else:
            await self._pace(self.plan.rate)
        await self._drain()
        for connection in connections:
            connection.close()
        taken = self.last_at - self.plan.starts_at
        self.outcome.per_second = len(self.outcome.latencies_ms) / taken
        return self.outcome

    async def _pace(self, rate: float) -> None:
        due = self.plan.starts_at
        while (due := due + random.expovariate(rate)) < self.ends_at:
            if (wait := due - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            # The loop's timer counts milliseconds and may be early.
            moment = min(due, time.monotonic())
            if self.idle:
                self.idle.popleft().send(moment)
            else:
                self.waiting.append(moment)

    async def _drain(self) -> None:
        while time.monotonic() < self.ends_at or self.in_flight or self.waiting:
            if time.monotonic() > self.ends_at + ANSWER_SECONDS_MAX:
                raise SystemExit("the service does not answer")
            await asyncio.sleep(0.01)

    def next_request(self) -> bytes | None:
        request = next(self.requests, None)
        if request is None:
            self.ends_at = min(self.ends_at, time.monotonic())
            self.waiting.clear()
        else:
            self.in_flight += 1
        return request

    def answered(self, connection: "_Connection", answer: bytearray, due: float) -> None:
        now = time.monotonic()
        self.in_flight -= 1
        self.last_at = now
        self.outcome.statuses[int(answer[9:12])] += 1
        self.outcome.latencies_ms.append((now - due) * 1000)
        if result := PIN_RESULT.search(answer, 0, answer.find(HEADER_END)):
            self.outcome.pin_results[result[1].decode()] += 1
        if self.take is not None:
            self.take(answer)
        if self.waiting:
            connection.send(self.waiting.popleft())
        elif self.plan.rate is None and now < self.ends_at:
            connection.send(now)
        else:
            self.idle.append(connection)


class _Connection(asyncio.Protocol):
    """One kept-alive connection."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._due = 0.0
        self._answer = bytearray()
        self._answer_bytes = 0
        """Of the whole answer; 0 while its header is not complete."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport

    def connection_lost(self, _: Exception | None) -> None:
        if self._due:
            raise SystemExit("the service closed a connection")

    def close(self) -> None:
        self._transport.close()

    def send(self, due: float) -> None:
        request = self._run.next_request()
        if request is None:
            return
        self._due = due
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._answer += data
        if self._answer_bytes == 0:
            end = self._answer.find(HEADER_END)
            if end < 0:
                return
            length = LENGTH.search(self._answer, 0, end)
            self._answer_bytes = end + len(HEADER_END) + (int(length[1]) if length else 0)
        if len(self._answer) < self._answer_bytes:
            return
        answer, due = self._answer, self._due
        self._answer, self._answer_bytes, self._due = bytearray(), 0, 0.0
        self._run.answered(self, answer, due)


def client_context(d1: D1Config) -> ssl.SSLContext:
    """Make D1's side of mutual TLS."""
    context = ssl.create_default_context(cafile=d1.ca)
    context.load_cert_chain(d1.client_cert, d1.client_key)
    return context


def merge(outcomes: Sequence[Outcome]) -> Outcome:
    """Join what the processes of one measurement saw."""
    merged = Outcome()
    for outcome in outcomes:
        merged.per_second += outcome.per_second
        merged.statuses += outcome.statuses
        merged.pin_results += outcome.pin_results
        merged.latencies_ms += outcome.latencies_ms
    return merged

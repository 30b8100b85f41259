"""Callers that set PINs while things break, what they know afterwards, and the check of it."""

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Final

import httpx
import psycopg

from cms.sandbox.partners.d1 import D1Client
from crypto.jose import jwe
from tests.deployment import Enrolled, patiently, wait_for
from tests.issuer_records import SampleIssuer

BROKEN: Final = 0
"""Stands for the status of a call whose connection broke."""
CALLS_A_CONNECTION: Final = 8
"""A caller reconnects this often, so that every worker has callers."""


@dataclass(frozen=True)
class Change:
    """A PIN change that D1 asked for; *key* is what the service keeps of the JWE."""

    key: bytes
    jwe: str
    pin: str


@dataclass
class Sent:
    """What callers know of one card: changes that were acknowledged, changes that may be there."""

    acked: list[Change] = field(default_factory=list)
    in_doubt: list[Change] = field(default_factory=list)


@dataclass(frozen=True)
class Stored:
    """What the database says of one card: history is counter and key, audited the counters."""

    counter: int
    history: Sequence[tuple[int, bytes]]
    audited: Sequence[int]


def violations(sent: Sent, stored: Stored) -> list[str]:
    """Say in what the database contradicts the callers; nothing when it does not."""
    acked = {change.key for change in sent.acked}
    asked = acked | {change.key for change in sent.in_doubt}
    cached = {key for _, key in stored.history}
    every = list(range(1, stored.counter + 1))
    rules = {
        "an acknowledged change is lost": acked <= cached,
        "a change was never asked for": cached <= asked,
        "the counter is below what was acknowledged": len(acked) <= stored.counter,
        "the counter is above what was asked for": stored.counter <= len(asked),
        "history and counter differ": [counter for counter, _ in stored.history] == every,
        "audit and counter differ": list(stored.audited) == every,
    }
    return [rule for rule, holds in rules.items() if not holds]


def read_stored(database_url: str, issuer_id: str, card_id: str) -> Stored:
    card = (issuer_id, card_id)
    with psycopg.connect(database_url) as connection:
        row = connection.execute(
            "SELECT counter FROM cards WHERE issuer_id = %s AND card_id = %s", card
        ).fetchone()
        history = connection.execute(
            "SELECT counter, request_key FROM pin_changes"
            " WHERE issuer_id = %s AND card_id = %s ORDER BY counter",
            card,
        ).fetchall()
        audited = connection.execute(
            "SELECT counter FROM audit_events WHERE issuer_id = %s AND card_id = %s"
            " AND event = 'pin.set' ORDER BY counter",
            card,
        ).fetchall()
    assert row is not None
    changes = [(counter, bytes(key)) for counter, key in history]
    return Stored(row[0], changes, [counter for (counter,) in audited])


class Load:
    """Callers of one issuer, each a thread with a connection of its own, all on the same cards.

    Who gets no answer to its liking waits *pause_seconds* before it calls again.
    """

    def __init__(
        self, enrolled: Enrolled, cards: Sequence[str], seed: int, pause_seconds: float = 0
    ) -> None:
        self.sent = {card: Sent() for card in cards}
        self.wrong: list[str] = []
        """Answers that no caller should ever see."""
        self.answers: list[int] = []
        """Every status in turn, or BROKEN."""
        self.enrolled = enrolled
        self.acked_at = [time.monotonic()]
        """When a change was acknowledged, in turn, after the time at which this was made."""
        self._seed = seed
        self._pause_seconds = pause_seconds
        self._over = threading.Event()

    def wait_for_one(self, status: int) -> None:
        """Wait until a call is answered so."""
        before = self.answers.count(status)
        wait_for(lambda: self.answers.count(status) > before)

    def outage_seconds(self, since: float) -> float:
        """The longest time without an acknowledged change, from *since* on."""
        times = [since, *sorted(at for at in self.acked_at if at > since)]
        return max(after - before for before, after in pairwise(times))

    @contextmanager
    def running(self, callers: int) -> Iterator[None]:
        """Keep *callers* calling until the block ends."""
        self._over.clear()
        threads = [threading.Thread(target=self._call, args=(each,)) for each in range(callers)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def replay(self) -> None:
        """Send again what may be there, as D1 does, until each is acknowledged."""
        with self.enrolled.client() as client:
            for card, sent in self.sent.items():
                for change in sent.in_doubt:
                    again = partial(client.put, card, change.jwe)
                    assert patiently(again).status_code == 204
                sent.acked += sent.in_doubt
                sent.in_doubt = []

    def _call(self, number: int) -> None:
        chance = random.Random(self._seed * 100 + number)
        seen = dict.fromkeys(self.sent, 0)
        with self.enrolled.client() as client:
            bearer = client.access_token(), client._access_token_until_s
        while not self._over.is_set():
            with self.enrolled.client() as client:
                client._access_token, client._access_token_until_s = bearer
                for _ in range(CALLS_A_CONNECTION):
                    card = chance.choice(list(self.sent))
                    if chance.random() < 0.2:
                        seen[card] = self._count(client, card, seen[card])
                    else:
                        self._set(client, card, chance)

    def _set(self, client: D1Client, card: str, chance: random.Random) -> None:
        change = new_change(self.enrolled.sample_issuer, card, chance)
        answer = self._answer(lambda: client.put(card, change.jwe), expected=204)
        sent = self.sent[card]
        (sent.in_doubt if answer is None else sent.acked).append(change)
        if answer is None:
            self._over.wait(self._pause_seconds)
        else:
            self.acked_at.append(time.monotonic())

    def _count(self, client: D1Client, card: str, seen: int) -> int:
        issuer_id = self.enrolled.sample_issuer.issuer_id
        path = f"/cms/api/v1/issuers/{issuer_id}/cards/{card}/pin/changeCounter"
        answer = self._answer(lambda: client.request("GET", path), expected=200)
        if answer is None:
            return seen
        counter: int = answer.json()["changeCounter"]
        if counter < seen:
            self.wrong.append(f"the counter went from {seen} to {counter}")
        return counter

    def _answer(
        self, call: Callable[[], httpx.Response], *, expected: int
    ) -> httpx.Response | None:
        """Call, and note the answer; None when it is not the one *expected*."""
        try:
            answer = call()
        except httpx.TransportError:
            self.answers.append(BROKEN)
            return None
        self.answers.append(answer.status_code)
        if answer.status_code == expected:
            return answer
        if answer.status_code != 503 or "Retry-After" not in answer.headers:
            self.wrong.append(f"{answer.status_code} {answer.text}")
        return None


def new_change(sample_issuer: SampleIssuer, card: str, chance: random.Random) -> Change:
    """A PIN that no policy calls weak, in a new JWE."""
    pin = "0000"
    while len(set(pin)) != 3:
        pin = f"{chance.randrange(10_000):04}"
    sent = sample_issuer.pin_jwe(pin, card)
    return Change(jwe.parse(sent).digest, sent, pin)


def verify(load: Load, database_url: str) -> None:
    """Compare what callers know with what is stored, before and after they send again."""
    assert load.wrong == []
    issuer_id = load.enrolled.sample_issuer.issuer_id
    for card, sent in load.sent.items():
        assert violations(sent, read_stored(database_url, issuer_id, card)) == []
    load.replay()
    for card, sent in load.sent.items():
        stored = read_stored(database_url, issuer_id, card)
        assert violations(sent, stored) == []
        assert stored.counter == len(sent.acked)
        pins = {change.key: change.pin for change in sent.acked}
        with load.enrolled.client() as client:
            assert patiently(partial(client.counter, card)) == stored.counter
            read = partial(client.get_pin, card, load.enrolled.sample_issuer.pans[card])
            assert patiently(read) == pins[stored.history[-1][1]]

"""Two hosts behind a balancer, with one database and the keys of one ceremony in two HSMs."""

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from cms.domain.records import TAKEN
from cms.sandbox.machine.postgres import Postgres
from cms.sandbox.machine.softhsm import SoftHsm
from cms.sandbox.partners.d1 import D1Client
from cms.sandbox.partners.hosted_app import HostedClient
from cms.sandbox.partners.pincontrol_server import SET, VIEW
from hsm.log.lines import Action
from hsm.pkcs11.token import Pkcs11Token
from tests.deployment import (
    Deployment,
    lengthen_control_tokens,
    new_database,
    wait_for,
)
from tests.e2e import slow_clock
from tests.e2e.load import Sent, new_change, read_stored, violations
from tests.e2e.two_hosts import (
    C,
    Host,
    Issuer,
    Turns,
    TwoHosts,
    differences,
    first_and_second,
    lines_of,
    make_older,
    next_manifest,
)
from tests.issuer_records import PANS, app_client, name_card, run_sql, server_client

BANK, SMALL_BANK = "firstbank1", "secondbnk2"
CARD, SHARED_CARD, OWN_CARDS = "card-1", "card-2", ("card-3", "card-4")
SHOWN, ENDED = "shown", "ended"
FAILURES_MAX: Final = 5
"""Of a card's blocks for another PAN, by default."""
HAND_OUTS_MAX: Final = 2
"""Of a card in a day at the small bank."""
CALLS: Final = 10
"""Of each caller before a host is killed, while it is gone, and when it is there again."""


def enrol(
    prepared: Sequence[Deployment], hsm_token: Pkcs11Token, issuer_id: str, hand_outs_max: int
) -> Issuer:
    """Add an issuer with an app, a server and a cardholder; both hosts have its manifest."""
    first, *others = prepared
    enrolled, vault = first.enrol(hsm_token, issuer_id), first.vault(hsm_token)
    issuer = Issuer(
        *(enrolled, CARD, "4711"),
        *(f"{issuer_id}-app", f"{issuer_id}-server", f"{issuer_id}-holder"),
    )
    names = {"plastic_id": issuer.plastic, "cardholder_id": issuer.holder}
    name_card(first.database_url, vault, enrolled.sample_issuer, CARD, **names)
    clients = [client.model_dump(mode="json") for client in vault.read_manifest(issuer_id).clients]
    text = next_manifest(
        *(vault, issuer_id),
        clients=[*clients, app_client(issuer.app), server_client(issuer.server)],
        limits={"handouts_card_day_max": hand_outs_max},
    )
    vault.load_manifest(text)
    for other in others:
        other.vault(hsm_token).load_manifest(text)
    return issuer


@pytest.fixture(scope="module")
def prepared(
    tmp_path_factory: pytest.TempPathFactory,
    postgres: Postgres,
    softhsm: SoftHsm,
    hsm_token: Pkcs11Token,
) -> Sequence[Deployment]:
    """Settings of two hosts, whose HSMs have the keys of *hsm_token*."""
    url = new_database(postgres)
    lengthen_control_tokens(url)
    return first_and_second(tmp_path_factory.mktemp("hosts"), url, softhsm)


@pytest.fixture(scope="module")
def bank(prepared: Sequence[Deployment], hsm_token: Pkcs11Token) -> Issuer:
    return enrol(prepared, hsm_token, BANK, 10_000)


@pytest.fixture(scope="module")
def small_bank(prepared: Sequence[Deployment], hsm_token: Pkcs11Token) -> Issuer:
    return enrol(prepared, hsm_token, SMALL_BANK, HAND_OUTS_MAX)


@pytest.fixture(scope="module")
def served(prepared: Sequence[Deployment], bank: Issuer, small_bank: Issuer) -> Iterator[TwoHosts]:
    first, second = prepared
    two_hosts = TwoHosts(Host(first), Host(second))
    try:
        two_hosts.start()
        yield two_hosts
    finally:
        two_hosts.stop()


@pytest.fixture
def two_hosts(served: TwoHosts) -> TwoHosts:
    """Both, ready."""
    served.wait_until_ready()
    return served


def test_what_one_host_granted_the_other_opens(two_hosts: TwoHosts, bank: Issuer) -> None:
    pan = bank.enrolled.sample_issuer.pans[CARD]
    (first_d1, second_d1) = (two_hosts.d1(bank, host) for host in two_hosts.both)
    (first_app, second_app) = (two_hosts.app(bank, host) for host in two_hosts.both)
    (first_server, second_server) = (two_hosts.server(bank, host) for host in two_hosts.both)

    second_d1._access_token, second_d1._access_token_until_s = first_d1.access_token(), float("inf")
    first_d1.set_pin(CARD, "4071", pan)
    assert second_d1.get_pin(CARD, pan) == "4071"

    image = first_app.ask_to_view()
    assert second_app.image(image).headers["X-Pin-Result"] == SHOWN
    assert first_app.image(image).headers["X-Pin-Result"] == ENDED

    opened = second_app.open(first_app.ask_to_set())
    first_app.submit(opened, "5273")
    assert second_d1.get_pin(CARD, pan) == "5273"

    view = first_server.control_id(bank.plastic, VIEW)
    assert first_server.webview(view).status_code == 200
    assert second_server.view(view).headers["X-Pin-Result"] == SHOWN

    control = first_server.control_id(bank.plastic, SET)
    assert second_server.webview(control).status_code == 200
    opened = second_server.open(control)
    first_server.submit(opened, "8064")
    assert second_d1.get_pin(CARD, pan) == "8064"
    assert first_d1.counter(CARD) == second_d1.counter(CARD) == 3


def answer_of(two_hosts: TwoHosts, host: Host, version: int) -> str | None:
    """What a host said of a version of the bank's manifest; None: nothing yet."""
    rows = run_sql(
        two_hosts.database_url,
        "SELECT outcome FROM manifest_hosts WHERE issuer_id = %s AND host = %s AND version = %s",
        *(BANK, host.name, version),
    )
    return str(rows[0][0]) if rows else None


def test_a_manifest_is_loaded_when_both_hosts_have_it(
    two_hosts: TwoHosts, bank: Issuer, hsm_token: Pkcs11Token, tmp_path: Path
) -> None:
    first, second = two_hosts.both
    file = tmp_path / "manifest.json"
    vaults = [host.deployment.vault(hsm_token) for host in two_hosts.both]

    def load(seconds: int) -> tuple[int, str]:
        file.write_text(next_manifest(vaults[0], BANK))
        words = ("manifest", "load", file, "--host", "a", "--host", "b")
        done = first.command("cms", *words, "--wait-seconds", str(seconds))
        return done.returncode, done.stderr

    assert load(60) == (0, "")
    version = vaults[0].manifest_version(BANK)
    assert vaults[1].manifest_version(BANK) == version
    with second.without_vault():
        assert load(4) == (2, "stored; no answer yet of b\n")
        assert answer_of(two_hosts, first, version + 1) == TAKEN
        assert answer_of(two_hosts, second, version + 1) is None
        assert vaults[1].manifest_version(BANK) == version
    wait_for(lambda: answer_of(two_hosts, second, version + 1) == TAKEN)
    assert vaults[1].manifest_version(BANK) == version + 1


def test_each_host_counts_for_itself(two_hosts: TwoHosts, small_bank: Issuer) -> None:
    """The sum of both is what a caller gets who reaches both."""
    sample_issuer = small_bank.enrolled.sample_issuer
    wrong = 0
    for host in two_hosts.both:
        d1 = two_hosts.d1(small_bank, host)
        d1.put(CARD, sample_issuer.pin_jwe("4071"))
        while d1.put(CARD, sample_issuer.pin_jwe("2846")).status_code == 204:
            assert d1.put(CARD, sample_issuer.pin_jwe("2846", pan=PANS[1])).status_code == 400
            wrong += 1
        assert wrong % FAILURES_MAX == 0
    assert wrong == FAILURES_MAX * 2

    shown = 0
    for host in two_hosts.both:
        app = two_hosts.app(small_bank, host)
        while app.image(app.ask_to_view()).headers["X-Pin-Result"] == SHOWN:
            shown += 1
        assert shown % HAND_OUTS_MAX == 0
    assert shown == HAND_OUTS_MAX * 2


def test_whoever_writes_the_database_has_an_image_shown_once_by_each_host(
    two_hosts: TwoHosts, bank: Issuer
) -> None:
    """Who does not gets one image: the database says that the control token was consumed."""
    first, second = two_hosts.both
    two_hosts.d1(bank, first).set_pin(CARD, "4071", bank.enrolled.sample_issuer.pans[CARD])
    image = two_hosts.app(bank, first).ask_to_view()
    results = []
    for host in (first, first, second, second):
        results.append(two_hosts.app(bank, host).image(image).headers["X-Pin-Result"])
        run_sql(
            two_hosts.database_url,
            "UPDATE control_tokens SET consumed_at = NULL, ended_at = NULL, end_reason = NULL",
        )
    assert results == [SHOWN, ENDED, SHOWN, ENDED]


def test_the_audit_is_compared_with_the_logs_of_both_hosts(
    two_hosts: TwoHosts, bank: Issuer
) -> None:
    first, second = two_hosts.both
    turns = Turns(*(two_hosts.d1(bank, host) for host in two_hosts.both))
    pan = bank.enrolled.sample_issuer.pans[CARD]
    for pin in ("4071", "5273"):
        turns.call(D1Client.set_pin, CARD, pin, pan)
        assert turns.call(D1Client.get_pin, CARD, pan) == pin
    make_older(two_hosts.database_url)
    of_first, of_second = (lines_of(bank, host) for host in two_hosts.both)
    assert of_first
    assert of_second
    assert not {*of_first} & {*of_second}

    def compare(*hosts: Host) -> tuple[int, Sequence[str]]:
        logs = [word for host in hosts for word in ("--log", host.log)]
        done = first.command("cms", "audit", "compare", BANK, *logs)
        assert done.stderr == ""
        return done.returncode, done.stdout.splitlines()

    code, (*found, compared, _, count) = compare(first, second)
    assert (code, found, count) == (0, [], "differences: 0")
    assert compared.endswith(f"with {len(of_first) + len(of_second)} lines")
    code, (*found, compared, _, count) = compare(first)
    assert code == 1
    assert compared.endswith(f"with {len(of_first)} lines")
    missed = {text.rpartition("no line has its receipt, ")[2] for text in found}
    told = [one for one, line in of_second.items() if line.event.what is not Action.REFUSED]
    assert len(found) == len(told)
    assert missed == {*told}


def test_a_host_whose_clock_is_slow_serves_nothing_and_the_other_goes_on(
    two_hosts: TwoHosts, bank: Issuer
) -> None:
    first, second = two_hosts.both
    here, there = (two_hosts.d1(bank, host) for host in two_hosts.both)
    change, pan = bank.enrolled.sample_issuer.pin_jwe, bank.enrolled.sample_issuer.pans[CARD]
    here.set_pin(CARD, "4071", pan)

    there._access_token, there._access_token_until_s = here.access_token(), float("inf")

    def is_refused_for_its_clock() -> bool:
        assert there.put(CARD, change("9382")).status_code == 503
        return "the clock is behind the log" in second.service.log.read_text()

    with second.with_vault([slow_clock.MODULE]):
        wait_for(is_refused_for_its_clock)
        assert second.service.readiness() == {
            "ready": False,
            "vault": False,
            "database": True,
        }
        assert there.request("GET", there._pin_path(CARD)).status_code == 503
        assert first.service.ready()
        assert here.put(CARD, change("2846")).status_code == 204
    second.service.wait_until_ready()
    assert there.get_pin(CARD, pan) == "2846"


@dataclass
class Load:
    """Callers whom the balancer sends to each host in turn, and what they know afterwards."""

    two_hosts: TwoHosts
    bank: Issuer
    sent: list[tuple[str, Sent]]
    """A card for each caller that sets PINs, and what became of them."""
    seen: list[list[tuple[str, str]]]
    """For each caller that looks at images, what came of each image, which it asked for twice."""
    turns: list[Turns[Any]] = field(default_factory=list)
    """Of each caller."""
    over: threading.Event = field(default_factory=threading.Event)

    def set_pins(self, card: str, sent: Sent) -> None:
        """Set PINs of a card, each until it is accepted; of one's own card read each."""
        sample_issuer, chance = self.bank.enrolled.sample_issuer, random.Random()
        pan = sample_issuer.pans[card]
        turns = self._turns(self.two_hosts.d1)
        while not self.over.is_set():
            change = new_change(sample_issuer, card, chance)
            answer = turns.call(D1Client.put, card, change.jwe)
            assert answer.status_code == 204, answer.text
            sent.acked.append(change)
            if card in OWN_CARDS:
                assert turns.call(D1Client.get_pin, card, pan) == change.pin
                assert turns.call(D1Client.counter, card) == len(sent.acked)

    def see_images(self, seen: list[tuple[str, str]]) -> None:
        turns = self._turns(self.two_hosts.app)
        while not self.over.is_set():
            token = turns.call(HostedClient.ask_to_view)
            first, second = (turns.call(HostedClient.image, token) for _ in range(2))
            seen.append((first.headers["X-Pin-Result"], second.headers["X-Pin-Result"]))

    def _turns(self, client: Callable[[Issuer, Host], C]) -> Turns[C]:
        turns = Turns(*(client(self.bank, host) for host in self.two_hosts.both))
        self.turns.append(turns)
        return turns

    @contextmanager
    def running(self) -> Iterator[Callable[[], None]]:
        """Keep them calling until the block ends; yields what waits until each got on."""
        with ThreadPoolExecutor(len(self.sent) + len(self.seen)) as pool:
            callers = [pool.submit(self.set_pins, *each) for each in self.sent]
            callers += [pool.submit(self.see_images, each) for each in self.seen]

            def get_on() -> None:
                done = [sent.acked for _, sent in self.sent] + self.seen
                enough = [len(each) + CALLS for each in done]
                wait_for(
                    lambda: (
                        any(caller.done() for caller in callers)
                        or all(len(each) >= count for each, count in zip(done, enough, strict=True))
                    )
                )

            try:
                yield get_on
            finally:
                self.over.set()
        for caller in callers:
            caller.result()

    def of_card(self, card: str) -> Sent:
        """What all callers know of a card."""
        return Sent([change for name, sent in self.sent if name == card for change in sent.acked])


def test_a_host_that_is_killed_loses_nothing_but_what_was_in_flight(
    two_hosts: TwoHosts, bank: Issuer
) -> None:
    first, second = two_hosts.both
    cards = (*OWN_CARDS, SHARED_CARD)
    two_hosts.d1(bank, first).set_pin(CARD, "4071", bank.enrolled.sample_issuer.pans[CARD])
    load = Load(two_hosts, bank, [(card, Sent()) for card in (*cards, SHARED_CARD)], [[], []])
    with load.running() as get_on:
        get_on()
        first.kill()
        chains = first.log_lines()
        get_on()
        first.start()
        first.service.wait_until_ready()
        get_on()
    assert all(turns.broken for turns in load.turns)

    for card in cards:
        sent, stored = load.of_card(card), read_stored(two_hosts.database_url, BANK, card)
        assert violations(sent, stored) == []
        assert stored.counter == len(sent.acked)
        pins = {change.key: change.pin for change in sent.acked}
        for host in two_hosts.both:
            pan = bank.enrolled.sample_issuer.pans[card]
            read = two_hosts.d1(bank, host).get_pin(card, pan)
            assert read == pins[stored.history[-1][1]]
    for seen in load.seen:
        assert {*seen} <= {(SHOWN, ENDED), (ENDED, ENDED)}
        # At most the one that was on its way to its caller was shown to nobody.
        assert seen.count((ENDED, ENDED)) <= 1

    after = first.log_lines()
    assert after.keys() == chains.keys()
    assert sum(after.values()) > sum(chains.values())
    for host in two_hosts.both:
        verified = host.command("hsm", "log", "verify")
        assert (verified.returncode, verified.stderr) == (0, "")
    found = differences(bank, two_hosts.database_url, first, second)
    of_first = lines_of(bank, first)
    assert all(text.endswith(": no row") for text in found)
    assert {text.split()[1].rstrip(",") for text in found} <= {*of_first}
    assert len(found) <= len(load.sent) + len(load.seen)

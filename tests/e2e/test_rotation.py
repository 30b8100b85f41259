"""Every role of our own is rotated while PINs are set, read and shown: nobody notices."""

import itertools
import random
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
import pytest

from cms.sandbox import HANG_SECONDS
from cms.sandbox.machine.postgres import Postgres
from cms.sandbox.machine.softhsm import SoftHsm
from cms.sandbox.partners.hosted_app import PageSession
from hsm.ceremonies.rotation_commands import ROLES
from hsm.manifest import documents
from hsm.manifest.signed import GENERATIONS_TYPE
from hsm.pkcs11.keys import OWN_ROLES
from hsm.pkcs11.token import Pkcs11Token
from tests.bearers import bearer
from tests.deployment import ROOT, Deployment, Enrolled, deployment, new_database, own_token
from tests.issuer_records import add_card, add_clients, app_client, change_manifest, run_sql
from tests.operators import signed

pytestmark = pytest.mark.slow

BANK, APP = "firstbank1", "firstbank1-app"
CARDS = {"rotating-1": "4539578763621486", "rotating-2": "4916338506082832"}
ROUNDS_BETWEEN = 2
"""What each caller does between two rotations."""


@dataclass
class Caller:
    """D1, an app and a page of one card: the PIN that is read is the one that was set last."""

    d1: Enrolled
    http: httpx.Client
    card: str
    rounds: int = field(default=0)
    failed: list[str] = field(default_factory=list)

    def run(self, over: threading.Event) -> None:
        chance = random.Random(self.card)
        with self.d1.client() as partner:
            while not over.is_set() and not self.failed:
                try:
                    for pin in (new_pin(chance), new_pin(chance)):
                        partner.set_pin(self.card, pin, CARDS[self.card])
                        assert partner.get_pin(self.card, CARDS[self.card]) == pin
                    self._show()
                    pin = new_pin(chance)
                    self._set_on_page(pin)
                    assert partner.get_pin(self.card, CARDS[self.card]) == pin
                    partner.new_access_token()
                except Exception as error:  # noqa: BLE001 - the test wants to know any
                    self.failed.append(f"{type(error).__name__}: {error}")
                self.rounds += 1

    def _post(self, path: str) -> dict[str, str]:
        token = bearer(self.card, BANK)
        headers = {"x-client-key": APP, "Authorization": f"Bearer {token}"}
        answer = self.http.post(path, headers=headers)
        assert answer.status_code == 200, answer.text
        issued: dict[str, str] = answer.json()
        return issued

    def _show(self) -> None:
        image = self.http.get(self._post("/v1/card/pin/token")["imageUrl"])
        assert image.headers["X-Pin-Result"] == "shown", image.status_code

    def _set_on_page(self, pin: str) -> None:
        issued = self._post("/v1/card/set-pin/token")
        answer = self.http.post("/pin-direct/session", json={"token": issued["token"]})
        opened = answer.json()
        page = PageSession(opened["session"], issued["token"], opened["grantId"], opened["key"])
        sent = self.http.post("/pin-direct/submit", json=page.submission(pin))
        assert sent.status_code == 204, sent.text


def new_pin(chance: random.Random) -> str:
    pin = "0000"
    while len(set(pin)) != 3:
        pin = f"{chance.randrange(10_000):04}"
    return pin


@contextmanager
def calling(callers: list[Caller]) -> Iterator[None]:
    over = threading.Event()
    threads = [threading.Thread(target=one.run, args=(over,)) for one in callers]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def wait_for_rounds(callers: list[Caller]) -> None:
    """Wait until each has done some, begun after now."""
    wanted = [one.rounds + ROUNDS_BETWEEN for one in callers]
    ticks = itertools.count()
    while any(one.rounds < rounds for one, rounds in zip(callers, wanted, strict=True)):
        assert not [one.failed for one in callers if one.failed]
        assert next(ticks) * 0.05 < HANG_SECONDS
        threading.Event().wait(0.05)


def run(deployed: Deployment, *words: object) -> None:
    environment = {**deployed.vault_environment, **deployed.environment}
    done = subprocess.run(
        [sys.executable, "-m", *map(str, words)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_SECONDS,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


def load(deployed: Deployment, draft: Path) -> None:
    """Sign a draft as operators do offline, and load it on the host."""
    text = signed(documents.read(draft).payload, GENERATIONS_TYPE)
    file = draft.with_suffix(".jws")
    file.write_text(text)
    run(deployed, "cms", "generations", "load", file)


def test_every_role_is_rotated_under_load_and_no_request_fails(
    tmp_path: Path, postgres: Postgres, softhsm: SoftHsm, hsm_token: Pkcs11Token
) -> None:
    prepared = deployment(tmp_path / "service", new_database(postgres), softhsm).for_cardholders()
    d1, vault = prepared.enrol(hsm_token, BANK), prepared.vault(hsm_token)
    limits = {
        "handouts_card_day_max": 10_000,
        "handouts_client_day_max": 100_000,
        "handouts_issuer_day_max": 100_000,
    }
    change_manifest(vault, BANK, limits=limits)
    add_clients(vault, BANK, app_client(APP))
    for card, pan in CARDS.items():
        add_card(prepared.database_url, vault, d1.sample_issuer, card, pan, cardholder_id=card)
    # The keys that this test makes are on a copy: other tests share the HSM token.
    copied = own_token(softhsm, tmp_path / "copied")
    environment = {**prepared.vault_environment, **copied.environment}
    prepared = replace(prepared, vault_environment=environment).vault_given(workers=2)
    tls = ssl.create_default_context(cafile=prepared.pki / "ca.pem")
    url = prepared.environment["CMS_CARDHOLDER_URL"]
    drafts = [tmp_path / f"{number}.json" for number in range(len(ROLES) + 1)]
    with (
        prepared.serving() as service,
        httpx.Client(base_url=url, verify=tls, timeout=HANG_SECONDS) as http,
    ):
        callers = [Caller(d1, http, card) for card in CARDS]
        with calling(callers):
            run(prepared, "hsm", "generations", "new", "--out", drafts[0])
            load(prepared, drafts[0])
            wait_for_rounds(callers)
            for role, before, after in zip(ROLES, drafts, drafts[1:], strict=False):
                run(prepared, "hsm", "rotate", role, before, "--out", after)
                load(prepared, after)
                wait_for_rounds(callers)
        assert [one.failed for one in callers] == [[], []]
        assert len(service.vault_workers()) == 2
        assert not service.vault_lines("vault.unavailable")
    rows = run_sql(
        prepared.database_url,
        "SELECT sealed_record, sealed_pin FROM cards WHERE card_id = ANY(%s)",
        [*CARDS],
    )
    # A record stays under the key that sealed it; each PIN is new.
    assert [
        (bytes(record).find(b"record.g1"), bytes(pin).find(b"pin.g2")) for record, pin in rows
    ] == [(2, 2)] * len(CARDS)
    table = documents.content(documents.read(drafts[-1]))
    states = table.model_dump(mode="json")["generations"]
    assert all(states[f"{role}.g2"]["state"] == "active" for role in OWN_ROLES)

"""Keys get a second generation, and cards are resealed under load: killed, and run again."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import psycopg

from cms.persistence import admin
from cms.persistence.key_labels import rows_by_generation
from cms.sandbox import HANG_SECONDS
from cms.sandbox.machine.postgres import Postgres
from cms.sandbox.machine.softhsm import SoftHsm
from hsm.manifest import generation_table
from hsm.manifest.signed import GENERATIONS_TYPE
from hsm.pkcs11.keys import MAC_ROLES
from hsm.pkcs11.token import Pkcs11Token
from tests.deployment import (
    ROOT,
    Deployment,
    Enrolled,
    deployment,
    new_database,
    own_token,
    patiently,
    wait_for,
)
from tests.e2e.load import Load, read_stored, verify
from tests.issuer_records import PAN, active, load_cards
from tests.operators import signed

CARDS: Final = 160
"""Whose PINs nobody changes, beside those of the load."""
CALLERS: Final = 2
CHANGED: Final = ("card-1", "card-2")
SECOND: Final = "".join(f"{role} = 2\n" for pair in MAC_ROLES.items() for role in pair)


@dataclass(frozen=True)
class Bank:
    """An issuer whose cards are stored under the first generation, and the service for it."""

    prepared: Deployment
    enrolled: Enrolled
    pins: Mapping[str, str]
    """Of the cards that nobody changes."""

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", *words],
            cwd=ROOT,
            env={**self.prepared.environment, **self.prepared.vault_environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=HANG_SECONDS,
        )

    @contextmanager
    def resealing(self, *options: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run the command beside the test."""
        command = [sys.executable, "-m", "cms", "reseal", *options]
        with subprocess.Popen(command, cwd=ROOT, env=self.prepared.environment) as process:
            try:
                yield process
            finally:
                process.kill()

    def counted(self) -> Mapping[str, int]:
        with admin.transaction(self.prepared.database_url) as database:
            return rows_by_generation(database)

    def left(self) -> int:
        """How many records are under the first generation."""
        return self.counted().get("record.g1", 0)

    def wrong_pins(self) -> list[str]:
        """Read every PIN as D1 does; name the cards whose PIN is another."""
        with self.enrolled.client() as client:
            return [
                card_id
                for card_id, pin in self.pins.items()
                if patiently(partial(client.get_pin, card_id, PAN)) != pin
            ]


def open_bank(directory: Path, url: str, softhsm: SoftHsm, hsm_token: Pkcs11Token) -> Bank:
    """Enrol a bank over the HSM token of this process; a copy serves it."""
    own = own_token(softhsm, directory / "token")
    prepared = deployment(directory, url, own, workers=2)
    enrolled = prepared.enrol(hsm_token, "resealbnk1")
    issuer = enrolled.sample_issuer
    chance = random.Random(1)
    drawn = [f"{chance.randrange(10):d}4{chance.randrange(10):d}8" for _ in range(CARDS)]
    pins = {f"quiet-{number}": pin for number, pin in enumerate(drawn) if len(set(pin)) > 2}
    cards = (
        active(card_id, PAN, encryptedPinBlock=issuer.pin_jwe(pin, pan=PAN))
        for card_id, pin in pins.items()
    )
    load_cards(url, prepared.vault(hsm_token), issuer, *cards)
    return Bank(prepared, enrolled, pins)


def second_active(bank: Bank, directory: Path) -> Path:
    """Sign a table in which the second generation of each key that seals is active."""
    first, table = directory / "first.json", directory / "table.jws"
    assert bank.run("hsm", "generations", "new", "--out", str(first)).returncode == 0
    body = json.loads(first.read_text())
    for role in {*MAC_ROLES, *MAC_ROLES.values()}:
        body["generations"][f"{role}.g1"]["state"] = "decrypt-only"
        body["generations"][f"{role}.g2"]["state"] = "active"
    text = generation_table.parse(json.dumps(body).encode()).canonical()
    table.write_text(signed(text, GENERATIONS_TYPE))
    return table


def books(bank: Bank) -> list[tuple[object, ...]]:
    """Counters, types and history of the cards that nobody changes."""
    with psycopg.connect(bank.prepared.database_url) as connection:
        found = connection.execute(
            "SELECT card_id, counter, pin_type, pin_changed_at, state,"
            " (SELECT count(*) FROM pin_changes AS p WHERE p.card_id = cards.card_id)"
            " FROM cards WHERE card_id LIKE 'quiet-%' ORDER BY card_id"
        )
        return found.fetchall()


def test_a_reseal_under_load_that_is_killed_and_run_again_ends_right(
    tmp_path: Path, postgres: Postgres, softhsm: SoftHsm, hsm_token: Pkcs11Token
) -> None:
    bank = open_bank(tmp_path, new_database(postgres), softhsm, hsm_token)
    roles = tmp_path / "roles.toml"
    roles.write_text(f"[keys]\n{SECOND}")
    assert bank.run("hsm", "ceremony", str(roles)).returncode == 0
    table = second_active(bank, tmp_path)
    before = books(bank)
    assert {row[1] for row in before} == {0}
    load = Load(bank.enrolled, CHANGED, seed=1)
    wrong = list[str]()
    over = threading.Event()

    def read_on() -> None:
        while not over.is_set():
            wrong.extend(bank.wrong_pins())

    with bank.prepared.serving() as service, load.running(CALLERS):
        assert bank.run("cms", "generations", "load", str(table)).returncode == 0
        load.wait_for_one(204)
        reader = threading.Thread(target=read_on)
        reader.start()
        all_left = bank.left()
        with bank.resealing("--cards-per-second", "40") as first:
            wait_for(lambda: 0 < bank.left() < all_left - 1 or first.poll() is not None)
            os.kill(first.pid, signal.SIGKILL)
            first.wait(HANG_SECONDS)
        assert bank.left() > 0, "it was done before it was killed"
        # Two at once, while PINs are changed and read.
        with bank.resealing() as second, bank.resealing() as third:
            assert {second.wait(HANG_SECONDS), third.wait(HANG_SECONDS)} <= {0, 1}
        load.wait_for_one(204)
        over.set()
        reader.join()
        service.wait_until_ready()
        assert (wrong, bank.wrong_pins()) == ([], [])
        done = bank.run("cms", "reseal", "--json")
        assert (done.returncode, done.stderr) == (0, "")
    with bank.prepared.serving():
        assert bank.wrong_pins() == []
        verify(load, bank.prepared.database_url)
    for role in MAC_ROLES:
        assert bank.counted().get(f"{role}.g1", 0) == 0
    assert bank.counted()["pin.g2"] == len(bank.pins) + len(CHANGED)
    assert books(bank) == before
    assert read_stored(bank.prepared.database_url, "resealbnk1", "quiet-0").history == []

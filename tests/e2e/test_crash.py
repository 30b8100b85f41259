"""Workers and Postgres are killed under load: no acknowledged PIN change is ever lost."""

import logging
import os
import random
import secrets
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from cms.sandbox.machine.postgres import Postgres
from cms.sandbox.machine.softhsm import SoftHsm
from hsm.pkcs11.token import Pkcs11Token
from tests.deployment import (
    CrashingPostgres,
    Deployment,
    deployment,
    new_database,
    wait_for,
)
from tests.e2e.load import (
    BROKEN,
    Change,
    Load,
    Sent,
    Stored,
    verify,
    violations,
)

CARDS: Final = ("card-1", "card-2")
CALLERS: Final = 4
WORKER_KILLS: Final = 12
VAULT_KILLS: Final = 6
POSTGRES_KILLS: Final = 3
FIRST, SECOND, THIRD = (Change(name, "", "") for name in (b"first", b"second", b"third"))

Prepare = Callable[[Postgres, str], tuple[Deployment, Load]]


@pytest.fixture
def seed() -> int:
    seed = secrets.randbelow(10**6)
    logging.getLogger(__name__).warning("seed %d", seed)
    return seed


@pytest.fixture
def draw(seed: int) -> random.Random:
    return random.Random(seed)


@pytest.fixture
def prepare(tmp_path: Path, softhsm: SoftHsm, hsm_token: Pkcs11Token, seed: int) -> Prepare:
    """Makes a deployment of two workers, and the callers of an issuer that is enrolled there."""

    def prepared(postgres: Postgres, issuer_id: str) -> tuple[Deployment, Load]:
        made = deployment(tmp_path, new_database(postgres), softhsm, workers=2)
        return made, Load(made.enrol(hsm_token, issuer_id), CARDS, seed)

    return prepared


def mend(softhsm: SoftHsm, token: bytes) -> None:
    """Put back the file that SoftHSM empties, and fills again, whenever somebody logs in.

    Whoever is killed in between leaves it empty, and no process finds the token any more. That is
    SoftHSM's, which has no other place to keep it: a device does not lose its token like this.
    """
    file = token_file(softhsm)
    if file.stat().st_size < len(token):
        file.write_bytes(token)


def token_file(softhsm: SoftHsm) -> Path:
    (file,) = softhsm.directory.glob("tokens/*/token.object")
    return file


def test_workers_may_be_killed_at_any_moment(
    postgres: Postgres, softhsm: SoftHsm, prepare: Prepare, draw: random.Random
) -> None:
    prepared, load = prepare(postgres, "crashbank1")
    killed: list[int] = []
    token = token_file(softhsm).read_bytes()
    with prepared.serving() as service:
        with load.running(CALLERS):
            for _ in range(WORKER_KILLS):
                load.wait_for_one(204)
                time.sleep(draw.uniform(0, 0.3))  # the moment is what the test draws
                wait_for(lambda: service.workers() != [])
                killed.append(draw.choice(service.workers()))
                os.kill(killed[-1], signal.SIGKILL)
                wait_for(lambda: killed[-1] not in service.workers())
                mend(softhsm, token)
        wait_for(lambda: len(service.workers()) == 2 and not {*killed} & {*service.workers()})
        service.wait_until_ready()
        assert load.answers.count(BROKEN) > 0
        verify(load, prepared.database_url)


def test_the_vault_may_be_killed_at_any_moment(
    postgres: Postgres, softhsm: SoftHsm, prepare: Prepare, draw: random.Random
) -> None:
    prepared, load = prepare(postgres, "crashbank3")
    killed: list[int] = []
    token = token_file(softhsm).read_bytes()
    with prepared.vault_given(workers=2).serving() as service:
        workers = service.workers()
        wait_for(lambda: len(service.vault_workers()) == 2)
        with load.running(CALLERS):
            for _ in range(VAULT_KILLS):
                load.wait_for_one(204)
                time.sleep(draw.uniform(0, 0.3))  # the moment is what the test draws
                wait_for(lambda: service.vault_workers() != [])
                killed.append(draw.choice(service.vault_workers()))
                os.kill(killed[-1], signal.SIGKILL)
                wait_for(lambda: killed[-1] not in service.vault_workers())
                mend(softhsm, token)
        service.wait_until_ready()
        assert service.workers() == workers
        # Nobody sees more of it than that the vault was unavailable.
        assert {*load.answers} <= {200, 204, 503}
        verify(load, prepared.database_url)


def test_postgres_may_be_killed_at_any_moment(
    tmp_path: Path, own_postgres: CrashingPostgres, prepare: Prepare, draw: random.Random
) -> None:
    prepared, load = prepare(own_postgres, "crashbank2")
    with prepared.serving() as service:
        workers = service.workers()
        with load.running(CALLERS):
            for _ in range(POSTGRES_KILLS):
                load.wait_for_one(204)
                time.sleep(draw.uniform(0, 0.3))  # the moment is what the test draws
                own_postgres.crash()
                load.wait_for_one(503)
                own_postgres.recover(tmp_path / "postgres.log")
        service.wait_until_ready()
        assert service.workers() == workers
        assert BROKEN not in load.answers
        verify(load, prepared.database_url)


TWO: Final = Stored(2, [(1, b"first"), (2, b"second")], [1, 2])


@pytest.mark.parametrize(
    "sent",
    [
        Sent([FIRST, SECOND]),
        Sent([FIRST], [SECOND]),
        Sent([SECOND], [FIRST, THIRD]),
    ],
)
def test_the_check_accepts_what_may_be(sent: Sent) -> None:
    assert violations(sent, TWO) == []


@pytest.mark.parametrize(
    ("sent", "stored", "rule"),
    [
        (Sent([FIRST, SECOND, THIRD]), TWO, "an acknowledged change is lost"),
        (Sent([FIRST, THIRD], [SECOND]), TWO, "an acknowledged change is lost"),
        (Sent([FIRST, SECOND, THIRD]), TWO, "the counter is below what was acknowledged"),
        (Sent([FIRST]), TWO, "a change was never asked for"),
        (Sent([FIRST]), TWO, "the counter is above what was asked for"),
        (Sent([FIRST, SECOND]), Stored(2, [(1, b"first")], [1, 2]), "history and counter differ"),
        (Sent([FIRST, SECOND]), Stored(2, TWO.history, [1]), "audit and counter differ"),
        (Sent([FIRST, SECOND]), Stored(2, TWO.history, [1, 1, 2]), "audit and counter differ"),
    ],
)
def test_the_check_finds(sent: Sent, stored: Stored, rule: str) -> None:
    assert rule in violations(sent, stored)

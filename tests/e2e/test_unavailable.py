"""What the service needs goes away and comes back: 503 meanwhile, and it recovers by itself."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from cms.sandbox import HANG_SECONDS
from cms.sandbox.machine.postgres import Postgres
from cms.sandbox.machine.softhsm import SoftHsm
from cms.sandbox.partners.d1 import D1Client, D1Error
from cms.sandbox.partners.transcript import transcript
from hsm.vault import Vault
from tests.deployment import (
    ROOT,
    CrashingPostgres,
    deployment,
    new_database,
    own_token,
    wait_for,
)
from tests.e2e.load import patiently

EXIT_STUCK = 70


def statuses(client: D1Client, change: str) -> Sequence[int]:
    """Set and read the PIN of a card; every 503 says when to try again."""
    path = f"/cms/api/v1/issuers/{client._config.issuer_id}/cards/card-1/pin"
    answers = (client.put("card-1", change), client.request("GET", path))
    for answer in answers:
        assert answer.status_code != 503 or int(answer.headers["Retry-After"]) > 0
    return [answer.status_code for answer in answers]


def test_a_token_that_was_taken_unavailable_and_brought_back(
    tmp_path: Path, postgres: Postgres, softhsm: SoftHsm, vault: Vault
) -> None:
    token = own_token(softhsm, tmp_path / "softhsm")
    prepared = deployment(tmp_path, new_database(postgres), token)
    enrolled = prepared.enrol(vault, "awaybank01")
    change = enrolled.sample_issuer.pin_jwe
    tokens, elsewhere = token.directory / "tokens", tmp_path / "elsewhere"
    with prepared.serving() as service, enrolled.client() as client:
        assert statuses(client, change("4071")) == [204, 200]
        tokens.rename(elsewhere)
        for pin in ("2580", "3691", "1470"):
            assert statuses(client, change(pin)) == [503, 503]
        with pytest.raises(D1Error) as refused:
            client.new_access_token()
        assert refused.value.status == 503
        wait_for(lambda: service.ops("/readyz").status_code == 503)
        assert service.ops("/readyz").json() == {"ready": False, "vault": False, "database": True}
        elsewhere.rename(tokens)
        service.wait_until_ready()
        assert client.get_pin("card-1", enrolled.sample_issuer.pans["card-1"]) == "4071"
        assert client.counter("card-1") == 1
        assert statuses(client, change("9382")) == [204, 200]


def test_a_database_that_is_unavailable_when_the_service_starts(
    tmp_path: Path, own_postgres: CrashingPostgres, softhsm: SoftHsm, vault: Vault
) -> None:
    prepared = deployment(tmp_path, new_database(own_postgres), softhsm)
    enrolled = prepared.enrol(vault, "awaybank02")
    own_postgres.crash()
    with prepared.serving(wait=False) as service, enrolled.client() as client:
        service.wait_until_answering()
        assert service.ops("/readyz").json() == {"ready": False, "vault": True, "database": False}
        with pytest.raises(D1Error) as refused:
            client.new_access_token()
        assert (refused.value.status, refused.value.error_code) == (503, "SERVICE_UNAVAILABLE")
        own_postgres.recover(tmp_path / "postgres.log")
        service.wait_until_ready()
        patiently(client.new_access_token)
        pan = enrolled.sample_issuer.pans["card-1"]
        assert len(list(transcript(client, "card-1", pan, ("4071", "9382")))) == 12


def test_a_token_device_that_hangs_costs_the_process(
    tmp_path: Path, postgres: Postgres, softhsm: SoftHsm, vault: Vault
) -> None:
    prepared = deployment(tmp_path, new_database(postgres), softhsm, vault_deadline_seconds=0.3)
    prepared.enrol(vault, "hungbank01")
    ended = subprocess.run(
        [sys.executable, "-m", "tests.e2e.hung_vault", "hungbank01"],
        cwd=ROOT,
        env=prepared.environment,
        stdout=subprocess.PIPE,
        timeout=HANG_SECONDS,
        check=False,
    )
    assert json.loads(ended.stdout) == {
        "status": 503,
        "retry_after": "1",
        "ready": [True, False],
    }
    assert ended.returncode == EXIT_STUCK

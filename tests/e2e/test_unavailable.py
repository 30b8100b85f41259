"""What the service needs goes away and comes back: 503 meanwhile, and it recovers by itself."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import LiteralString

import pytest

from cms.sandbox import HANG_SECONDS
from cms.sandbox.machine.postgres import Postgres
from cms.sandbox.machine.softhsm import SoftHsm
from cms.sandbox.partners.d1 import D1Client, D1Error
from cms.sandbox.partners.transcript import transcript
from hsm.pkcs11.token import Pkcs11Token
from tests.deployment import (
    CrashingPostgres,
    Deployment,
    Enrolled,
    Service,
    deployment,
    end,
    in_sql_ascii,
    lines_of,
    new_database,
    own_token,
    patiently,
    stopped,
    wait_for,
)
from tests.e2e import hung_vault
from tests.issuer_records import run_sql


def statuses(client: D1Client, change: str) -> Sequence[int]:
    """Set and read the PIN of a card; every 503 says when to try again."""
    path = f"/cms/api/v1/issuers/{client._config.issuer_id}/cards/card-1/pin"
    answers = (client.put("card-1", change), client.request("GET", path))
    for answer in answers:
        assert answer.status_code != 503 or int(answer.headers["Retry-After"]) > 0
    return [answer.status_code for answer in answers]


@pytest.fixture
def prepared(tmp_path: Path, own_postgres: CrashingPostgres, softhsm: SoftHsm) -> Deployment:
    """On a database server that is this test's alone."""
    return deployment(tmp_path, new_database(own_postgres), softhsm)


@pytest.fixture
def enrolled(prepared: Deployment, hsm_token: Pkcs11Token) -> Enrolled:
    return prepared.enrol(hsm_token, "awaybank02")


@contextmanager
def serving_pins(prepared: Deployment, enrolled: Enrolled) -> Iterator[tuple[Service, D1Client]]:
    """Serve, and set and read a first PIN: 4071."""
    with prepared.serving() as service, enrolled.client() as client:
        assert statuses(client, enrolled.sample_issuer.pin_jwe("4071")) == [204, 200]
        yield service, client


def test_a_token_that_was_taken_unavailable_and_brought_back(
    tmp_path: Path, postgres: Postgres, softhsm: SoftHsm, hsm_token: Pkcs11Token
) -> None:
    token = own_token(softhsm, tmp_path / "softhsm")
    prepared = deployment(tmp_path, new_database(postgres), token)
    enrolled = prepared.enrol(hsm_token, "awaybank01")
    change = enrolled.sample_issuer.pin_jwe
    tokens, elsewhere = token.directory / "tokens", tmp_path / "elsewhere"
    with serving_pins(prepared, enrolled) as (service, client):
        tokens.rename(elsewhere)
        for pin in ("2580", "3691", "1470"):
            assert statuses(client, change(pin)) == [503, 503]
        with pytest.raises(D1Error) as refused:
            client.new_access_token()
        assert refused.value.status == 503
        wait_for(lambda: service.ops("/readyz").status_code == 503)
        assert service.readiness() == {"ready": False, "vault": False, "database": True}
        elsewhere.rename(tokens)
        service.wait_until_ready()
        assert client.get_pin("card-1", enrolled.sample_issuer.pans["card-1"]) == "4071"
        assert client.counter("card-1") == 1
        assert statuses(client, change("9382")) == [204, 200]


def test_a_database_that_is_unavailable_when_the_service_starts(
    tmp_path: Path, own_postgres: CrashingPostgres, prepared: Deployment, enrolled: Enrolled
) -> None:
    own_postgres.crash()
    with prepared.serving(wait=False) as service, enrolled.client() as client:
        service.wait_until_answering()
        assert service.readiness() == {"ready": False, "vault": True, "database": False}
        with pytest.raises(D1Error) as refused:
            client.new_access_token()
        assert (refused.value.status, refused.value.error_code) == (503, "SERVICE_UNAVAILABLE")
        own_postgres.recover(tmp_path / "postgres.log")
        service.wait_until_ready()
        patiently(client.new_access_token)
        pan = enrolled.sample_issuer.pans["card-1"]
        assert len(list(transcript(client, "card-1", pan, ("4071", "9382")))) == 12


def test_a_database_that_stands_still(
    own_postgres: CrashingPostgres, prepared: Deployment, enrolled: Enrolled
) -> None:
    change = enrolled.sample_issuer.pin_jwe
    with serving_pins(prepared, enrolled) as (service, client):
        with stopped(own_postgres):
            assert statuses(client, change("2580")) == [503, 503]
            assert service.readiness() == {
                "ready": False,
                "vault": True,
                "database": False,
            }
            for pin in ("3691", "1470"):
                assert statuses(client, change(pin)) == [503, 503]
        service.wait_until_ready()
        assert statuses(client, change("9382")) == [204, 200]
        lines = [service.lines(f"database.{event}") for event in ("unavailable", "available")]
    assert [[line["reason"] for line in each] for each in lines] == [["NO_ANSWER"]] * 2


def test_a_database_that_became_read_only(
    own_postgres: CrashingPostgres, prepared: Deployment, enrolled: Enrolled
) -> None:
    change = enrolled.sample_issuer.pin_jwe
    with serving_pins(prepared, enrolled) as (service, client):
        set_server(own_postgres, "default_transaction_read_only = on")
        wait_for(lambda: not service.ready())
        for pin in ("2580", "3691"):
            assert statuses(client, change(pin)) == [503, 503]
        set_server(own_postgres, "default_transaction_read_only = off")
        service.wait_until_ready()
        assert patiently(partial(client.counter, "card-1")) == 1
        assert statuses(client, change("9382")) == [204, 200]
        (line,) = service.lines("database.unavailable")
    assert line["reason"] == "READ_ONLY"


def test_a_migration_while_the_service_runs(
    tmp_path: Path, postgres: Postgres, softhsm: SoftHsm, hsm_token: Pkcs11Token
) -> None:
    prepared = deployment(tmp_path, new_database(postgres), softhsm)
    enrolled = prepared.enrol(hsm_token, "awaybank05")
    change = enrolled.sample_issuer.pin_jwe
    with prepared.serving() as service, enrolled.client() as client:
        for pin in ("4071", "2580"):
            assert statuses(client, change(pin)) == [204, 200]
        run_sql(prepared.database_url, "ALTER TABLE cards ALTER COLUMN state TYPE text")
        for pin in ("3691", "1470", "9382") * 4:
            assert statuses(client, change(pin)) == [204, 200]
        assert service.lines("database.unavailable") == []


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgresql://cms:s3cret@db.bank.example/cms?sslmode=require", "sslmode=verify-full"),
        ("https://cms:s3cret@db.bank.example/cms", "cannot be read"),
    ],
)
def test_a_database_url_that_must_not_be_used_is_said(
    tmp_path: Path, softhsm: SoftHsm, url: str, reason: str
) -> None:
    with deployment(tmp_path, url, softhsm).serving_web() as (process, log):
        assert process.wait(HANG_SECONDS) == 1
        (line,) = lines_of(log, "not_started")
        assert "s3cret" not in log.read_text()
    assert line["reason"].startswith("CMS_DATABASE_URL_FILE: ")
    assert reason in line["reason"]


def test_a_database_in_another_encoding_is_said(
    tmp_path: Path, postgres: Postgres, softhsm: SoftHsm
) -> None:
    with (
        in_sql_ascii(postgres) as url,
        deployment(tmp_path, url, softhsm).serving(wait=False) as service,
    ):
        assert service.process.wait(HANG_SECONDS) != 0
        reasons = {line["reason"] for line in service.lines("database.unfit")}
    assert reasons == {"NOT_UTF8"}


def set_server(server: Postgres, setting: LiteralString) -> None:
    """Set and load a setting; the session that does so may write whatever is set."""
    run_sql(server.url(), f"ALTER SYSTEM SET {setting}")
    run_sql(server.url(), "SELECT pg_reload_conf()")


def test_a_token_device_that_hangs_costs_a_worker_of_the_vault_and_none_of_the_web(
    tmp_path: Path, postgres: Postgres, softhsm: SoftHsm, hsm_token: Pkcs11Token
) -> None:
    prepared = deployment(tmp_path, new_database(postgres), softhsm)
    prepared = prepared.vault_given(deadline_seconds=1)
    enrolled = prepared.enrol(hsm_token, "hungbank01")
    hangs = prepared.host / hung_vault.HANGS
    with prepared.serving(vault=[hung_vault.MODULE]) as service, enrolled.client() as client:
        web, vault = service.workers(), service.vault_workers()
        patiently(client.new_access_token)
        hangs.touch()
        with pytest.raises(D1Error) as refused:
            client.new_access_token()
        assert (refused.value.status, refused.value.error_code) == (503, "SERVICE_UNAVAILABLE")
        hangs.unlink()
        patiently(client.new_access_token)
        assert patiently(partial(client.counter, "card-1")) == 0
        assert service.vault_lines("vault.worker_killed")
        assert not {*vault} & {*service.vault_workers()}
        assert service.workers() == web


def test_a_vault_that_ends_and_starts_again(
    tmp_path: Path, postgres: Postgres, softhsm: SoftHsm, hsm_token: Pkcs11Token
) -> None:
    prepared = deployment(tmp_path, new_database(postgres), softhsm)
    enrolled = prepared.enrol(hsm_token, "awaybank06")
    change = enrolled.sample_issuer.pin_jwe
    with prepared.serving_vault() as (first, _), prepared.serving_web() as (web, log):
        service = Service(prepared, web, log, first, log)
        service.wait_until_ready()
        workers = service.workers()
        with enrolled.client() as client:
            assert statuses(client, change("4071")) == [204, 200]
            end(first)
            assert statuses(client, change("2580")) == [503, 503]
            wait_for(lambda: not service.ready())
            assert service.readiness() == {
                "ready": False,
                "vault": False,
                "database": True,
            }
            with prepared.serving_vault():
                service.wait_until_ready()
                assert client.get_pin("card-1", enrolled.sample_issuer.pans["card-1"]) == "4071"
                assert statuses(client, change("9382")) == [204, 200]
        assert service.workers() == workers

"""Manifests on their way to a running service: what the database may do, and what it may not."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from cms.sandbox import HANG_SECONDS
from cms.sandbox.machine.postgres import Postgres
from cms.sandbox.machine.softhsm import SoftHsm
from cms.sandbox.partners.d1 import D1Error
from hsm.manifest.model import parse
from hsm.manifest.signed import MINIMUM_VERSIONS_TYPE
from hsm.pkcs11.token import Pkcs11Token
from hsm.vault import Vault
from tests.deployment import (
    ROOT,
    Deployment,
    Enrolled,
    deployment,
    new_database,
    patiently,
    wait_for,
)
from tests.e2e.load import Load
from tests.issuer_records import app_client, run_sql, secret_hash
from tests.operators import OPERATORS, OperatorKey, minimum_versions, prepare_host, signed

ISSUER, HOST = "firstbank1", "pins-1"
CARDS = ("card-1", "card-2", "card-3", "card-4")
CHANGES = 4
FIVE_DIGITS, SIX_DIGITS = "28405", "284052"


def hosted(directory: Path, database_url: str, softhsm: SoftHsm, **settings: object) -> Deployment:
    """A deployment on a host that has a name."""
    given: dict[str, object] = {"host_name": HOST, "workers": 2, **settings}
    return deployment(directory, database_url, softhsm, **given)


def following(
    vault: Vault,
    operators: Sequence[OperatorKey] = OPERATORS,
    more: int = 0,
    **members: object,
) -> tuple[int, str]:
    """Sign the manifest that follows the one in force, or has a version that is higher by *more*.

    Returns: its version, and its text.
    """
    body = vault.read_manifest(ISSUER).model_dump(mode="json")
    changed = {**body, "version": body["version"] + 1 + more, **members}
    text = signed(parse(json.dumps(changed).encode()).canonical(), operators=operators)
    return changed["version"], text


def load_manifest(prepared: Deployment, text: str) -> None:
    """Load a manifest as an operator does, and wait until the host has taken it."""
    file = prepared.directory / "manifest.json"
    file.write_text(text)
    words = ("manifest", "load", str(file), "--host", HOST, "--wait-seconds", str(HANG_SECONDS))
    run(prepared, "cms", *words)


def run(prepared: Deployment, package: str, *words: str) -> None:
    of_vault = package == "hsm"
    done = subprocess.run(
        [sys.executable, "-m", package, *words],
        cwd=ROOT,
        env=prepared.vault_environment if of_vault else prepared.environment,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def put_into_database(database_url: str, version: int, text: str) -> None:
    """Write a manifest as whoever writes the database can."""
    run_sql(
        database_url,
        "INSERT INTO manifests (issuer_id, version, text) VALUES (%s, %s, %s)",
        *(ISSUER, version, text),
    )


def answer_of(database_url: str, version: int, host: str = HOST) -> str:
    """Wait until a host has said of a version what it makes of it."""

    def found() -> list[tuple[Any, ...]]:
        return run_sql(
            database_url,
            "SELECT outcome FROM manifest_hosts"
            " WHERE issuer_id = %s AND host = %s AND version = %s",
            *(ISSUER, host, version),
        )

    wait_for(lambda: found() != [])
    ((outcome,),) = found()
    return str(outcome)


def takes(enrolled: Enrolled, pin: str) -> bool:
    """Tell whether the policy in force takes a PIN of this length."""
    card = CARDS[0]
    with enrolled.client() as client:
        try:
            patiently(partial(client.set_pin, card, pin, enrolled.sample_issuer.pans[card]))
        except D1Error as error:
            if error.status != HTTPStatus.FORBIDDEN:
                raise
            return False
    return True


def test_a_change_of_manifest_under_load_fails_no_request(
    tmp_path: Path, postgres: Postgres, softhsm: SoftHsm, hsm_token: Pkcs11Token
) -> None:
    url = new_database(postgres)
    prepared = hosted(tmp_path, url, softhsm, vault_wait_seconds_max=HANG_SECONDS)
    enrolled, vault = prepared.enrol(hsm_token, ISSUER), prepared.vault(hsm_token)
    # Each calls for a card of its own: two that change one PIN at once may have to try again.
    loads = [Load(enrolled, [card], seed) for seed, card in enumerate(CARDS)]
    with prepared.serving() as service, ExitStack() as stack:
        for load in loads:
            stack.enter_context(load.running(1))
        for number in range(CHANGES):
            policy = {"length_max": 4 + number % 2}
            _, text = following(vault, policy=policy, clients=[*clients(vault), app(number)])
            load_manifest(prepared, text)
            for load in loads:
                load.wait_for_one(204)
        assert service.lines("manifest.refused") == []
    assert [load.wrong for load in loads] == [[]] * len(CARDS)
    assert {status for load in loads for status in load.answers} == {200, 204}


def clients(vault: Vault) -> list[Mapping[str, object]]:
    """The clients of today, each with a new secret and the one until now."""
    found: list[Mapping[str, object]] = []
    for client in vault.read_manifest(ISSUER).clients:
        members = client.model_dump(mode="json")
        if "secrets" in members:
            members["secrets"] = [secret_hash(os.urandom(32).hex()), *members["secrets"][-1:]]
        found.append(members)
    return found


def app(number: int) -> Mapping[str, object]:
    return app_client(f"{ISSUER}-app-{number}")


def test_what_is_loaded_is_in_force_when_the_command_ends(
    tmp_path: Path, postgres: Postgres, softhsm: SoftHsm, hsm_token: Pkcs11Token
) -> None:
    prepared = hosted(tmp_path, new_database(postgres), softhsm, workers=1)
    enrolled, vault = prepared.enrol(hsm_token, ISSUER), prepared.vault(hsm_token)
    with prepared.serving():
        assert takes(enrolled, SIX_DIGITS)
        load_manifest(prepared, following(vault, policy={"length_max": 5})[1])
        assert not takes(enrolled, SIX_DIGITS)


@pytest.fixture
def served(
    tmp_path: Path, postgres: Postgres, softhsm: SoftHsm, hsm_token: Pkcs11Token
) -> tuple[Deployment, Enrolled, Vault]:
    """A deployment whose host has taken a second manifest, by which PINs have up to 5 digits."""
    prepared = hosted(tmp_path, new_database(postgres), softhsm, workers=1)
    enrolled, vault = prepared.enrol(hsm_token, ISSUER), prepared.vault(hsm_token)
    vault.load_manifest(following(vault, policy={"length_max": 5})[1])
    return prepared, enrolled, vault


def test_a_manifest_that_one_operator_signed_is_refused_and_the_older_one_stays(
    served: tuple[Deployment, Enrolled, Vault],
) -> None:
    prepared, enrolled, vault = served
    one = OPERATORS[0]
    with prepared.serving() as service:
        for more, operators in enumerate([(one,), (one, one), (one, OperatorKey())]):
            version, text = following(vault, operators, more, policy={"length_max": 6})
            put_into_database(prepared.database_url, version, text)
            assert answer_of(prepared.database_url, version).startswith("too few signatures")
            assert vault.manifest_version(ISSUER) == version - 1 - more
        assert all("too few" in line["reason"] for line in service.lines("manifest.refused"))
        assert takes(enrolled, FIVE_DIGITS)
        assert not takes(enrolled, SIX_DIGITS)
        version, text = following(vault, more=3, policy={"length_max": 6})
        put_into_database(prepared.database_url, version, text)
        assert answer_of(prepared.database_url, version) == "taken"
        wait_for(lambda: takes(enrolled, SIX_DIGITS))


def test_an_older_manifest_is_not_brought_back_by_whoever_writes_the_database(
    served: tuple[Deployment, Enrolled, Vault], hsm_token: Pkcs11Token
) -> None:
    prepared, enrolled, vault = served
    version, older = following(vault, policy={"length_max": 6})
    vault.load_manifest(older)
    vault.load_manifest(following(vault, policy={"length_max": 5})[1])
    with prepared.serving() as service:
        put_into_database(prepared.database_url, version + 7, older)
        assert "older" in answer_of(prepared.database_url, version + 7)
        assert len(service.lines("manifest.refused")) == 1
        assert not takes(enrolled, SIX_DIGITS)
    assert vault.manifest_version(ISSUER) == version + 1


def test_a_new_host_without_minimum_versions_serves_no_issuer_until_it_has_some(
    served: tuple[Deployment, Enrolled, Vault], tmp_path: Path, softhsm: SoftHsm
) -> None:
    first, enrolled, vault = served
    version, text = following(vault)
    put_into_database(first.database_url, version, text)
    directory = tmp_path / "new"
    directory.mkdir()
    ports = {name: first.environment[f"CMS_{name.upper()}"] for name in ("d1_port", "public_url")}
    files = {
        name: first.environment[f"CMS_{name.upper()}"]
        for name in ("d1_certificate_file", "d1_key_file", "d1_client_ca_file")
    }
    new = hosted(directory, first.database_url, softhsm, workers=1, **ports, **files)
    new = new.vault_given(token_issuer=ports["public_url"])
    with new.serving(wait=False) as service:
        service.wait_until_answering()
        assert "no minimum versions" in answer_of(new.database_url, version)
        assert not service.ready()
        assert status_of_token(enrolled) == 401
        begin(new, {ISSUER: version})
        wait_for(service.ready)
        wait_for(lambda: answer_of(new.database_url, version) == "taken")
        wait_for(lambda: status_of_token(enrolled) == 200)
        assert len(service.lines("manifest.refused")) == 1


def test_a_new_host_takes_nothing_below_its_minimum_versions(
    served: tuple[Deployment, Enrolled, Vault],
) -> None:
    prepared, enrolled, vault = served
    version, text = following(vault)
    put_into_database(prepared.database_url, version, text)
    for file in prepared.host.glob("*.json"):
        file.unlink()
    prepare_host(prepared.host)
    begin(prepared, {ISSUER: version + 1})
    with prepared.serving():
        assert "older" in answer_of(prepared.database_url, version)
        assert status_of_token(enrolled) == 401


def begin(prepared: Deployment, listed: Mapping[str, int]) -> None:
    """Begin a host with signed minimum versions as its operator does."""
    file = prepared.directory / "minimum-versions.json"
    file.write_text(signed(minimum_versions(listed), MINIMUM_VERSIONS_TYPE))
    run(prepared, "hsm", "manifest", "begin", str(file))


def status_of_token(enrolled: Enrolled) -> int:
    """Ask for an access token; return the status of the answer."""
    with enrolled.client() as client:
        try:
            patiently(client.new_access_token)
        except D1Error as error:
            return error.status
    return 200

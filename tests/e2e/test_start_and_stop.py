"""How the service starts, refuses to start, restarts and ends."""

import contextlib
import json
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from cms.sandbox import HANG_SECONDS
from cms.sandbox.machine import pki
from cms.sandbox.machine.postgres import Postgres
from cms.sandbox.machine.softhsm import SoftHsm
from cms.sandbox.partners.transcript import transcript
from hsm.development import SECRET_MARK
from hsm.pkcs11.token import Pkcs11Token
from tests.deployment import (
    ROOT,
    Deployment,
    Enrolled,
    Shared,
    deployment,
    lines_of,
    new_database,
    wait_for,
    without_settings,
)
from tests.e2e.load import read_stored
from tests.processes import family, runs

OPEN = (
    "a secret, and its mode 0644 is for every user: chmod 0600 it, or 0640 for a group;"
    " see docs/settings.md"
)


@pytest.fixture
def prepared(
    tmp_path: Path, postgres: Postgres, softhsm: SoftHsm, hsm_token: Pkcs11Token
) -> Deployment:
    made = deployment(tmp_path, new_database(postgres), softhsm)
    made.vault(hsm_token)  # a host that has begun
    return made


def why_not(prepared: Deployment, *, sandbox: bool = True) -> str:
    """Start a service that must refuse to, and return the one reason it gives."""
    with prepared.serving_web(sandbox=sandbox) as (process, log):
        assert process.wait(HANG_SECONDS) == 1
        (line,) = lines_of(log, "not_started")
    assert line["level"] == "critical"
    told = {json.loads(line)["event"] for line in log.read_text().splitlines()}
    assert told <= {"vault.same_user", "not_started"}
    return str(line["reason"])


def test_without_the_sockets_of_a_vault_the_web_does_not_start(prepared: Deployment) -> None:
    assert why_not(prepared).startswith("CMS_VAULT_SOCKET_DIRECTORY: ")


def no_such(prepared: Deployment, name: str) -> Deployment:
    return prepared.given(**{name: prepared.directory / "missing"})


def open_secret(prepared: Deployment, name: str) -> Deployment:
    secret = prepared.directory / "secret"
    secret.write_bytes((prepared.pki / "ca.key").read_bytes())
    secret.chmod(0o644)
    return prepared.given(**{name: secret})


def another_key(prepared: Deployment, _: str) -> Deployment:
    return prepared.given(d1_key_file=prepared.pki / "ca.key")


@pytest.mark.parametrize(
    ("change", "name", "reason"),
    [
        (
            no_such,
            "database_url_file",
            "CMS_DATABASE_URL_FILE: No such file or directory; see docs/settings.md",
        ),
        (
            no_such,
            "d1_certificate_file",
            "CMS_D1_CERTIFICATE_FILE: No such file or directory; see docs/settings.md",
        ),
        (
            no_such,
            "d1_key_file",
            "CMS_D1_KEY_FILE: No such file or directory; see docs/settings.md",
        ),
        (
            no_such,
            "d1_client_ca_file",
            "CMS_D1_CLIENT_CA_FILE: No such file or directory; see docs/settings.md",
        ),
        (open_secret, "database_url_file", f"CMS_DATABASE_URL_FILE: {OPEN}"),
        (open_secret, "d1_key_file", f"CMS_D1_KEY_FILE: {OPEN}"),
        (
            another_key,
            "another key",
            "CMS_D1_CERTIFICATE_FILE, CMS_D1_KEY_FILE, CMS_D1_CLIENT_CA_FILE: they cannot be used"
            " together: KEY_VALUES_MISMATCH; see docs/settings.md",
        ),
    ],
)
def test_a_file_that_every_worker_would_fail_on_is_named_at_once(
    prepared: Deployment, change: Callable[[Deployment, str], Deployment], name: str, reason: str
) -> None:
    assert why_not(change(prepared, name)) == reason


def test_a_misspelled_name_is_named(prepared: Deployment) -> None:
    reason = why_not(prepared.given(workres=2, d1_prot=1))
    assert reason == "CMS_D1_PROT, CMS_WORKRES: no such setting; see docs/settings.md"


def test_a_database_that_can_lose_a_commit_is_not_served_from(prepared: Deployment) -> None:
    with psycopg.connect(prepared.database_url, autocommit=True) as connection:
        (name,) = connection.execute("SELECT current_database()").fetchone() or ("",)
        connection.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = off'.encode())
    with prepared.serving(wait=False) as service:
        assert service.process.wait(HANG_SECONDS) == 1
        (line,) = service.lines("database.unfit")
    assert line["reason"] == "NOT_DURABLE"


def test_a_port_in_use_is_said(prepared: Deployment) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with prepared.serving_vault():
            reason = why_not(prepared.given(d1_port=port))
    assert reason == (
        "CMS_D1_HOST, CMS_D1_PORT: nothing can listen there: Address already in use;"
        " see docs/settings.md"
    )


def put_request(enrolled: Enrolled, bearer: str, body: bytes) -> bytes:
    """The head of a PUT whose body is sent once the service asks for it."""
    lines = (
        f"PUT /cms/api/v1/issuers/{enrolled.sample_issuer.issuer_id}/cards/card-4/pin HTTP/1.1",
        "Host: localhost",
        f"Authorization: Bearer {bearer}",
        f"Content-Length: {len(body)}",
        "Expect: 100-continue",
    )
    return "\r\n".join([*lines, "", ""]).encode()


def test_sigterm_lets_a_request_finish_and_leaves_no_process(
    prepared: Deployment, hsm_token: Pkcs11Token
) -> None:
    enrolled = prepared.enrol(hsm_token, "stopbank01")
    jwe = enrolled.sample_issuer.pin_jwe("4071", "card-4")
    body = json.dumps({"type": "ISO0", "encryptedPinBlock": jwe}).encode()
    with prepared.serving() as service:
        below = family(service.process.pid)
        with enrolled.client() as client:
            bearer = client.access_token()
        with service.tls_socket(enrolled.tls()) as idle, service.tls_socket(enrolled.tls()) as busy:
            busy.sendall(put_request(enrolled, bearer, body))
            assert busy.recv(4096).startswith(b"HTTP/1.1 100 ")
            service.process.send_signal(signal.SIGTERM)
            assert idle.recv(4096) == b""  # idle connections are closed: the worker is stopping
            busy.sendall(body)
            assert busy.recv(4096).startswith(b"HTTP/1.1 204 ")
        assert service.process.wait(HANG_SECONDS) == 0
        wait_for(lambda: not any(map(runs, below)))
    assert read_stored(prepared.database_url, "stopbank01", "card-4").counter == 1


def test_sighup_replaces_the_workers_while_the_service_answers(
    prepared: Deployment, hsm_token: Pkcs11Token
) -> None:
    enrolled = prepared.given(workers=2).enrol(hsm_token, "huppbank01")
    with prepared.given(workers=2).serving() as service:
        old = {*service.workers()}
        with enrolled.client() as client:
            bearer = client.access_token(), client._access_token_until_s
        service.process.send_signal(signal.SIGHUP)

        def answers_and_all_are_new() -> bool:
            with enrolled.client() as new_connection:
                new_connection._access_token, new_connection._access_token_until_s = bearer
                assert new_connection.counter("card-1") == 0
            return not old & {*service.workers()}

        wait_for(answers_and_all_are_new)
        assert len(service.workers()) == 2


def test_workers_do_not_outlive_their_supervisor(prepared: Deployment) -> None:
    with prepared.serving() as service:
        below = family(service.process.pid)
        service.process.kill()
        wait_for(lambda: not any(map(runs, below)))


def test_callers_that_stall_hold_up_nobody(shared: Shared) -> None:
    enrolled, service = shared.first, shared.service
    stalled = [
        b"",
        b"GET /cms/api/v1/issu",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Endless: ",
        put_request(enrolled, "none", b"x" * 100),
    ]
    with contextlib.ExitStack() as stack, enrolled.client() as client:
        stalled.append(put_request(enrolled, client.access_token(), b"x" * 100) + b"xxx")
        for _ in range(5):
            before_tls = socket.create_connection(("127.0.0.1", service.deployment.d1_port))
            stack.enter_context(before_tls)
            for sent in stalled:
                connection = stack.enter_context(service.tls_socket(enrolled.tls()))
                connection.sendall(sent)
        pan = enrolled.sample_issuer.pans["card-3"]
        with enrolled.client() as other:
            steps = list(transcript(other, "card-3", pan, ("4071", "9382")))
    assert len(steps) == 12


def test_alembic_brings_an_empty_database_up_to_date(tmp_path: Path, postgres: Postgres) -> None:
    name = "from_the_command_line"
    postgres.create_database(name)
    url_file = tmp_path / "database-url"
    url_file.touch(0o600)
    url_file.write_text(postgres.url(name) + "\n")
    for _ in range(2):  # the second finds nothing to do
        subprocess.run(
            [Path(sys.executable).with_name("alembic"), "upgrade", "head"],
            cwd=ROOT,
            env={**without_settings(), "CMS_DATABASE_URL_FILE": str(url_file)},
            check=True,
        )
    with psycopg.connect(postgres.url(name)) as connection:
        assert connection.execute("SELECT count(*) FROM pin_changes").fetchone() == (0,)
    postgres.drop_database(name)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        (None, "CMS_DATABASE_URL_FILE is missing; see docs/settings.md"),
        ("", "CMS_DATABASE_URL_FILE: No such file or directory; see docs/settings.md"),
        (
            "https://s3cret@",
            "CMS_DATABASE_URL_FILE: the database URL cannot be read; see docs/settings.md",
        ),
        ("postgresql://cms:s3cret@/cms?host=/nowhere", "the database is unavailable"),
    ],
)
def test_alembic_says_in_one_line_why_it_cannot_begin(
    tmp_path: Path, url: str | None, reason: str
) -> None:
    file = tmp_path / "database-url"
    given = {} if url is None else {"CMS_DATABASE_URL_FILE": str(file)}
    if url:
        file.touch(0o600)
        file.write_text(url)
    done = subprocess.run(
        [Path(sys.executable).with_name("alembic"), "upgrade", "head"],
        cwd=ROOT,
        env=without_settings() | given,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"{reason}\n")


@pytest.fixture
def in_earnest(prepared: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    """A deployment of whose settings none is one for trials."""
    monkeypatch.setattr(pki, "CA_NAME", "Issuer CA")
    own = pki.create(tmp_path / "own")
    key, url = (tmp_path / name for name in ("own-key", "own-url"))
    key.write_text(secrets.token_hex(32))
    url.write_text("postgresql://cms:s3cret@db.example.com/cms?sslmode=verify-full")
    for secret in (key, url):
        secret.chmod(0o600)
    return prepared.given(
        database_url_file=url,
        d1_certificate_file=own.server.certificate,
        d1_key_file=own.server.key,
        d1_client_ca_file=own.ca.certificate,
        cardholder_url="https://pins.example.com",
        cardholder_certificate_file=own.server.certificate,
        cardholder_key_file=own.server.key,
        control_token_key_file=key,
    )


@pytest.mark.parametrize(
    ("setting", "made"),
    [
        ("database_url_file", "database-url"),
        ("d1_certificate_file", "pki/server.pem"),
        ("d1_client_ca_file", "pki/ca.pem"),
        ("cardholder_certificate_file", "pki/server.pem"),
        ("control_token_key_file", "sandbox.key"),
    ],
)
def test_what_the_sandbox_made_serves_no_real_cards(
    in_earnest: Deployment, tmp_path: Path, setting: str, made: str
) -> None:
    (tmp_path / "sandbox.key").write_text(f"{SECRET_MARK}-{secrets.token_hex(32)}")
    (tmp_path / "sandbox.key").chmod(0o600)
    changed = {setting: tmp_path / made}
    if made == "pki/server.pem":
        changed[setting.replace("certificate", "key")] = tmp_path / "pki" / "server.key"
    reason = why_not(in_earnest.given(**changed), sandbox=False)
    assert reason.startswith(f"CMS_{setting.upper()} holds a ")
    assert "--sandbox" in reason


def test_what_is_in_earnest_is_looked_at_before_the_vault(in_earnest: Deployment) -> None:
    assert why_not(in_earnest, sandbox=False).startswith("CMS_VAULT_SOCKET_DIRECTORY: ")


def test_a_trial_is_served_with_one_warning(prepared: Deployment) -> None:
    with prepared.serving() as service:
        (line,) = service.lines("sandbox")
    assert line["level"] == "warning"

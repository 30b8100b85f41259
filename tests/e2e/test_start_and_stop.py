"""How the service starts, refuses to start, restarts and ends."""

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
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
    new_database,
    wait_for,
    without_settings,
)
from tests.e2e.load import read_stored
from tests.processes import family, runs


@pytest.fixture
def prepared(
    tmp_path: Path, postgres: Postgres, softhsm: SoftHsm, hsm_token: Pkcs11Token
) -> Deployment:
    made = deployment(tmp_path, new_database(postgres), softhsm)
    made.vault(hsm_token)  # a host that has begun
    return made


def why_not(prepared: Deployment) -> str:
    """Start a service that must refuse to, and return the one reason it gives."""
    with prepared.serving(wait=False) as service:
        assert service.process.wait(HANG_SECONDS) == 1
        (line,) = service.lines("not_started")
    assert line["level"] == "critical"
    assert len(service.log.read_text().splitlines()) == 1
    return str(line["reason"])


def test_a_wrong_token_pin_is_tried_once_and_said(prepared: Deployment, tmp_path: Path) -> None:
    pin = tmp_path / "pin"
    os.mkfifo(pin)
    wrong = Deployment(
        prepared.directory,
        {**prepared.environment, "HSM_PIN_FILE": str(pin)},
        prepared.database_url,
    )
    with wrong.serving(wait=False) as service:
        # A pipe gives the PIN away once: whoever wanted it again would wait for ever.
        pin.write_text("not the PIN")
        assert service.process.wait(HANG_SECONDS) == 1
        (line,) = service.lines("not_started")
    assert "the token refused the PIN" in line["reason"]
    assert "HSM_PIN_FILE" in line["reason"]
    assert "python -m hsm check" in line["reason"]


def no_such(prepared: Deployment, name: str) -> Deployment:
    return prepared.given(**{name: prepared.directory / "missing"})


def another_key(prepared: Deployment, _: str) -> Deployment:
    return prepared.given(d1_key_file=prepared.pki / "ca.key")


@pytest.mark.parametrize(
    ("change", "name", "reason"),
    [
        (no_such, "database_url_file", "CMS_DATABASE_URL_FILE: No such file or directory"),
        (no_such, "d1_certificate_file", "CMS_D1_CERTIFICATE_FILE: No such file or directory"),
        (no_such, "d1_key_file", "CMS_D1_KEY_FILE: No such file or directory"),
        (no_such, "d1_client_ca_file", "CMS_D1_CLIENT_CA_FILE: No such file or directory"),
        (
            another_key,
            "another key",
            "the D1 listener's certificate, key and client CA: KEY_VALUES_MISMATCH",
        ),
    ],
)
def test_a_file_that_every_worker_would_fail_on_is_named_at_once(
    prepared: Deployment, change: Callable[[Deployment, str], Deployment], name: str, reason: str
) -> None:
    assert why_not(change(prepared, name)) == reason


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
        assert why_not(prepared.given(d1_port=port)) == "the D1 listener: Address already in use"


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


@pytest.fixture
def in_earnest(prepared: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    """A deployment of whose settings only HSM_MODULE is one for trials."""
    monkeypatch.setattr(pki, "CA_NAME", "Issuer CA")
    own = pki.create(tmp_path / "own")
    key, url, pin = (tmp_path / name for name in ("own-key", "own-url", "own-pin"))
    key.write_text(secrets.token_hex(32))
    url.write_text("postgresql://cms:s3cret@db.example.com/cms?sslmode=verify-full")
    pin.write_text("no PIN of this HSM token")
    given = prepared.given(
        database_url_file=url,
        d1_certificate_file=own.server.certificate,
        d1_key_file=own.server.key,
        d1_client_ca_file=own.ca.certificate,
        cardholder_url="https://pins.example.com",
        cardholder_certificate_file=own.server.certificate,
        cardholder_key_file=own.server.key,
        control_token_key_file=key,
    )
    trust = json.loads(Path(prepared.environment["HSM_TRUST_FILE"]).read_text())
    (tmp_path / "own-trust").write_text(json.dumps({**trust, "sandbox": False}))
    return with_hsm(given, pin_file=pin, trust_file=tmp_path / "own-trust")


def with_hsm(prepared: Deployment, **settings: object) -> Deployment:
    """The same with other settings of the vault; None takes one away."""
    names = {f"HSM_{name.upper()}": value for name, value in settings.items()}
    kept = {name: value for name, value in prepared.environment.items() if name not in names}
    added = {name: str(value) for name, value in names.items() if value is not None}
    return replace(prepared, environment={**kept, **added})


def why_not_in_earnest(deployment: Deployment) -> str:
    with deployment.serving(wait=False, sandbox=False) as service:
        assert service.process.wait(HANG_SECONDS) == 1
        (line,) = service.log.read_text().splitlines()
    return str(json.loads(line)["reason"])


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
    changed = {setting: tmp_path / made}
    if made == "pki/server.pem":
        changed[setting.replace("certificate", "key")] = tmp_path / "pki" / "server.key"
    reason = why_not_in_earnest(in_earnest.given(**changed))
    assert reason.startswith(f"CMS_{setting.upper()} holds a ")
    assert "--sandbox" in reason


def test_a_token_in_software_serves_no_real_cards(in_earnest: Deployment) -> None:
    # The PIN is a wrong one: it was not tried.
    assert why_not_in_earnest(in_earnest).startswith("HSM_MODULE is SoftHSM")


def test_a_token_pin_that_the_sandbox_made_is_not_even_tried(
    in_earnest: Deployment, prepared: Deployment
) -> None:
    pin_file = prepared.environment["HSM_PIN_FILE"]
    reason = why_not_in_earnest(with_hsm(in_earnest, pin_file=pin_file, module="/no/module"))
    assert reason.startswith("HSM_PIN_FILE holds a PIN that the sandbox made")


def test_a_trust_file_for_trials_serves_no_real_cards(
    in_earnest: Deployment, prepared: Deployment
) -> None:
    trust_file = prepared.environment["HSM_TRUST_FILE"]
    reason = why_not_in_earnest(with_hsm(in_earnest, trust_file=trust_file))
    assert reason.startswith("HSM_TRUST_FILE is for trials")
    assert reason.endswith("serve --sandbox")


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("trust_file", None, "set HSM_TRUST_FILE"),
        ("trust_file", "pki/ca.pem", "HSM_TRUST_FILE: the trust file: not a JSON object"),
        ("trust_file", "nowhere", "HSM_TRUST_FILE: the trust file cannot be read"),
        ("state_directory", None, "set HSM_STATE_DIRECTORY"),
        ("state_directory", "nowhere", "HSM_STATE_DIRECTORY: no directory"),
    ],
)
def test_what_the_vault_needs_for_manifests_is_missed_before_anything_listens(
    prepared: Deployment, tmp_path: Path, setting: str, value: str | None, said: str
) -> None:
    given = None if value is None else tmp_path / value
    assert why_not(with_hsm(prepared, **{setting: given})).startswith(said)


def test_a_trial_is_served_with_one_warning(prepared: Deployment) -> None:
    with prepared.serving() as service:
        (line,) = service.lines("sandbox")
    assert line["level"] == "warning"

"""The roles of a deployment: the owner migrates, the service does what it must and no more."""

import base64
import hashlib
import hmac
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import errors

from cms.persistence.migrate import upgrade
from cms.sandbox.machine.postgres import Postgres, _binary
from tests.cms.persistence.rendered_sql import request_statements

DEPLOY = Path(__file__).resolve().parents[3] / "deploy"
DATABASE = "of_a_deployment"


class Roles:
    """A database with the roles of ``deploy/``."""

    def __init__(self, postgres: Postgres, directory: Path) -> None:
        self.postgres = postgres
        self.files = {"OWNER_URL_FILE": "cms_owner", "SERVICE_URL_FILE": "cms_service"}
        self.directory = directory
        for variable, role in self.files.items():
            (directory / variable).write_text(f"postgresql://{role}:Secret{role[4:7]}@db/cms\n")

    def url(self, role: str) -> str:
        return re.sub("//cms:[^@]*@", f"//{role}@", self.postgres.url(DATABASE))

    def run(self, file: str) -> None:
        url = self.postgres.url(DATABASE)
        subprocess.run(
            [_binary("psql"), "--no-psqlrc", "--quiet", f"--file={DEPLOY / file}", url],
            env={**os.environ, **{name: str(self.directory / name) for name in self.files}},
            check=True,
        )


@pytest.fixture(scope="module")
def roles(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Roles]:
    postgres.create_database(DATABASE)
    made = Roles(postgres, tmp_path_factory.mktemp("roles"))
    for _ in range(2):  # again is harmless
        made.run("roles.sql")
        upgrade(made.url("cms_owner"))
        made.run("grants.sql")
    yield made
    postgres.drop_database(DATABASE)


@pytest.fixture
def service(roles: Roles) -> Iterator[psycopg.Connection]:
    with psycopg.connect(roles.url("cms_service"), autocommit=True) as connection:
        yield connection


@pytest.mark.parametrize("name", sorted(request_statements()))
def test_the_service_may_run_its_statements(service: psycopg.Connection, name: str) -> None:
    # Rights are looked up as a statement starts, which EXPLAIN does; GENERIC_PLAN needs no values.
    service.execute(b"EXPLAIN (GENERIC_PLAN) " + request_statements()[name].numbered)


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO cards (issuer_id) VALUES ('evilbank01')",
        "UPDATE cards SET sealed_record = ''",
        "UPDATE cards SET cardholder_id = 'me'",
        "DELETE FROM cards",
        "INSERT INTO manifests (issuer_id) VALUES ('evilbank01')",
        "UPDATE manifests SET text = ''",
        "DELETE FROM manifests",
        "UPDATE manifest_hosts SET host = 'another'",
        "SELECT sealed_earlier_pin FROM card_scripts",
        "UPDATE card_scripts SET built_at = now()",
        "DELETE FROM card_scripts",
        "DELETE FROM manifest_hosts",
        "UPDATE issuers SET state = 'active'",
        "UPDATE pin_changes SET counter = 0",
        "DELETE FROM pin_changes",
        "DELETE FROM audit_events",
        "SELECT FROM audit_events",
        "TRUNCATE control_tokens",
        "UPDATE control_tokens SET expires_at = now()",
        "UPDATE control_tokens SET card_id = 'card-0001'",
        "ALTER TABLE audit_events DISABLE TRIGGER ALL",
        "DROP TABLE control_tokens",
        "CREATE TABLE another ()",
        "CREATE TEMPORARY TABLE another ()",
        "SET ROLE cms_owner",
        "CREATE ROLE another",
    ],
)
def test_the_service_may_do_nothing_else(service: psycopg.Connection, sql: str) -> None:
    with pytest.raises(errors.InsufficientPrivilege):
        service.execute(sql.encode())


def test_neither_role_is_more_than_a_user_and_each_has_its_own_password(roles: Roles) -> None:
    with psycopg.connect(roles.postgres.url(DATABASE)) as connection:
        rows = connection.execute(
            "SELECT rolname, rolcanlogin, rolsuper OR rolcreatedb OR rolcreaterole OR rolbypassrls"
            " OR rolreplication, rolpassword FROM pg_authid WHERE rolname LIKE 'cms\\_%'"
            " ORDER BY rolname"
        ).fetchall()
    assert [row[:3] for row in rows] == [
        ("cms_owner", True, False),
        ("cms_service", True, False),
    ]
    assert len({row[3] for row in rows}) == 2
    assert all(is_password(row[3], f"Secret{row[0][4:7]}") for row in rows)


def is_password(verifier: str, password: str) -> bool:
    """Whether Postgres stored this password: RFC 5802, section 3, with SHA-256."""
    scheme = re.fullmatch(r"SCRAM-SHA-256\$(\d+):(.+)\$(.+):(.+)", verifier)
    assert scheme
    salted = hashlib.pbkdf2_hmac(
        "sha256", password.encode(), base64.b64decode(scheme[2]), int(scheme[1])
    )
    key = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    return key == base64.b64decode(scheme[3])

"""One service with two issuers, for the tests that do not break it."""

from collections.abc import Iterator

import pytest

from cms.sandbox.machine.postgres import Postgres
from cms.sandbox.machine.softhsm import SoftHsm
from hsm.pkcs11.token import Pkcs11Token
from tests.database_files import database_directory
from tests.deployment import CrashingPostgres, Shared, add_template, deployment, new_database


@pytest.fixture(scope="session")
def shared(
    tmp_path_factory: pytest.TempPathFactory,
    postgres: Postgres,
    softhsm: SoftHsm,
    hsm_token: Pkcs11Token,
) -> Iterator[Shared]:
    """The service with one worker, so that its counters can be read."""
    prepared = deployment(tmp_path_factory.mktemp("shared"), new_database(postgres), softhsm)
    first, second = (prepared.enrol(hsm_token, issuer) for issuer in ("firstbank1", "secondbnk2"))
    with prepared.serving() as service:
        yield Shared(service, first, second)


@pytest.fixture
def own_postgres() -> Iterator[CrashingPostgres]:
    """A server for one test alone, which may kill it."""
    with database_directory() as directory, CrashingPostgres(directory / "data") as server:
        add_template(server)
        yield server

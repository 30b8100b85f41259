"""What the tests share: one HSM token, one Postgres, a fresh migrated database for each test."""

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from cms.persistence.migrate import upgrade
from cms.sandbox.machine.postgres import Postgres
from cms.sandbox.machine.softhsm import SoftHsm
from hsm.local import vault_over
from hsm.pkcs11 import ceremony
from hsm.pkcs11.token import Pkcs11Token
from hsm.settings import HsmTokenSettings
from hsm.vault import Vault
from tests.softoken import make_softoken

# No test asserts a time, and an example that is slow is no failure.
hypothesis.settings.register_profile("untimed", parent=hypothesis.settings(), deadline=None)
hypothesis.settings.load_profile("untimed")

ROLES = Path(__file__).resolve().parents[1] / "hsm" / "roles.toml"
TEMPLATE = "migrated"


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def softhsm(tmp_path_factory: pytest.TempPathFactory) -> SoftHsm:
    """A new HSM token without keys; the environment of this process names it."""
    softhsm = SoftHsm(tmp_path_factory.mktemp("softhsm"))
    softhsm.ensure()
    os.environ.update(softhsm.environment)
    return softhsm


@pytest.fixture(scope="session")
def hsm_token(softhsm: SoftHsm) -> Iterator[Pkcs11Token]:
    """The HSM token with a key of each role.

    A process has one: opening it again, in this process, ends every handle of this one. A test
    that needs an HSM token of its own uses another process.
    """
    hsm_token = Pkcs11Token.open(HsmTokenSettings(), writable=True)
    list(ceremony.create(hsm_token, ceremony.read_roles(ROLES)))
    yield hsm_token
    hsm_token.close()


@pytest.fixture(scope="session")
def second_hsm_token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pkcs11Token]:
    """An HSM token of another module, with a key of each role."""
    settings = make_softoken(tmp_path_factory.mktemp("softoken"))
    hsm_token = Pkcs11Token.open(settings, writable=True)
    list(ceremony.create(hsm_token, ceremony.read_roles(ROLES)))
    yield hsm_token
    hsm_token.close()


@pytest.fixture(scope="session")
def vault(hsm_token: Pkcs11Token) -> Vault:
    """The vault over that HSM token."""
    return vault_over(hsm_token)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A server with a migrated database to copy."""
    with Postgres(tmp_path_factory.mktemp("pg") / "data") as server:
        server.create_database(TEMPLATE)
        upgrade(server.url(TEMPLATE))
        yield server


@pytest.fixture
def database_url(postgres: Postgres) -> Iterator[str]:
    """A database of this test's own, migrated and empty."""
    name = f"test_{secrets.token_hex(6)}"
    postgres.create_database(name, template=TEMPLATE)
    yield postgres.url(name)
    postgres.drop_database(name)

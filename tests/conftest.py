"""What the tests share: one HSM token, one Postgres, a fresh migrated database for each test."""

import os
import secrets
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace

import hypothesis
import pytest

from cms.sandbox.machine.postgres import Postgres
from cms.sandbox.machine.softhsm import SoftHsm
from hsm.pkcs11 import own_keys
from hsm.pkcs11.token import Pkcs11Token
from hsm.settings import HsmTokenSettings
from hsm.vault import Vault
from tests import counted, opencryptoki
from tests.database_files import database_directory
from tests.deployment import TEMPLATE, add_template
from tests.given_database import VARIABLE as GIVEN_URL
from tests.given_database import GivenDatabase
from tests.opencryptoki import OpenCryptokiToken
from tests.operators import TRUST_FILE, open_vault
from tests.softoken import make_softoken

# With each request to an app in this process httpx looks for this library, which is not installed:
# a search of every directory that may have it.
sys.modules.setdefault("sniffio", None)  # type: ignore[arg-type]

# No test asserts a time, and an example that is slow is no failure.
hypothesis.settings.register_profile(
    "untimed",
    parent=hypothesis.settings(),
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("untimed")

#: Fixtures that start processes: a database, a browser, commands with a token of their own.
STARTERS = frozenset(("postgres", "own_postgres", "migrated", "own_softhsm", "playwright", "sites"))
#: Where tests do so themselves.
STARTING = (
    *("tests/browser", "tests/cms/sandbox/machine", "tests/e2e", "tests/ha"),
    *("tests/hsm/test_command_line.py", "tests/hsm/pkcs11/test_processes.py"),
    *("tests/hsm/ceremonies/test_key_ceremonies.py", "tests/architecture/test_site.py"),
)
#: What the contract suite says of further implementations.
REPEATS = {
    *("NSS softoken", "NSS softoken behind sockets", "software token behind sockets"),
    *("opencryptoki", "opencryptoki behind sockets"),
}
NO_PARAMETERS = SimpleNamespace(params={})

ROLES = Path(__file__).resolve().parents[1] / "hsm" / "roles.toml"


def pytest_configure(config: pytest.Config) -> None:
    text = "slow: starts a service, a database, a browser or commands, or takes long"
    config.addinivalue_line("markers", text)
    text = "needs(roles): uses shared keys of these roles, which not every module can use"
    config.addinivalue_line("markers", text)
    # A shell has what it starts in the background ignore SIGINT, and nohup SIGHUP, and all that
    # this starts in turn.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    # An office's proxy does not reach this machine.
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = "localhost,127.0.0.1"


def pytest_report_header() -> list[str]:
    """Say why tests of a module are not among those that follow."""
    reason = opencryptoki.why_not()
    return [f"without opencryptoki: {reason}"] if reason else []


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark as slow what starts processes or repeats others on a second PKCS#11 module.

    `make test-fast` leaves them out; otherwise those files come first.
    """
    folders = [config.rootpath / path for path in STARTING]
    paths = {item.path for item in items}
    starting = {path for path in paths if any(map(path.is_relative_to, folders))}
    for item in items:
        used = getattr(item, "fixturenames", ())
        parameters = getattr(item, "callspec", NO_PARAMETERS).params.values()
        repeats = any(isinstance(each, str) and each in REPEATS for each in parameters)
        if repeats or STARTERS.intersection(used) or item.path in starting:
            item.add_marker(pytest.mark.slow)
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


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
    list(own_keys.create(hsm_token, own_keys.read_roles(ROLES)))
    yield hsm_token
    hsm_token.close()


@pytest.fixture(scope="session")
def softoken(tmp_path_factory: pytest.TempPathFactory) -> HsmTokenSettings:
    """An HSM token of another module, without keys."""
    return make_softoken(tmp_path_factory.mktemp("softoken"))


@pytest.fixture(scope="session")
def second_hsm_token(softoken: HsmTokenSettings) -> Iterator[Pkcs11Token]:
    """That HSM token with a key of each role."""
    hsm_token = Pkcs11Token.open(softoken, writable=True)
    list(own_keys.create(hsm_token, own_keys.read_roles(ROLES)))
    yield hsm_token
    hsm_token.close()


@pytest.fixture(scope="session")
def opencryptoki_tokens(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Mapping[str, OpenCryptokiToken]]:
    """HSM tokens of a third module, without keys."""
    with opencryptoki.opencryptoki(tmp_path_factory.mktemp("opencryptoki")) as tokens:
        yield tokens


@pytest.fixture(scope="session")
def third_hsm_token(
    opencryptoki_tokens: Mapping[str, OpenCryptokiToken],
) -> Iterator[Pkcs11Token]:
    """One of them with a key of each role."""
    hsm_token = Pkcs11Token.open(opencryptoki_tokens[opencryptoki.PINS].settings, writable=True)
    list(own_keys.create(hsm_token, own_keys.read_roles(ROLES)))
    yield hsm_token
    hsm_token.close()


@pytest.fixture(scope="session")
def vault(hsm_token: Pkcs11Token, tmp_path_factory: pytest.TempPathFactory) -> Vault:
    """The vault over that HSM token, on a host for trials that has no manifest yet.

    The environment of this process names the host's state, so that other processes have it too.
    """
    directory = tmp_path_factory.mktemp("vault")
    vault = open_vault(hsm_token, directory)
    os.environ["HSM_STATE_DIRECTORY"] = str(directory)
    os.environ["HSM_TRUST_FILE"] = str(directory / TRUST_FILE)
    return vault


@pytest.fixture(autouse=True)
def _nothing_counted() -> None:
    """No failure of another test counts at the vault that they share."""
    directory = os.environ.get("HSM_STATE_DIRECTORY")
    if directory is not None:
        counted.forget_in(Path(directory))


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres | GivenDatabase]:
    """A server with a migrated database to copy."""
    if given_url := os.environ.get(GIVEN_URL):
        yield GivenDatabase(given_url)
        return
    with database_directory() as directory, Postgres(directory / "data") as server:
        add_template(server)
        yield server


@pytest.fixture
def database_url(postgres: Postgres | GivenDatabase) -> Iterator[str]:
    """A database of this test's own, migrated and empty."""
    name = f"test_{secrets.token_hex(6)}"
    postgres.create_database(name, template=TEMPLATE)
    yield postgres.url(name)
    postgres.drop_database(name)

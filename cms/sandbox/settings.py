"""The settings of the demo's two programs: ``var/web.env`` and ``var/vault.env``.

The demo writes them at each start, as lines that a shell can read::

    set -a; . var/web.env

The first is for ``python -m cms``, the second for ``python -m hsm``; neither program gets the
other's. They replace every other setting of it: the two are never mixed.
"""

import os
import secrets
import shlex
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Final

from cms.sandbox import files
from cms.sandbox.machine.ports import free_port
from cms.sandbox.machine.softhsm import SoftHsm
from hsm.development import SECRET_MARK

WEB: Final = "cms"
VAULT: Final = "hsm"
PREFIXES: Final[Mapping[str, tuple[str, ...]]] = {WEB: ("CMS_",), VAULT: ("HSM_", "SOFTHSM2_")}
"""How the names of a program's settings begin."""
CONTROL_TOKEN_KEY_BYTES: Final = 32
HOST_NAME: Final = "demo"


def make(database_url: str, sockets: Path) -> None:
    """Choose the settings of this start, write both files and use them in this process.

    To a browser the cardholders' address and the app's page are two sites: an address and a name.
    """
    # A new one at each start: control tokens live for minutes.
    key = f"{SECRET_MARK}-{secrets.token_hex(CONTROL_TOKEN_KEY_BYTES)}"
    files.write(files.CONTROL_TOKEN_KEY, key)
    files.write(files.DATABASE_URL, database_url + "\n")
    d1_port, cardholder_port, ops_port = (free_port(port) for port in (8443, 8444, 9090))
    certificate, certificate_key = str(files.PKI / "server.pem"), str(files.PKI / "server.key")
    public_url = f"https://localhost:{d1_port}"
    vault = {
        **SoftHsm(files.SOFTHSM).environment,
        "HSM_STATE_DIRECTORY": str(files.VAULT_STATE),
        "HSM_TRUST_FILE": str(files.TRUST),
        "HSM_SOCKET_DIRECTORY": str(sockets),
        "HSM_TOKEN_ISSUER": public_url,
    }
    web = {
        "CMS_HOST_NAME": HOST_NAME,
        "CMS_VAULT_SOCKET_DIRECTORY": str(sockets),
        "CMS_DATABASE_URL_FILE": str(files.DATABASE_URL),
        "CMS_D1_PORT": str(d1_port),
        "CMS_PUBLIC_URL": public_url,
        "CMS_D1_CERTIFICATE_FILE": certificate,
        "CMS_D1_KEY_FILE": certificate_key,
        "CMS_D1_CLIENT_CA_FILE": str(files.PKI / "ca.pem"),
        "CMS_CARDHOLDER_PORT": str(cardholder_port),
        "CMS_CARDHOLDER_URL": f"https://127.0.0.1:{cardholder_port}",
        "CMS_CARDHOLDER_CERTIFICATE_FILE": certificate,
        "CMS_CARDHOLDER_KEY_FILE": certificate_key,
        "CMS_CONTROL_TOKEN_KEY_FILE": str(files.CONTROL_TOKEN_KEY),
        "CMS_OPS_PORT": str(ops_port),
    }
    for program, settings in ((WEB, web), (VAULT, vault)):
        lines = (f"{name}={shlex.quote(value)}\n" for name, value in settings.items())
        files.write(_file(program), "".join(lines))
    _use({**web, **vault})


def load(program: str) -> None:
    """Use in this process what the demo's last start wrote for a program, and nothing else.

    Raises:
        SystemExit: the demo did not run yet.
    """
    file = _file(program)
    try:
        text = file.read_text("utf-8")
    except FileNotFoundError:
        raise SystemExit(f"there is no var/{file.name}: run the demo first") from None
    _use(dict(line.split("=", 1) for line in shlex.split(text)))


def environment(program: str) -> dict[str, str]:
    """Return the environment of this process without the settings of the other program."""
    others = tuple(chain.from_iterable(PREFIXES[each] for each in PREFIXES if each != program))
    return {name: value for name, value in os.environ.items() if not name.startswith(others)}


def sockets() -> Path:
    """Where the vault listens."""
    return Path(os.environ["CMS_VAULT_SOCKET_DIRECTORY"])


def _file(program: str) -> Path:
    return files.WEB_SETTINGS if program == WEB else files.VAULT_SETTINGS


def _use(settings: Mapping[str, str]) -> None:
    ours = tuple(chain.from_iterable(PREFIXES.values()))
    for name in [name for name in os.environ if name.startswith(ours)]:
        del os.environ[name]
    os.environ.update(settings)


def d1_url() -> str:
    """Where D1 calls."""
    return os.environ["CMS_PUBLIC_URL"]


def cardholder_url() -> str:
    """Where apps, servers and cardholders call."""
    return os.environ["CMS_CARDHOLDER_URL"]


def ready_url() -> str:
    """Where the service says that it is ready."""
    return f"http://127.0.0.1:{os.environ['CMS_OPS_PORT']}/readyz"

"""Where the demo keeps what it makes: everything is under ``var/``, readable by its owner alone."""

import os
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
VAR: Final = ROOT / "var"
SOFTHSM: Final = VAR / "softhsm"
POSTGRES: Final = VAR / "postgres"
DATABASE_URL: Final = VAR / "database-url"
PKI: Final = VAR / "pki"
SERVICE_LOG: Final = VAR / "service.log"
VAULT_LOG: Final = VAR / "vault.log"
WEB_SETTINGS: Final = VAR / "web.env"
VAULT_SETTINGS: Final = VAR / "vault.env"
#: Manifests, key blocks and feeds of cards, as the operator's commands take them.
CONFIG: Final = VAR / "config"
#: Keys of feeds, and cards in clear until they are in one: those are an issuer's own machine's.
FEEDS: Final = VAR / "feeds"
#: What feeds are encrypted to.
INTAKE_JWKS: Final = CONFIG / "intake.jwks"
#: The keys with which operators sign.
OPERATORS: Final = VAR / "operators"
#: The keys of those who hold key ceremonies.
CUSTODIANS: Final = {"Cleo": OPERATORS / "cleo.pem", "Dan": OPERATORS / "dan.pem"}
TRUST: Final = VAR / "trust.json"
#: What the vault has taken.
VAULT_STATE: Final = VAR / "vault"
CONTROL_TOKEN_KEY: Final = VAR / "control-token.key"

IDENTITY: Final = VAR / "identity"
D1_SIDE: Final = VAR / "d1"
D1_KEY: Final = D1_SIDE / "private.jwk"
#: What D1 encrypts PINs to.
ISSUER_JWKS: Final = D1_SIDE / "issuer.jwks"
SECCOS_KEYS: Final = D1_SIDE / "seccos-keys.json"
AUTHORISATION_HOST_KEY: Final = VAR / "host" / "private.jwk"
ACCESS_TOKEN: Final = VAR / "app" / "access-token"
SERVER_SIDE: Final = VAR / "server"


def write(path: Path, text: str) -> None:
    """Write a file that its owner alone can read, and the directory that it is in."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)


def relative(path: Path) -> str:
    """Name a file as a command that runs at the repository's root does."""
    return str(path.relative_to(ROOT))

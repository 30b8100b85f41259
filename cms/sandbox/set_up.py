"""The demo's first run: keys, database, operators, issuers, manifests and cards, under ``var/``.

It uses the commands that an operator uses, and shows them. The service starts between its parts:
a manifest is in force when a host has taken it.
"""

import hashlib
import shutil
from typing import Final

from cms.sandbox import cards, clients, files, keys, manifests, operators
from cms.sandbox.cards import ISSUERS, PERSONALISED_CARD
from cms.sandbox.machine.postgres import Postgres
from cms.sandbox.operator_commands import run

#: Written last: what the set-up made.
KIND_FILE: Final = files.VAR / "set-up"
#: A set-up that makes more than the one before it has a higher number.
NUMBER: Final = 7


def is_set_up(postgres: Postgres) -> bool:
    """Tell whether an earlier set-up came to its end and made all that one makes today."""
    return KIND_FILE.exists() and KIND_FILE.read_text() == kind() and postgres.has_tables()


def kind() -> str:
    """Name what a set-up makes today: its number and a digest of the database's migrations."""
    migrations = sorted((files.ROOT / "migrations" / "versions").glob("*.py"))
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in migrations))
    return f"{NUMBER} {digest.hexdigest()}\n"


def prepare(postgres: Postgres) -> None:
    """Make what the service needs, as an operator does.

    The HSM token is new. What an earlier set-up left in the database, or for the vault, goes.
    """
    from cms.persistence.migrate import upgrade  # noqa: PLC0415 - a second run does not need it

    print("Setting up under var/ with the commands an operator uses:\n")
    KIND_FILE.unlink(missing_ok=True)
    postgres.drop_database("cms")
    postgres.create_database("cms")
    upgrade(postgres.url())
    # It was stored with keys that are gone: every command that reads it would refuse it.
    shutil.rmtree(files.VAULT_STATE, ignore_errors=True)
    files.VAULT_STATE.mkdir(mode=0o700)
    keys.make()
    operators.make()
    keys.share(ISSUERS[0])


def add_issuers() -> None:
    """Add issuers, manifests and cards to the service that runs, as an operator does."""
    for issuer in ISSUERS:
        run("cms", "issuers", "add", issuer, "--name", f"Demo issuer {issuer[-1]}")
        with manifests.first(issuer) as draft:
            clients.add_d1(issuer, draft)
        cards.import_cards(issuer)
    run("cms", "cards", "personalised", ISSUERS[0], PERSONALISED_CARD)
    files.write(KIND_FILE, kind())

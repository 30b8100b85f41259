"""What the host of a vault has counted, read and changed behind its back."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from hsm.counts import FILE_NAME
from hsm.vault import Vault


def failures(vault: Vault, issuer_id: str) -> dict[str, int]:
    """Count the failures of an issuer by their kind."""
    query = "SELECT kind, count(*) FROM failures WHERE issuer_id = ? GROUP BY kind"
    return dict(_run(_file(vault), query, issuer_id))


def age(vault: Vault, issuer_id: str, seconds: int) -> None:
    """Let time pass for the failures of an issuer."""
    query = "UPDATE failures SET failed_at = failed_at - ? WHERE issuer_id = ?"
    _run(_file(vault), query, seconds, issuer_id)


def forget(vault: Vault) -> None:
    """Forget all that was counted."""
    forget_in(_file(vault).parent)


def forget_in(state_directory: Path) -> None:
    """Forget all that the host with this directory has counted."""
    file = state_directory / FILE_NAME
    if file.exists():
        for table in ("failures", "hand_outs"):
            _run(file, f"DELETE FROM {table}")


def _file(vault: Vault) -> Path:
    return vault._manifests.files.directory / FILE_NAME


def _run(file: Path, statement: str, *parameters: object) -> list[Any]:
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        return connection.execute(statement, parameters).fetchall()

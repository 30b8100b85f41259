"""Bring a database to the newest schema."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, func, select

from cms.persistence.address import Tls
from cms.persistence.admin import connect, refusals

PYPROJECT: Final = Path(__file__).resolve().parents[2] / "pyproject.toml"
STATEMENT_SECONDS_MAX: Final = 3600.0
"""Long enough to write a large table anew."""
LOCK_MS_MAX: Final = 1000
"""How long a statement waits for a lock: less than a request's statement may take.

Whoever wants a table after a migration that waits for it waits behind that migration.
"""


@contextmanager
def migrating(url: str, tls: Tls = "verify") -> Iterator[Connection]:
    """Open a transaction for migrations, committed when the block ends well.

    One that does not get a lock in time fails as a whole, and can be run again.

    Raises:
        AdminError: the database cannot be reached. What goes wrong later is raised as it is.
    """
    with ExitStack() as stack:
        with refusals():
            connection = stack.enter_context(connect(url, tls, STATEMENT_SECONDS_MAX).connect())
        stack.enter_context(connection.begin())
        # For the transaction only: behind PgBouncer the session is another's next.
        connection.execute(select(func.set_config("lock_timeout", str(LOCK_MS_MAX), True)))
        yield connection


def upgrade(url: str) -> None:
    """Run every migration that the database lacks, in one transaction."""
    config = Config(toml_file=PYPROJECT)
    with migrating(url) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

"""A database that whoever runs the tests gives them, in place of the sandbox's: a Citus, say.

``CMS_TEST_DATABASE_URL`` names it, by a role that may make tables there. Its name ends in
``_test``: all that is in it goes before each test.
"""

from pathlib import Path
from typing import Final

import psycopg
from alembic import command
from alembic.config import Config
from psycopg.conninfo import conninfo_to_dict

from cms.persistence.admin import connect
from cms.persistence.migrate import PYPROJECT, upgrade

VARIABLE: Final = "CMS_TEST_DATABASE_URL"
NAME_ENDS: Final = "_test"
DISTRIBUTE: Final = Path(__file__).resolve().parents[1] / "deploy" / "citus" / "distribute.sql"


class GivenDatabase:
    """Stands for a server with one database: each that is made is that one, emptied.

    Raises:
        SystemExit: its name does not end in ``_test``.
    """

    def __init__(self, url: str) -> None:
        if not str(conninfo_to_dict(url).get("dbname", "")).endswith(NAME_ENDS):
            raise SystemExit(f"{VARIABLE} must name a database whose name ends in {NAME_ENDS}")
        self._url = url

    def create_database(self, _name: str, template: str = "template1") -> None:
        """Take away what is in the database and migrate it; on Citus, split it too."""
        del template
        downgrade(self._url)
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute("DROP TABLE IF EXISTS alembic_version")
            upgrade(self._url)
            known = connection.execute("SELECT FROM pg_extension WHERE extname = 'citus'")
            # As psql does: each statement is a transaction.
            for statement in DISTRIBUTE.read_bytes().split(b";\n") if known.rowcount else ():
                connection.execute(statement)

    def url(self, _name: str = "") -> str:
        return self._url

    def drop_database(self, _name: str) -> None:
        """Leave it: whoever looks for what went wrong finds it there."""


def downgrade(url: str) -> None:
    """Take every migration back."""
    config = Config(toml_file=PYPROJECT)
    with connect(url).begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")

"""Run migrations on the database that ``CMS_DATABASE_URL_FILE`` names, or on a given connection."""

import sys

from alembic import context
from sqlalchemy import Connection

from cms.operator.command_line import refusing
from cms.persistence.migrate import migrating
from cms.persistence.tables import metadata
from cms.settings import DatabaseSettings
from hsm.command_line import OK


def migrate(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=metadata, compare_type=True)
    with context.begin_transaction():
        context.run_migrations()


def migrate_own() -> int:
    settings = DatabaseSettings()
    with migrating(settings.checked_database_url(), settings.database_tls) as own:
        migrate(own)
    return OK


given: Connection | None = context.config.attributes.get("connection")
if given is not None:
    migrate(given)
elif code := refusing(migrate_own):
    sys.exit(code)

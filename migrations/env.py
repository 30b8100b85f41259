"""Run migrations on the database that ``CMS_DATABASE_URL_FILE`` names, or on a given connection."""

from alembic import context
from sqlalchemy import Connection

from cms.persistence.migrate import migrating
from cms.persistence.tables import metadata
from cms.settings import DatabaseSettings


def migrate(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=metadata, compare_type=True)
    with context.begin_transaction():
        context.run_migrations()


given: Connection | None = context.config.attributes.get("connection")
if given is not None:
    migrate(given)
else:
    settings = DatabaseSettings()
    with migrating(settings.database_url(), settings.database_tls) as own:
        migrate(own)

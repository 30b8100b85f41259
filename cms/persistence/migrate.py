"""Bring a database to the newest schema."""

from pathlib import Path

from alembic import command
from alembic.config import Config

from cms.persistence.admin import connect

PYPROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"


def upgrade(url: str) -> None:
    """Run every migration that the database lacks, in one transaction."""
    config = Config(toml_file=PYPROJECT)
    with connect(url).begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

"""Migrations run beside others, and hold nobody up."""

import asyncio
from pathlib import Path

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.exc import OperationalError

from cms.persistence import migrate
from cms.persistence.migrate import PYPROJECT, upgrade
from cms.persistence.tables import REVISION
from cms.sandbox import HANG_SECONDS

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("by", ["upgrade", "alembic"])
async def test_a_migration_does_not_wait_long_for_a_lock_while_others_wait_for_it(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    monkeypatch.setattr(migrate, "LOCK_MS_MAX", 50)
    (tmp_path / "url").touch(0o600)
    (tmp_path / "url").write_text(database_url)
    monkeypatch.setenv("CMS_DATABASE_URL_FILE", str(tmp_path / "url"))

    def run() -> None:
        if by == "upgrade":
            upgrade(database_url)
        else:
            command.upgrade(Config(toml_file=PYPROJECT), "head")

    with psycopg.connect(database_url) as other:
        other.execute("LOCK TABLE alembic_version IN ACCESS EXCLUSIVE MODE")
        async with asyncio.timeout(HANG_SECONDS):
            with pytest.raises(OperationalError, match="lock timeout"):
                await asyncio.to_thread(run)
    run()


def test_what_a_migration_sets_ends_with_it(database_url: str) -> None:
    with migrate.migrating(database_url) as connection:
        assert connection.exec_driver_sql("SHOW lock_timeout").scalar() == "1s"
        connection.exec_driver_sql("COMMIT")
        assert connection.exec_driver_sql("SHOW lock_timeout").scalar() == "0"


def test_the_newest_migration_is_the_one_of_this_release() -> None:
    scripts = ScriptDirectory.from_config(Config(toml_file=PYPROJECT))
    assert scripts.get_current_head() == REVISION

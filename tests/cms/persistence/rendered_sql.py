"""The SQL of every request statement, a file each in ``sql/``; ``make sql`` writes them.

A file has what is sent to Postgres, but for white space and for the parameters, which are numbered
there.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cms.persistence.statements import Statement
from cms.persistence.statements.names import named
from tests.cms.persistence.sql_layout import laid_out

FOLDER: Final = Path(__file__).with_name("sql")


def request_statements() -> Mapping[str, Statement]:
    """Find every statement by its name, which no two share."""
    found: dict[str, Statement] = {}
    for name, statement in named():
        assert name not in found, name
        found[name] = statement
    return found


def rendered() -> dict[str, str]:
    """Render every statement, by its name."""
    return {name: laid_out(statement.sql) for name, statement in request_statements().items()}


def written() -> dict[str, str]:
    """Read the files, by the names of their statements."""
    return {path.stem: path.read_text(encoding="utf-8") for path in FOLDER.iterdir()}


def write() -> None:
    """Write a file for each statement; a file without one goes."""
    FOLDER.mkdir(exist_ok=True)
    for path in FOLDER.iterdir():
        path.unlink()
    for name, sql in rendered().items():
        (FOLDER / f"{name}.sql").write_text(sql, encoding="utf-8")


if __name__ == "__main__":
    write()

"""The statements of the request paths: built by SQLAlchemy Core, compiled once, at import.

Each is one round trip on an autocommit connection. Running them as text spares each request
what compiling and unpacking in Core costs, a third of the throughput. As text they are also in
``tests/cms/persistence/sql``, one file each.
"""

from dataclasses import dataclass

from sqlalchemy import ClauseElement
from sqlalchemy.dialects.postgresql import psycopg


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL for psycopg, and the parameters that do not change."""

    sql: str
    constants: dict[str, object]


def compiled(statement: ClauseElement) -> Statement:
    """Compile a statement for psycopg."""
    dialect = psycopg.dialect()  # type: ignore[no-untyped-call] # SQLAlchemy leaves it untyped
    made = statement.compile(dialect=dialect)
    constants = {name: value for name, value in made.params.items() if value is not None}
    return Statement(str(made), constants)

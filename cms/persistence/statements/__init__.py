"""The statements of the request paths: built by SQLAlchemy Core, compiled once, at import.

Each is one round trip on an autocommit connection. Running them as text spares each request
what compiling and unpacking in Core costs, a third of the throughput. As text they are also in
``tests/cms/persistence/sql``, one file each.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from struct import Struct
from typing import TYPE_CHECKING, Any, Final, Self, cast

from psycopg.abc import Buffer
from psycopg.pq import Format
from psycopg.sql import Literal
from psycopg.types.bool import BoolBinaryDumper
from psycopg.types.json import JsonbBinaryDumper
from sqlalchemy import Boolean, ClauseElement, Integer, LargeBinary, String
from sqlalchemy.dialects.postgresql import JSONB, psycopg
from sqlalchemy.types import TypeEngine

if TYPE_CHECKING:
    from sqlalchemy.sql.compiler import SQLCompiler


@dataclass(frozen=True, slots=True)
class ParameterType:
    """How a parameter goes to Postgres: always in the binary format of its type.

    There a text has a length, and so does not end at a NUL: Postgres refuses it whole.
    """

    oid: int
    """Of the type in ``pg_type``."""
    encode: Callable[..., Buffer | None]


def _itself(value: bytes) -> bytes:
    return value


PARAMETER_TYPES: Final[Mapping[type[TypeEngine[Any]], ParameterType]] = {
    Boolean: ParameterType(16, BoolBinaryDumper(bool).dump),
    LargeBinary: ParameterType(17, _itself),
    # The SQL casts it to the smaller one where it has to.
    Integer: ParameterType(20, Struct("!q").pack),
    String: ParameterType(1043, str.encode),
    JSONB: ParameterType(3802, JsonbBinaryDumper(dict).dump),
}
"""By SQLAlchemy's type, or the one that it derives from.

Source: PostgreSQL, ``src/include/catalog/pg_type.dat``, and the ``recv`` function of each type.
"""


@dataclass(frozen=True, slots=True, eq=False)
class Statement:
    """SQL, and what its parameters are."""

    sql: str
    """A parameter is ``%(name)s``; a value that never changes is a literal."""
    numbered: bytes
    """The same as Postgres takes it: a parameter is ``$1``, ``$2`` and so on."""
    parameters: tuple[tuple[str, ParameterType], ...]
    """In the order of their numbers."""
    oids: tuple[int, ...]
    formats: tuple[Format, ...]

    @classmethod
    def of(cls, sql: str, types: Mapping[str, ParameterType]) -> Self:
        """Number the parameters of *sql*, whose types are given by their names."""
        numbers: dict[str, int] = {}

        def number(parameter: re.Match[str]) -> str:
            return f"${numbers.setdefault(parameter[1], len(numbers) + 1)}"

        numbered = re.sub(r"%\((\w+)\)s", number, sql).replace("%%", "%")
        parameters = tuple((name, types[name]) for name in numbers)
        oids = tuple(type_.oid for _, type_ in parameters)
        return cls(sql, numbered.encode(), parameters, oids, (Format.BINARY,) * len(oids))


def compiled(statement: ClauseElement) -> Statement:
    """Compile a statement."""
    dialect = psycopg.dialect()  # type: ignore[no-untyped-call] # SQLAlchemy leaves it untyped
    made = cast("SQLCompiler", statement.compile(dialect=dialect))

    def constant(parameter: re.Match[str]) -> str:
        value = made.params[parameter[1]]
        return parameter[0] if value is None else Literal(value).as_string().replace("%", "%%")

    sql = re.sub(r"%\((\w+)\)s", constant, str(made))
    types = {
        name: _parameter_type(bind.type) for name, bind in made.binds.items() if bind.value is None
    }
    return Statement.of(sql, types)


def _parameter_type(type_: TypeEngine[Any]) -> ParameterType:
    return next(PARAMETER_TYPES[each] for each in type(type_).__mro__ if each in PARAMETER_TYPES)

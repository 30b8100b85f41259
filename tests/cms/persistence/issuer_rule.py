"""The rule that a statement reads and writes the rows of one issuer only, checked in its SQL.

A reference to a table is *bound* when its ``issuer_id`` has to equal the parameter of that name. A
condition that has to hold, of WHERE or of an inner join, says so: it is an equality with the
parameter, or with the ``issuer_id`` of another reference that is bound, in the same query or around
it, or of a CTE that returns a bound one. An INSERT is bound when what it writes there is; the row
that it meets and updates instead is bound when the two are of the same ``issuer_id``.

Whatever else a statement does to name its issuer is not understood, and counts as if it did not.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from sqlglot import exp, parse_one

from cms.persistence.tables import metadata
from tests.cms.persistence.sql_tree import QUERIES, bare, equalities, level

ISSUER_ID: Final = "issuer_id"

Bound = Mapping[str, bool]
"""Of each reference, or CTE, by its name: whether it is bound."""


def unbound(sql: str) -> list[str]:
    """Name what in a statement for psycopg is not bound to its issuer, in the order of reading."""
    assert all(ISSUER_ID in table.columns for table in metadata.tables.values())
    check = _Check()
    check.query(parse_one(sql, read="postgres"), {}, {})
    return check.unbound


class _Check:
    def __init__(self) -> None:
        self.unbound: list[str] = []

    def query(self, query: exp.Expr, ctes: Bound, around: Bound) -> list[tuple[str, bool]]:
        """Check a query and all that is in it.

        Returns:
            Its columns: the name of each, and whether it is a bound ``issuer_id``.
        """
        known = dict(ctes)
        with_ = query.args.get("with_")
        for cte in with_.expressions if with_ else ():
            known[cte.alias] = dict(self.query(cte.this, known, {})).get(ISSUER_ID, False)
        if isinstance(query, exp.Insert):
            return self._insert(query, known)
        # Not what a function makes of a parameter.
        tables = [x for x in level(query, exp.Table) if isinstance(x.this, exp.Identifier)]
        scope = self._scope(query, tables, known, around)
        # What is in a CTE was checked with it.
        names = [table.alias_or_name for table in tables if table.name not in known]
        self.unbound += [name for name in names if not scope[name]]
        self._joins(query)
        if isinstance(query, exp.Update):
            self._values(query, scope)
        for nested in level(query, *QUERIES):
            self.query(nested, known, scope)
        return _columns(query, scope)

    def _scope(
        self, query: exp.Expr, tables: Sequence[exp.Table], ctes: Bound, around: Bound
    ) -> dict[str, bool]:
        own = {table.alias_or_name: ctes.get(table.name, False) for table in tables}
        scope = {**around, **own}
        found = list(equalities(query))
        for _ in tables:
            for column, value in found:
                if column.table in own and self._binds(column, value, scope):
                    scope[column.table] = True
        return scope

    def _binds(self, column: exp.Column, value: exp.Expr, scope: Bound) -> bool:
        return column.name == ISSUER_ID and _is_issuer(value, scope)

    def _joins(self, query: exp.Expr) -> None:
        self.unbound += [f"{join.side} JOIN" for join in level(query, exp.Join) if join.side]

    def _values(self, update: exp.Update, scope: Bound) -> None:
        for setting in update.expressions:
            if setting.this.name == ISSUER_ID and not _is_issuer(bare(setting.expression), scope):
                self.unbound.append(f"SET {ISSUER_ID}")

    def _insert(self, insert: exp.Insert, ctes: Bound) -> list[tuple[str, bool]]:
        target = insert.this.find(exp.Table)
        names = [column.name for column in insert.this.expressions]
        written = dict(zip(names, self._written(insert.expression, ctes), strict=False))
        is_bound = written.get(ISSUER_ID, False) and _meets_its_own(insert.args.get("conflict"))
        if not is_bound:
            self.unbound.append(f"INSERT INTO {target.name}")
        scope = {target.name: is_bound}
        for nested in level(insert, *QUERIES):
            if nested is not insert.expression:
                self.query(nested, ctes, scope)
        return _columns(insert, scope)

    def _written(self, source: exp.Expr, ctes: Bound) -> list[bool]:
        """Tell of each column that an INSERT writes whether it is a bound ``issuer_id``."""
        if not isinstance(source, exp.Values):
            return [bound for _, bound in self.query(source, ctes, {})]
        rows = [
            [_is_issuer(bare(value), {}) for value in row.expressions] for row in source.expressions
        ]
        return [all(column) for column in zip(*rows, strict=True)]


def _meets_its_own(conflict: exp.OnConflict | None) -> bool:
    """Tell whether the row that an INSERT may meet is of the same issuer, and stays so."""
    if conflict is None:
        return True
    keys = {key.name for key in conflict.args.get("conflict_keys") or ()}
    changed = {setting.this.name for setting in conflict.expressions}
    return ISSUER_ID in keys and ISSUER_ID not in changed


def _columns(query: exp.Expr, scope: Bound) -> list[tuple[str, bool]]:
    returning = query.args.get("returning")
    columns = query.expressions if isinstance(query, exp.Select) else []
    if returning:
        columns = returning.expressions
    return [(column.alias_or_name, _is_issuer(bare(column), scope)) for column in columns]


def _is_issuer(value: exp.Expr, scope: Bound) -> bool:
    if isinstance(value, exp.Placeholder):
        return value.name == ISSUER_ID
    if isinstance(value, exp.Column) and value.name == ISSUER_ID:
        return scope.get(value.table, False)
    return False

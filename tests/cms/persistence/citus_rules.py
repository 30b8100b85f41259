"""What Citus asks of a statement that is to run on one shard, checked in its SQL.

Citus splits tables by a column, over servers that each have some shards. It plans a statement for
one shard only if that is plain to see, and plans a statement that writes and makes rows in parts,
which run one after the other. The rules here are what its planner refuses (``src/backend/
distributed/planner/multi_router_planner.c``), what its manual says of queries over shards ("SQL
Support and Workarounds"), and what the parts of a statement may not rely on. Whatever is not
understood counts as against them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from sqlglot import exp, parse_one

from tests.cms.persistence.sql_tree import QUERIES, bare, equalities, level

SPLIT_BY: Final = "issuer_id"
WRITES: Final = (exp.Insert, exp.Update, exp.Delete)
#: Functions and operators of Postgres by what ``pg_proc`` says of them; others count as volatile.
IMMUTABLE: Final = (
    *(exp.Count, exp.Max, exp.Floor, exp.Extract, exp.Least, exp.Coalesce, exp.Case, exp.If),
    *(exp.Exists, exp.Cast, exp.And, exp.Or, exp.JSONBExists),
)
STABLE: Final = (exp.CurrentTimestamp,)
STABLE_NAMES: Final = frozenset({"now"})
IMMUTABLE_NAMES: Final = frozenset({"jsonb_to_recordset"})


def faults(sql: str, distributed: Iterable[str]) -> list[str]:
    """Name what keeps a statement from running on one shard, in the order of reading.

    Args:
        sql: one statement for psycopg.
        distributed: the tables that are split by issuer; every server has a copy of the others.
    """
    check = _Check(frozenset(distributed))
    statement = parse_one(sql, read="postgres")
    check.order(statement)
    for query in _queries(statement):
        check.query(query)
    return check.faults


class _Check:
    def __init__(self, distributed: frozenset[str]) -> None:
        self._distributed = distributed
        self.faults: list[str] = []

    def query(self, query: exp.Expr) -> None:
        self._shard(query)
        self._joins(query)
        self._locks(query)
        self._functions(query)
        if isinstance(query, exp.Update):
            self._settings(query)
        if isinstance(query, exp.Insert):
            self._insert(query)
        if isinstance(query, WRITES):
            self._returning(query)

    def order(self, statement: exp.Expr) -> None:
        """Find what reads a table that an earlier part of the statement wrote."""
        written: set[str] = set()
        for part in _parts(statement):
            read = set(_tables_read(part))
            self.faults += [f"{table} is read after it was written" for table in read & written]
            target = _target(part)
            if target is not None:
                written.add(target.name)

    def _shard(self, query: exp.Expr) -> None:
        """Find the tables whose rows are not of the issuer that the parameter names."""
        if isinstance(query, exp.Insert):
            return
        compared = set(_compared(query))
        for table in level(query, exp.Table):
            if table.name in self._distributed and table.alias_or_name not in compared:
                self.faults.append(f"{table.alias_or_name} is on no one shard")

    def _joins(self, query: exp.Expr) -> None:
        for join in level(query, exp.Join):
            if join.side:
                self.faults.append("an outer join")

    def _locks(self, query: exp.Expr) -> None:
        tables = [table.name for table in level(query, exp.Table)]
        if list(level(query, exp.Lock)) and len(tables) != 1:
            self.faults.append("a lock of more than one table")

    def _functions(self, query: exp.Expr) -> None:
        for node in level(query, exp.Func):
            if _volatility(node) == "volatile":
                self.faults.append(f"{_name(node)} may be volatile")
        if isinstance(query, WRITES) and not isinstance(query, exp.Insert):
            for lazy in level(query, exp.Case, exp.Coalesce):
                if any(map(_is_stable, lazy.walk())):
                    self.faults.append("a function that is not immutable, in CASE or COALESCE")
            self.faults += self._stable_of_columns(query)

    def _stable_of_columns(self, query: exp.Expr) -> Iterator[str]:
        returning = query.args.get("returning")
        for node in level(query, exp.Expr):
            within_returning = returning is not None and node.find_ancestor(exp.Returning)
            if not within_returning and _is_stable(node) and node.find(exp.Column):
                yield "a function that is not immutable, of a column"

    def _returning(self, query: exp.Expr) -> None:
        returning = query.args.get("returning")
        if returning is not None and any(map(_is_stable, returning.walk())):
            self.faults.append("a function that is not immutable, in RETURNING")

    def _settings(self, update: exp.Update) -> None:
        if any(setting.this.name == SPLIT_BY for setting in update.expressions):
            self.faults.append(f"SET {SPLIT_BY}")

    def _insert(self, insert: exp.Insert) -> None:
        target = insert.this.find(exp.Table)
        is_split = target.name in self._distributed
        if is_split and SPLIT_BY not in [column.name for column in insert.this.expressions]:
            self.faults.append(f"INSERT INTO {target.name} without {SPLIT_BY}")
        if isinstance(insert.expression, exp.Values) and insert.expression.find(exp.Select):
            self.faults.append("a subquery in VALUES")
        conflict = insert.args.get("conflict")
        if conflict is None:
            return
        if is_split and SPLIT_BY not in {key.name for key in conflict.args["conflict_keys"] or ()}:
            self.faults.append(f"ON CONFLICT without {SPLIT_BY}")
        if any(_is_stable(node) for setting in conflict.expressions for node in setting.walk()):
            self.faults.append("a function that is not immutable, in ON CONFLICT")


def table_faults(ddl: Sequence[str], distributed: Iterable[str]) -> list[str]:
    """Name what keeps tables from being split by issuer.

    Args:
        ddl: statements that make tables and indexes.
        distributed: the tables that are to be split; every server gets a copy of the others.
    """
    parsed = [parse_one(statement, read="postgres") for statement in ddl]
    made = {
        create.this.this.name: create.this
        for create in parsed
        if isinstance(create, exp.Create) and create.kind == "TABLE"
    }
    split = frozenset(distributed)
    faults = [f"{name} is not made" for name in split - made.keys()]
    for name, schema in made.items():
        if name in split:
            faults += _keys_without_issuer(name, schema)
        faults += _references(name, schema, split)
        faults += _sequences(name, schema)
    for create in parsed:
        index = create.find(exp.Index)
        if isinstance(create, exp.Create) and create.args.get("unique") and index is not None:
            table = index.find(exp.Table)
            columns = [column.name for column in index.find_all(exp.Column)]
            if table is not None and table.name in split and SPLIT_BY not in columns:
                faults.append(f"{table.name} has a unique index without {SPLIT_BY}")
    return faults


def _keys_without_issuer(name: str, schema: exp.Expr) -> Iterator[str]:
    types = {
        column.name: (_type(column), column.find(exp.NotNullColumnConstraint))
        for column in schema.find_all(exp.ColumnDef)
    }
    kind, not_null = types.get(SPLIT_BY, (None, None))
    if kind != "VARCHAR(10)" or not_null is None:
        yield f"{name} has no {SPLIT_BY} of its own"
    for key in schema.find_all(exp.PrimaryKey, exp.UniqueColumnConstraint):
        if SPLIT_BY not in [identifier.name for identifier in key.find_all(exp.Identifier)]:
            yield f"{name} has a key without {SPLIT_BY}"
    if schema.find(exp.PrimaryKeyColumnConstraint):
        yield f"{name} has a key without {SPLIT_BY}"


def _references(name: str, schema: exp.Expr, split: frozenset[str]) -> Iterator[str]:
    for key in schema.find_all(exp.ForeignKey):
        ours = [identifier.name for identifier in key.expressions]
        reference = key.args["reference"].this
        theirs = [identifier.name for identifier in reference.expressions]
        other = reference.this.name
        if other in split and (SPLIT_BY, SPLIT_BY) not in zip(ours, theirs, strict=True):
            yield f"{name} refers to {other} without {SPLIT_BY}"
        if other in split and name not in split:
            yield f"{name}, of which each server has a copy, refers to {other}"
    if schema.find(exp.Reference) and not schema.find(exp.ForeignKey):
        yield f"{name} refers to another by one column"


def _sequences(name: str, schema: exp.Expr) -> Iterator[str]:
    """Find numbers that are drawn in one place: each server has its own range of 64 bits only."""
    for column in schema.find_all(exp.ColumnDef):
        kind = _type(column)
        is_drawn = column.find(exp.GeneratedAsIdentityColumnConstraint) is not None
        if "SERIAL" in kind or (is_drawn and kind != "BIGINT"):
            yield f"{name}.{column.name} is drawn from fewer than 64 bits"
        for default in column.find_all(exp.DefaultColumnConstraint):
            if any(_volatility(function) == "volatile" for function in default.find_all(exp.Func)):
                yield f"{name}.{column.name} has a volatile default"


def _type(column: exp.ColumnDef) -> str:
    kind = column.args.get("kind")
    return kind.sql("postgres") if isinstance(kind, exp.DataType) else ""


def _queries(statement: exp.Expr) -> Iterator[exp.Expr]:
    for node in statement.walk(bfs=False):
        if isinstance(node, QUERIES):
            yield node


def _parts(statement: exp.Expr) -> Iterator[exp.Expr]:
    """Yield what Citus may run one after the other: each CTE, and what is behind them."""
    with_ = statement.args.get("with_")
    for cte in with_.expressions if with_ else ():
        yield cte.this
    yield statement


def _target(part: exp.Expr) -> exp.Table | None:
    return part.this.find(exp.Table) if isinstance(part, WRITES) else None


def _tables_read(part: exp.Expr) -> Iterator[str]:
    """Name the tables of a part but the one that it writes to, and CTEs before it."""
    target = _target(part)
    for node in part.walk(prune=lambda node: isinstance(node, exp.With)):
        if isinstance(node, exp.Table) and node is not target:
            yield node.name


def _compared(query: exp.Expr) -> Iterator[str]:
    """Name the tables whose issuer must be the parameter, by WHERE or an inner join."""
    for column, value in equalities(query):
        if isinstance(value, exp.Placeholder) and column.name == value.name == SPLIT_BY:
            yield column.args["table"].name if column.args.get("table") else ""


def _volatility(node: exp.Expr) -> str:
    if isinstance(node, exp.Anonymous):
        name = node.name.lower()
        names: Mapping[str, frozenset[str]] = {
            "stable": STABLE_NAMES,
            "immutable": IMMUTABLE_NAMES,
        }
        return next((kind for kind, known in names.items() if name in known), "volatile")
    if isinstance(node, STABLE):
        return "stable"
    if isinstance(node, exp.Func) and not isinstance(node, IMMUTABLE):
        return "volatile"
    return "immutable"


def _is_stable(node: exp.Expr) -> bool:
    """Tell whether a node is a call that is not immutable; time and interval make one."""
    if isinstance(node, exp.Add | exp.Sub):
        return any(_is_interval(bare(side, casts=False)) for side in (node.left, node.right))
    return isinstance(node, exp.Func) and _volatility(node) != "immutable"


def _is_interval(value: exp.Expr) -> bool:
    if isinstance(value, exp.Mul):
        return _is_interval(bare(value.left, casts=False)) or _is_interval(
            bare(value.right, casts=False)
        )
    return (
        isinstance(value, exp.Interval)
        or (isinstance(value, exp.Cast) and value.to.is_type("interval"))
        or (isinstance(value, exp.Case) and value.find(exp.DataType) is not None)
    )


def _name(node: exp.Expr) -> str:
    return node.name if isinstance(node, exp.Anonymous) else type(node).__name__

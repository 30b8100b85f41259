"""Parts of a statement that both rules of statements look at, as sqlglot parses it."""

from collections.abc import Iterator
from typing import Final, TypeVar

from sqlglot import exp

QUERIES: Final = (exp.Select, exp.SetOperation, exp.Insert, exp.Update, exp.Delete)

Node = TypeVar("Node", bound=exp.Expr)


def level(query: exp.Expr, *kinds: type[Node]) -> Iterator[Node]:
    """Find the nodes of a query that are not within another query, nor in a lock."""
    apart = (*QUERIES, exp.With, exp.Lock)
    for node in query.walk(prune=lambda node: node is not query and isinstance(node, apart)):
        if node is not query and isinstance(node, kinds):
            yield node


def equalities(query: exp.Expr) -> Iterator[tuple[exp.Column, exp.Expr]]:
    """Find what has to hold by WHERE or a join: each column, and what it is equal to."""
    where = query.args.get("where")
    conditions = [where.this] if where else []
    conditions += [join.args["on"] for join in level(query, exp.Join) if join.args.get("on")]
    while conditions:
        condition = conditions.pop()
        if isinstance(condition, exp.And):
            conditions += [condition.left, condition.right]
        elif isinstance(condition, exp.Paren):
            conditions.append(condition.this)
        elif isinstance(condition, exp.EQ):
            left, right = bare(condition.left), bare(condition.right)
            for one, other in ((left, right), (right, left)):
                if isinstance(one, exp.Column):
                    yield one, other


def bare(value: exp.Expr, *, casts: bool = True) -> exp.Expr:
    """Take name and parentheses from a value, and its type."""
    kinds = (exp.Alias, exp.Paren, exp.Cast) if casts else (exp.Alias, exp.Paren)
    while isinstance(value, kinds):
        value = value.this
    return value

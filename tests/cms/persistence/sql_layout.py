"""Lay SQL out for a reader: only white space changes.

A clause starts a line; a list and conditions that do not fit one line have a line each; what is in
parentheses is two columns further in::

    UPDATE cards
    SET counter=(cards.counter + 1)
    WHERE
      cards.issuer_id = %(issuer_id)s
      AND EXISTS (
        SELECT *
        FROM session
      )
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

LINE_CHARS_MAX: Final = 88  # and its indentation
INDENT: Final = "  "
CLAUSES: Final = (
    *("WITH", "SELECT", "FROM", "JOIN", "WHERE", "ORDER BY", "LIMIT"),
    *("FOR NO KEY UPDATE", "FOR UPDATE OF"),
    *("INSERT INTO", "UPDATE", "SET", "DELETE FROM", "USING", "RETURNING"),
)
CLOSED_BY: Final = {"(": ")", "CASE": "END"}
#: Longer ones first. A value, or a parameter, has its type with it.
TOKEN: Final = re.compile(
    "|".join(
        (
            r"'(?:[^']|'')*'(?:::\w+)?",
            r"%\(\w+\)s(?:::\w+)?",
            *(rf"\b{clause}\b" for clause in sorted(CLAUSES, key=len, reverse=True)),
            r"[\w.]+(?:::\w+)?",
            r"[(),]",
            r"[^\w\s'%(),]+",
        )
    )
)


@dataclass(frozen=True)
class Word:
    """A token, with the white space before it."""

    text: str
    space: str = ""


@dataclass
class Group:
    """What is between parentheses, or between CASE and END."""

    opened: Word
    items: list["Word | Group"] = field(default_factory=list)
    closed: Word = Word("")


Items = Sequence[Word | Group]


def laid_out(sql: str) -> str:
    """Lay a statement out; it ends with a line feed."""
    return "\n".join(_statement(_parse(sql))) + "\n"


def _parse(sql: str) -> Items:
    open_groups = [Group(Word(""))]
    end = 0
    for found in TOKEN.finditer(sql):
        between = sql[end : found.start()]
        assert not between.strip(), f"not SQL as it is written here: {between}"
        word = Word(found[0], " " if between else "")
        end = found.end()
        if word.text in CLOSED_BY:
            open_groups.append(Group(word))
        elif word.text == CLOSED_BY.get(open_groups[-1].opened.text):
            group = open_groups.pop()
            group.closed = word
            open_groups[-1].items.append(group)
        else:
            open_groups[-1].items.append(word)
    (whole,) = open_groups
    return whole.items


def _flat(items: Items) -> str:
    return "".join(
        item.space + item.text
        if isinstance(item, Word)
        else _flat([item.opened, *item.items, item.closed])
        for item in items
    )


def _is_statement(items: Items) -> bool:
    return isinstance(items[0], Word) and items[0].text in CLAUSES if items else False


def _fits(items: Items) -> bool:
    groups = [item for item in items if isinstance(item, Group)]
    has_statement = any(_is_statement(group.items) or not _fits(group.items) for group in groups)
    return not has_statement and len(_flat(items)) < LINE_CHARS_MAX


def _split(items: Items, *words: str) -> Iterator[Items]:
    """Cut before each of *words*."""
    part: list[Word | Group] = []
    for item in items:
        if isinstance(item, Word) and item.text in words and part:
            yield part
            part = []
        part.append(item)
    yield part


def _indented(lines: Iterator[str]) -> Iterator[str]:
    return (INDENT + line for line in lines)


def _statement(items: Items) -> Iterator[str]:
    for clause, *rest in _split(items, *CLAUSES):
        assert isinstance(clause, Word)
        conditions = list(_split(rest, "AND", "OR"))
        if _fits([clause, *rest]) and not (clause.text == "WHERE" and len(conditions) > 1):
            yield _flat([clause, *rest]).strip()
        elif clause.text in {"INSERT INTO", "JOIN", "FROM", "USING"}:
            yield from _expression([clause, *rest])
        else:
            yield clause.text
            yield from _indented(_list(rest))


def _list(items: Items) -> Iterator[str]:
    first, *others = _split(items, ",")
    parts = [first, *(part[1:] for part in others)]
    for part in parts[:-1]:
        *lines, last = _conditions(part)
        yield from (*lines, last + ",")
    yield from _conditions(parts[-1])


def _conditions(items: Items) -> Iterator[str]:
    for part in _split(items, "AND", "OR", "WHEN", "ELSE"):
        yield from _expression(part)


def _expression(items: Items) -> Iterator[str]:
    groups = [item for item in items if isinstance(item, Group)]
    too_long = [group for group in groups if not _fits([group])]
    if groups and not too_long and not _fits(items):
        too_long = [max(groups, key=lambda group: len(_flat([group])))]
    line = ""
    for item in items:
        if isinstance(item, Group) and item in too_long:
            yield (line + item.opened.space + item.opened.text).strip()
            inner = _statement if _is_statement(item.items) else _list
            yield from _indented(inner(item.items))
            line = item.closed.text
        else:
            line += _flat([item])
    yield line.strip()

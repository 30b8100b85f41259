"""Lay SQL out for a reader: only white space changes.

Clauses, the items of a list and conditions fill lines, as words do. What fits no line has lines of
its own, with what is in its parentheses two columns further in::

    UPDATE cards SET counter=(cards.counter + 1)
    WHERE cards.issuer_id = %(issuer_id)s AND cards.card_id = %(card_id)s
      AND cards.counter = (
        SELECT max(pin_changes.counter) AS newest FROM pin_changes
        WHERE pin_changes.issuer_id = cards.issuer_id AND pin_changes.card_id = cards.card_id
      )
    RETURNING cards.issuer_id, cards.card_id, cards.state, cards.counter, cards.pin_type,
      cards.sealed_record, cards.sealed_pin
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

LINE_CHARS_MAX: Final = 100
INDENT: Final = "  "
CLAUSES: Final = (
    *("WITH", "SELECT", "FROM", "JOIN", "WHERE", "ORDER BY", "LIMIT"),
    *("FOR NO KEY UPDATE", "FOR UPDATE"),
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
    return "\n".join(_statement(_parse(sql), LINE_CHARS_MAX)) + "\n"


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


def _has_word(items: Items, *words: str) -> bool:
    return any(isinstance(item, Word) and item.text in words for item in items)


def _is_statement(items: Items) -> bool:
    return _has_word(items[:1], *CLAUSES)


def _fits(items: Items, room: int) -> bool:
    """Tell whether this can be one line: it is short, and no statement in it has conditions."""
    groups = [item for item in items if isinstance(item, Group)]
    has_conditions = any(
        (_is_statement(group.items) and _has_word(group.items, "WHERE"))
        or not _fits(group.items, room)
        for group in groups
    )
    return not has_conditions and len(_flat(items).strip()) <= room


def _split(items: Items, *words: str) -> Iterator[Items]:
    """Cut before each of *words*."""
    part: list[Word | Group] = []
    for item in items:
        if isinstance(item, Word) and item.text in words and part:
            yield part
            part = []
        part.append(item)
    yield part


def _indented(lines: Iterable[str]) -> Iterator[str]:
    return (INDENT + line for line in lines)


def _filled(parts: Iterable[Iterable[str]], room: int) -> Iterator[str]:
    """Join parts that have one line each, as many as fit."""
    filled = ""
    for part in parts:
        first, *others = part
        if filled and (others or len(filled) + 1 + len(first) > room):
            yield filled
            filled = ""
        if others:
            yield from (first, *others)
        else:
            filled = f"{filled} {first}".strip()
    if filled:
        yield filled


def _statement(items: Items, room: int) -> Iterator[str]:
    return _filled((_clause(clause, room) for clause in _split(items, *CLAUSES)), room)


def _clause(items: Items, room: int) -> Iterator[str]:
    clause, *rest = items
    assert isinstance(clause, Word)
    if _fits(items, room):
        yield _flat(items).strip()
    elif clause.text in {"INSERT INTO", "JOIN", "FROM", "USING"}:
        yield from _expression(items, room)
    elif clause.text != "WITH" and _fits(next(_split(items, ",", "AND", "OR")), room):
        first, *others = _list(items, room - len(INDENT))
        yield from (first, *_indented(others))
    else:
        yield clause.text
        yield from _indented(_list(rest, room - len(INDENT)))


def _list(items: Items, room: int) -> Iterator[str]:
    first, *others = _split(items, ",")
    parts = [first, *(part[1:] for part in others)]
    return _filled((_item(part, "," * (part is not parts[-1]), room) for part in parts), room)


def _item(items: Items, comma: str, room: int) -> Iterator[str]:
    room -= len(comma)
    if _fits(items, room):
        yield _flat(items).strip() + comma
    else:
        *lines, last = _conditions(items, room)
        yield from (*lines, last + comma)


def _conditions(items: Items, room: int) -> Iterator[str]:
    parts = _split(items, "AND", "OR", "WHEN", "ELSE")
    return _filled((_expression(part, room) for part in parts), room)


def _expression(items: Items, room: int) -> Iterator[str]:
    groups = [item for item in items if isinstance(item, Group) and item.items]
    too_long = [group for group in groups if not _fits([group], room)]
    if groups and not too_long and not _fits(items, room):
        too_long = [max(groups, key=lambda group: len(_flat([group])))]
    line = ""
    for item in items:
        if isinstance(item, Group) and item in too_long:
            yield (line + item.opened.space + item.opened.text).strip()
            inner = _statement if _is_statement(item.items) else _list
            yield from _indented(inner(item.items, room - len(INDENT)))
            line = item.closed.text
        else:
            line += _flat([item])
    yield line.strip()

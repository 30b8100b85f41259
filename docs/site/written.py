"""What is written in the source of a model: docstrings of class and members, and its refusals."""

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from pydantic import BaseModel


@dataclass(frozen=True)
class Written:
    """Of one model, in Markdown."""

    about: str
    members: Mapping[str, str]
    """The docstring behind each member that has one."""
    refusals: Sequence[str]
    """The sentences with which its validators refuse."""

    @classmethod
    def of(cls, model: type[BaseModel]) -> Self:
        """Read the source of *model*, and of those of our classes that it inherits from."""
        about, members, refusals = inspect.getdoc(model) or "", dict[str, str](), list[str]()
        for each in reversed(model.__mro__):
            if issubclass(each, BaseModel) and each is not BaseModel:
                (node,) = ast.parse(textwrap.dedent(inspect.getsource(each))).body
                assert isinstance(node, ast.ClassDef)  # noqa: S101 - narrows the type
                members |= dict(_docstrings(node))
                refusals += _refusals(node, sys.modules[each.__module__].__dict__, set())
        return cls(
            _markdown(about),
            {name: _markdown(text) for name, text in members.items()},
            [_markdown(each) for each in dict.fromkeys(refusals)],
        )


def _docstrings(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for member, behind in zip(node.body, node.body[1:], strict=False):
        if isinstance(member, ast.AnnAssign) and isinstance(member.target, ast.Name):
            match behind:
                case ast.Expr(ast.Constant(str(text))):
                    yield member.target.id, text


def _refusals(node: ast.AST, names: Mapping[str, object], seen: set[str]) -> Iterator[str]:
    """Find ``raise ValueError("…")`` and ``yield path, "…"``, in functions that are called, too."""
    for each in ast.walk(node):
        match each:
            case ast.Raise(ast.Call(ast.Name("ValueError"), [ast.Constant(str(text))])):
                yield text
            case ast.Yield(ast.Tuple([path, ast.Constant(str(text))])):
                yield f"{_member(path)}{text}"
            case ast.Call(ast.Name(name)) if name not in seen and inspect.isfunction(
                called := names.get(name)
            ):
                seen.add(name)
                yield from _refusals(ast.parse(inspect.getsource(called)), names, seen)


def _member(path: ast.expr) -> str:
    """Name the member at fault, where the source does."""
    try:
        return f"`{'.'.join(ast.literal_eval(path))}`: "
    except ValueError:
        return ""


def _markdown(text: str) -> str:
    """Turn the markup of docstrings into Markdown, on one line."""
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text.replace("``", "`"))
    text = text.replace("None:", "`null`:")
    return " ".join(re.sub(r"(?<![\w*])\*(\w+)\*(?![\w*])", r"`\1`", text).split())

"""The reference of every command in docs/commands.md, made from the parsers of the programs.

``python -m tests.architecture.command_reference`` writes it.
"""

import argparse
import os
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import wrap
from typing import Final

import cms.__main__
import cms.sandbox.__main__
import hsm.__main__
from cms.operator.examples import EXAMPLES
from cms.sandbox.partners import d1_command
from hsm import command_help
from hsm.command_help import Example, commands_of

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = ROOT / "docs" / "commands.md"
BEGIN: Final = "<!-- made by python -m tests.architecture.command_reference -->\n"
END: Final = "<!-- end of what is made -->\n"
COLUMNS: Final = 100
CHOICES_MAX: Final = 30
"""More than these are a range, and their metavar tells it."""


def reference() -> str:
    """Write what each program takes."""
    sandbox = cms.sandbox.__main__.program_parser()
    command_help.explain(sandbox, {})
    text = (
        *_program(cms.__main__.program_parser(), EXAMPLES),
        *_program(hsm.__main__.program_parser(), command_help.EXAMPLES),
        *_program(sandbox, {}),
        *_command(d1_command.program_parser()),
    )
    return "\n".join(text)


def with_reference(text: str) -> str:
    """Replace the reference in *text*, which is between two comments."""
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + "\n" + reference() + "\n" + END + rest.partition(END)[2]


def _program(program: ArgumentParser, examples: Mapping[str, Example]) -> Iterator[str]:
    yield f"## {program.prog}\n"
    yield f"{program.description}\n"
    for name, _, command in commands_of(program):
        # D1's words have a parser of their own, which stands in the place of this one.
        if command._subparsers is None and command.prog != d1_command.program_parser().prog:
            yield from _command(command)
        if name in examples:
            words, page = examples[name]
            yield f"```\n{program.prog} {words}\n```\n"
            yield f"More: [{page}]({os.path.relpath(ROOT / page, PAGE.parent)}).\n"


def _command(command: ArgumentParser) -> Iterator[str]:
    """Write what a command does, how it is called, and what its arguments are."""
    yield f"### {command.prog}\n"
    yield f"{command.description}\n"
    arguments = [action for action in command._actions if action.dest != "help"]
    words = " ".join((command.prog, *map(_usage, arguments)))
    yield "```text"
    # A word and its value stay together.
    yield from (line.replace("\0", " ") for line in wrap(words, COLUMNS, subsequent_indent="  "))
    yield "```\n"
    if arguments:
        yield "| argument | what it is |\n|---|---|"
        yield from (f"| `{_typed(action)}` | {_meaning(action)} |" for action in arguments)
        yield ""


def _usage(action: argparse.Action) -> str:
    typed = _typed(action).replace(", ", "|")
    is_again = action.nargs in {"+", "*"} or isinstance(action, argparse._AppendAction)
    is_needed = action.required if action.option_strings else action.nargs not in {"?", "*"}
    text = f"{typed}…" if is_again else typed
    return (text if is_needed else f"[{text}]").replace(" ", "\0")


def _typed(action: argparse.Action) -> str:
    """Write an argument as it is typed: an option with its value, or the name of a value."""
    value = action.metavar or action.dest
    if not action.option_strings:
        return str(value).upper()
    options = ", ".join(action.option_strings)
    return options if action.nargs == 0 else f"{options} {str(value).upper()}"


def _meaning(action: argparse.Action) -> str:
    choices = [*(action.choices or ())]
    listed = ", ".join(f"`{choice}`" for choice in choices if choice != "")
    text = (action.help or "") + (f": {listed}" if 0 < len(choices) <= CHOICES_MAX else "")
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(with_reference(PAGE.read_text()))

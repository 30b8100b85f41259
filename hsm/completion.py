"""``python -m cms completion SHELL``, and of ``hsm``: has a shell complete what is typed.

What is printed defines the command, ``cms`` or ``hsm``, and says how its words are completed. It is
made of the parser by shtab (https://tqdm.github.io/shtab): nothing of ours runs when somebody
presses Tab.
"""

from __future__ import annotations

import shlex
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Final

from hsm.command_help import commands_of
from hsm.command_line import OK, Commands, add_command

#: What defines the command in each shell: its name, and what it stands for.
DEFINITIONS: Final[Mapping[str, str]] = {
    "bash": '{name}() {{ {words} "$@"; }}',
    "fish": "function {name}; {words} $argv; end",
    "tcsh": "alias {name} {words}",
    "zsh": '{name}() {{ {words} "$@"; }}',
}


def add_to(commands: Commands, program: ArgumentParser, name: str) -> None:
    """Add the command to a program, which is to be called *name*."""
    text = "print what lets a shell complete commands, options and files"
    run = partial(print_script, program, name)
    completion = add_command(commands, "completion", run, text)
    completion.add_argument("shell", choices=[*DEFINITIONS], help="for which shell")


def print_script(program: ArgumentParser, name: str, arguments: Namespace) -> int:
    """Print the script of a shell."""
    import shtab

    parsers = [program, *(parser for _, _, parser in commands_of(program))]
    for action in chain.from_iterable(parser._actions for parser in parsers):  # noqa: SLF001
        if action.type is Path:
            is_directory = action.metavar == "DIRECTORY"
            action.complete = shtab.DIRECTORY if is_directory else shtab.FILE  # type: ignore[attr-defined]
    words = f"{shlex.quote(sys.executable)} -m {name}"
    definition = DEFINITIONS[arguments.shell].format(name=name, words=words)
    program.prog = name
    print(shtab.complete(program, arguments.shell, preamble=definition))
    return OK

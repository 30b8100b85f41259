"""What commands share: adding one, words that are checked, questions, exit codes, closed outputs.

What a command works with it imports when it runs: building the parser, and so ``--help``, loads
none of it.
"""

from __future__ import annotations

import argparse
import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import Final, TypeAlias

OK: Final = 0
FAULT: Final = 1
"""What was to be verified is not as it must be."""
REFUSED: Final = 2
PIPE_CLOSED: Final = 141
"""What a shell shows for a program whose output nobody reads on."""
ISSUER_HELP: Final = "id of the issuer, 10 characters"

Commands: TypeAlias = "argparse._SubParsersAction[ArgumentParser]"  # noqa: SLF001 - no public name


def add_command(
    commands: Commands, name: str, run: Callable[[Namespace], int], text: str
) -> ArgumentParser:
    """Add a command and return its parser, for its arguments."""
    parser = commands.add_parser(name, help=text)
    parser.set_defaults(run=run)
    return parser


def issuer_id(text: str) -> str:
    """Read an issuer id.

    Raises:
        ArgumentTypeError: it is none.
    """
    from hsm.pkcs11.keys import ISSUER_ID_PATTERN

    if not ISSUER_ID_PATTERN.fullmatch(text):
        raise argparse.ArgumentTypeError("not 10 characters, none of them @")
    return text


def ask(how: Callable[[str], str], prompt: str) -> str:
    """Ask at the terminal with *how*; what is piped in is read line by line, without a prompt.

    Raises:
        CeremonyError: what is typed is not text.
    """
    from hsm.errors import CeremonyError

    try:
        # Not left to getpass: it reads the terminal even where standard input is a pipe.
        return how(prompt) if sys.stdin.isatty() else sys.stdin.readline().rstrip("\r\n")
    except EOFError:
        return ""
    except UnicodeDecodeError:
        raise CeremonyError("what was typed is not text: nothing was done") from None


def exit_code(command: Callable[[], int]) -> int:
    """Run a command, print all it has printed, and return its exit code."""
    try:
        try:
            return command()
        finally:
            print(end="", flush=True)
    except BrokenPipeError:
        _write_no_more()
        return PIPE_CLOSED
    except OSError as error:
        _write_no_more()
        print(f"standard output: {error.strerror}", file=sys.stderr)
        return REFUSED


def _write_no_more() -> None:
    """Send to nowhere what Python still writes when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

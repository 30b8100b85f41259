"""What the vault's commands share: adding one, words that are checked, questions at a terminal.

What a command works with it imports when it runs: building the parser, and so ``--help``, loads
none of it.
"""

from __future__ import annotations

import argparse
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import Final, TypeAlias

from hsm.errors import CeremonyError
from hsm.pkcs11.keys import ISSUER_ID_PATTERN

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
    if not ISSUER_ID_PATTERN.fullmatch(text):
        raise argparse.ArgumentTypeError("not 10 characters, none of them @")
    return text


def ask(how: Callable[[str], str], prompt: str) -> str:
    """Ask at the terminal with *how*; what is piped in is read line by line, without a prompt.

    Raises:
        CeremonyError: what is typed is not text.
    """
    try:
        # Not left to getpass: it reads the terminal even where standard input is a pipe.
        return how(prompt) if sys.stdin.isatty() else sys.stdin.readline().rstrip("\r\n")
    except EOFError:
        return ""
    except UnicodeDecodeError:
        raise CeremonyError("what was typed is not text: nothing was done") from None

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
from getpass import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from crypto.secret import Secret

OK: Final = 0
FAULT: Final = 1
"""What was to be verified is not as it must be."""
REFUSED: Final = 2
PIPE_CLOSED: Final = 141
"""What a shell shows for a program whose output nobody reads on."""
BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
"""What some editors put before the text of a file, in UTF-8."""
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


def new_passphrase() -> Secret[str]:
    """Ask for the passphrase of a new file of a key, twice.

    Raises:
        ManifestRefused: none is typed, or two different ones.
    """
    from crypto.secret import Secret
    from hsm.errors import ManifestRefused

    passphrase = ask(getpass, "passphrase (not shown): ")
    if not passphrase:
        raise ManifestRefused("an empty passphrase: say --no-passphrase to have none")
    if ask(getpass, "again (not shown): ") != passphrase:
        raise ManifestRefused("two different passphrases were typed")
    return Secret(passphrase)


def passphrase_of(file: Path) -> Secret[str]:
    """Ask for the passphrase of the file of a key."""
    from crypto.secret import Secret

    return Secret(ask(getpass, f"passphrase of {file.name} (not shown): "))


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

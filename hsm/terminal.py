"""A terminal on which nothing shows that is typed, but where a question says so."""

import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from hsm.command_line import ask

_LOCAL_FLAGS: Final = 3
"""Where they are in the list of :func:`termios.tcgetattr`."""
CLEAR: Final = "\x1b[H\x1b[2J\x1b[3J"
"""Empty the screen, and what was scrolled out of it (ECMA-48, xterm)."""


@contextmanager
def without_echo() -> Iterator[None]:
    """Show nothing that is typed, not even between two questions."""
    if not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    _set_echo(is_on=False)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSAFLUSH, before)


def ask_shown(prompt: str) -> str:
    """Ask for something that may be seen, while nothing else shows.

    Raises:
        CeremonyError: what is typed is not text.
    """
    if not sys.stdin.isatty():
        return ask(input, prompt)
    _set_echo(is_on=True)
    try:
        return ask(input, prompt)
    finally:
        _set_echo(is_on=False)


def hand_over(what: str) -> None:
    """Empty the screen, and wait until the next person sits there."""
    if sys.stdin.isatty():
        print(CLEAR, end="")
        ask(input, f"{what}. Press Enter when the next custodian alone sits here: ")
        print()


def _set_echo(*, is_on: bool) -> None:
    flags = termios.tcgetattr(sys.stdin)
    echo = termios.ECHO | termios.ECHOE | termios.ECHOK
    flags[_LOCAL_FLAGS] = flags[_LOCAL_FLAGS] | echo if is_on else flags[_LOCAL_FLAGS] & ~echo
    termios.tcsetattr(sys.stdin, termios.TCSAFLUSH, flags)

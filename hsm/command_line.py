"""What the operators' programs share: exit codes, and an output that nobody reads on."""

import os
import sys
from collections.abc import Callable
from typing import Final

OK: Final = 0
REFUSED: Final = 2
PIPE_CLOSED: Final = 141
"""What a shell shows for a program whose output nobody reads on."""


def exit_code(command: Callable[[], int]) -> int:
    """Run a command, print all it has printed, and return its exit code."""
    try:
        try:
            return command()
        finally:
            print(end="", flush=True)
    except BrokenPipeError:
        # Python writes what is left when it ends: to nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED

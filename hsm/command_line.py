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
        _write_no_more()
        return PIPE_CLOSED
    except OSError as error:
        _write_no_more()
        print(f"standard output: {error.strerror}", file=sys.stderr)
        return REFUSED


def _write_no_more() -> None:
    """Send to nowhere what Python still writes when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

"""The signals that end a process, while it makes what must not stay half made."""

import signal
from types import FrameType
from typing import Final

ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def interrupt_once() -> None:
    """Have the first of these signals raise KeyboardInterrupt, and those after it do nothing."""
    for number in ENDING:
        signal.signal(number, _interrupt)


def ignore() -> None:
    """Let none of these signals end this process any more."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    ignore()
    raise KeyboardInterrupt

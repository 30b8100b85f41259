"""What a process of the vault asks of the kernel before it holds anything."""

import ctypes
import logging
import os
import resource
import signal
from typing import Final

PR_SET_PDEATHSIG: Final = 1
PR_SET_DUMPABLE: Final = 4
PR_SET_NO_NEW_PRIVS: Final = 38
MCL_CURRENT_AND_FUTURE: Final = 3
FIRST_DESCRIPTOR: Final = 3
"""After standard input, output and error."""
log = logging.getLogger(__name__)
_libc: Final = ctypes.CDLL(None, use_errno=True)


def harden() -> None:
    """Allow no core dump and no look into this process; gain no right by starting another program.

    What this process starts inherits that it dumps no core and gains no right, and must forbid the
    look itself.

    Sources: prctl(2), setrlimit(2), ptrace(2).
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _prctl(PR_SET_DUMPABLE, 0)
    _prctl(PR_SET_NO_NEW_PRIVS, 1)


def close_inherited() -> None:
    """Close what the starter of this process had open, but standard input, output and error."""
    os.closerange(FIRST_DESCRIPTOR, os.sysconf("SC_OPEN_MAX"))


def end_with(parent: int) -> bool:
    """Have SIGTERM come when *parent* ends; tell whether it is still there.

    Source: prctl(2), PR_SET_PDEATHSIG.
    """
    _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    return os.getppid() == parent


def harden_for_secrets() -> None:
    """Harden a process that is to hold secrets, and keep it out of swap, where that is allowed.

    Source: mlockall(2).
    """
    harden()
    # A limit that is not the highest would have allocations fail later.
    _, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (hard, hard))
    if _libc.mlockall(MCL_CURRENT_AND_FUTURE):
        log.warning("vault.memory_not_locked")


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")

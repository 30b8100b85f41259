"""What a worker asks of the kernel before it holds a secret."""

import ctypes
import logging
import resource
import signal
from typing import Final

PR_SET_PDEATHSIG: Final = 1
PR_SET_DUMPABLE: Final = 4
MCL_CURRENT_AND_FUTURE: Final = 3
log = logging.getLogger(__name__)


def harden() -> None:
    """Allow no core dump and no look into this process; keep it out of swap; end with the parent.

    Sources: prctl(2), setrlimit(2), mlockall(2).
    """
    libc = ctypes.CDLL(None, use_errno=True)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for option, value in ((PR_SET_DUMPABLE, 0), (PR_SET_PDEATHSIG, signal.SIGTERM)):
        if libc.prctl(option, value, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl")
    # A limit that is not the highest would have allocations fail later.
    _, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (hard, hard))
    if libc.mlockall(MCL_CURRENT_AND_FUTURE):
        log.warning("vault.memory_not_locked")

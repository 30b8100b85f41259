"""``python -m tests.without_capabilities MODULE …``: that module without any capability.

Root may look into every process. Tests that show what the same user may do run as root in some
places, and take its capabilities from both sides there; for another user nothing changes.

Source: capabilities(7), "Transformation of capabilities during execve()".
"""

import ctypes
import os
import sys
from typing import Final

PR_CAPBSET_DROP: Final = 24
CAPABILITIES: Final = range(64)


def drop_capabilities() -> None:
    """Have this process's next program none of them."""
    libc = ctypes.CDLL(None)
    for capability in CAPABILITIES:
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)  # it fails where there is none to drop


if __name__ == "__main__":
    drop_capabilities()
    os.execv(sys.executable, [sys.executable, "-m", *sys.argv[1:]])

"""``python -m tests.hsm.server.hardened DEFENCES``: a process that the kernel defends so far.

DEFENCES is a word of ``none``, ``all`` or ``undumpable``. It writes a line when it is ready, waits
for one, and then has the kernel end it as a mistake in a library would, by SIGSEGV.
"""

import os
import resource
import signal
import sys

from hsm import hardening


def main(defences: str) -> None:
    _, highest = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (highest, highest))
    if defences == "all":
        hardening.harden()
    if defences == "undumpable":
        # As where cores are piped to a program: the limit does not count there (core(5)).
        hardening._prctl(hardening.PR_SET_DUMPABLE, 0)
    print("ready", flush=True)  # noqa: T201
    sys.stdin.readline()
    os.kill(os.getpid(), signal.SIGSEGV)


if __name__ == "__main__":
    main(sys.argv[1])

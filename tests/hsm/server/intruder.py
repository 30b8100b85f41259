"""``python -m tests.hsm.server.intruder PID``: tries to look into a process of its own user.

It prints a JSON object: each way, and whether it led in.
"""

import ctypes
import errno
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

PTRACE_ATTACH: Final = 16
PTRACE_DETACH: Final = 17
LOOKED_AT_BYTES: Final = 16
libc = ctypes.CDLL(None, use_errno=True)


class Range(ctypes.Structure):
    """``struct iovec``."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def attach(pid: int) -> bool:
    done: bool = libc.ptrace(PTRACE_ATTACH, pid, None, None) == 0
    if done:
        os.waitpid(pid, 0)
        libc.ptrace(PTRACE_DETACH, pid, None, None)
    return done


def read_memory(pid: int) -> bool:
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        memory.seek(address_of_stack(pid))
        return len(memory.read(LOOKED_AT_BYTES)) == LOOKED_AT_BYTES


def read_by_call(pid: int) -> bool:
    """process_vm_readv(2): it looks at the right before it looks at the address."""
    here = ctypes.create_string_buffer(LOOKED_AT_BYTES)
    into = Range(ctypes.addressof(here), LOOKED_AT_BYTES)
    nowhere = Range(0, LOOKED_AT_BYTES)
    assert libc.process_vm_readv(pid, ctypes.byref(into), 1, ctypes.byref(nowhere), 1, 0) < 0
    return ctypes.get_errno() == errno.EFAULT


def address_of_stack(pid: int) -> int:
    maps = Path(f"/proc/{pid}/maps").read_text()
    (address,) = re.findall(r"^([0-9a-f]+)-.*\[stack\]$", maps, re.MULTILINE)
    return int(address, 16)


def take_descriptor(pid: int) -> bool:
    """pidfd_getfd(2), of its standard error."""
    process = os.pidfd_open(pid)
    pidfd_getfd = 438
    return bool(libc.syscall(pidfd_getfd, process, 2, 0) >= 0)


WAYS: dict[str, Callable[[int], bool]] = {
    "ptrace": attach,
    "/proc/mem": read_memory,
    "process_vm_readv": read_by_call,
    "/proc/environ": lambda pid: bool(Path(f"/proc/{pid}/environ").read_bytes()),
    "/proc/maps": lambda pid: bool(Path(f"/proc/{pid}/maps").read_text()),
    "/proc/fd": lambda pid: bool(Path(f"/proc/{pid}/fd/2").readlink()),
    "/proc/exe": lambda pid: bool(Path(f"/proc/{pid}/exe").readlink()),
    "pidfd_getfd": take_descriptor,
}


def led_in(way: Callable[[int], bool], pid: int) -> bool:
    try:
        return way(pid)
    except PermissionError:
        return False


if __name__ == "__main__":
    target = int(sys.argv[1])
    print(json.dumps({name: led_in(way, target) for name, way in WAYS.items()}))  # noqa: T201

"""Connections to sockets that somebody else made: another user, who then passes them on.

The kernel notes who called connect(2) (unix(7), SO_PEERCRED), whoever holds the socket later.
"""

import array
import socket
import subprocess
import sys
from pathlib import Path
from typing import Final

from cms.sandbox import HANG_SECONDS

CONNECT: Final = """
import array, os, socket, sys
uid, path, passing = int(sys.argv[1]), sys.argv[2], socket.socket(fileno=int(sys.argv[3]))
if uid != os.getuid():
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
stream = socket.socket(socket.AF_UNIX)
try:
    stream.connect(path)
except PermissionError:
    sys.exit(13)
handle = array.array("i", [stream.fileno()])
passing.sendmsg([b"-"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, handle)])
"""
NO_RIGHT: Final = 13


def passed_on(uid: int, path: Path) -> socket.socket:
    """Have a process of *uid* connect to *path* and pass the socket on; it is gone then.

    Raises:
        PermissionError: it may not connect.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:
        done = subprocess.run(
            [sys.executable, "-c", CONNECT, str(uid), str(path), str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            timeout=HANG_SECONDS,
            check=False,
        )
        if done.returncode == NO_RIGHT:
            raise PermissionError
        assert done.returncode == 0
        handles = array.array("i")
        _, [(_, _, data)], *_ = ours.recvmsg(1, socket.CMSG_SPACE(handles.itemsize))
        handles.frombytes(data[: handles.itemsize])
    stream = socket.socket(fileno=handles[0])
    stream.settimeout(HANG_SECONDS)
    return stream

"""The Unix sockets of the vault: where they are, and who may connect."""

import fcntl
import os
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, TypeAlias

from hsm.errors import VaultUnavailable
from hsm.messages import SocketName
from hsm.settings import ServerSettings
from hsm.socket_files import OTHERS_WRITE, path_of

BACKLOG: Final = 128
Listeners: TypeAlias = Mapping[SocketName, socket.socket]
_PEER: Final = struct.Struct("=iII")
"""``struct ucred``: pid, uid, gid (unix(7), SO_PEERCRED)."""


def uids(settings: ServerSettings) -> Mapping[SocketName, int]:
    """Name who may connect to each socket."""
    return {
        SocketName.D1: settings.d1_uid,
        SocketName.CARDHOLDER: settings.cardholder_uid,
        SocketName.ADMIN: settings.admin_uid,
    }


def peer_uid(connection: socket.socket) -> int:
    """Return the uid of the process at the other end, as the kernel noted it at its connect."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    uid: int = _PEER.unpack(credentials)[1]
    return uid


@contextmanager
def bound(settings: ServerSettings) -> Iterator[Sequence[Listeners]]:
    """Listen on the sockets of every slot; remove them afterwards.

    A socket is for its owner only (0600), or, where another uid is expected, for its group too
    (0660); set-group-id of the directory says which group that is.

    Yields:
        The sockets of each slot.

    Raises:
        VaultUnavailable: others may write in the directory, another supervisor works there, or
            what is there cannot be replaced.
    """
    directory = settings.socket_directory
    with ExitStack() as stack:
        try:
            _lock(stack, directory)
            slots = [
                {
                    name: _bind(stack, path_of(directory, name, slot), uid)
                    for name, uid in uids(settings).items()
                }
                for slot in range(settings.workers)
            ]
        except OSError as error:
            text = f"HSM_SOCKET_DIRECTORY: {error.strerror or 'cannot be used'}"
            raise VaultUnavailable(text) from None
        yield slots


def _bind(stack: ExitStack, path: Path, uid: int) -> socket.socket:
    """Listen at *path*, where nothing is to be seen before somebody may connect."""
    hidden = path.with_suffix(".new")
    hidden.unlink(missing_ok=True)  # of a vault that was killed
    listener = stack.enter_context(_listener(hidden))
    hidden.chmod(0o600 if uid == os.geteuid() else 0o660)
    stack.callback(path.unlink, missing_ok=True)
    hidden.rename(path)
    return listener


def _lock(stack: ExitStack, directory: Path) -> None:
    """Check the directory and keep other supervisors out of it."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    stack.callback(os.close, handle)
    status = os.fstat(handle)
    if status.st_uid not in {0, os.geteuid()} or status.st_mode & OTHERS_WRITE:
        raise VaultUnavailable("HSM_SOCKET_DIRECTORY: others own it or may write there")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise VaultUnavailable("HSM_SOCKET_DIRECTORY: another vault serves there") from None
    # Of a vault that was killed and had more workers.
    for path in directory.glob("*.*.sock"):
        if path.is_socket():
            path.unlink()


def _listener(path: Path) -> socket.socket:
    """Listen at *path*."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(before)
    listener.setblocking(False)
    return listener

"""Where the sockets of the vault are: ``<name>.<slot>.sock`` in one directory.

Each worker of the vault has a slot, from 0, and listens on its own socket of each name.
"""

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from hsm.errors import VaultUnavailable
from hsm.messages import SocketName

OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
FOR_OWNER_AND_GROUP: Final = 0o660


def path_of(directory: Path, name: SocketName, slot: int) -> Path:
    """Return the path of a socket."""
    return directory / f"{name}.{slot}.sock"


def paths_of(directory: Path, name: SocketName) -> list[Path]:
    """List the sockets of a name, those of all slots, that are there."""
    return sorted(directory.glob(f"{name}.*.sock"))


def owner_of(directory: Path, names: Iterable[SocketName]) -> int:
    """Return the uid that owns the sockets of these names, when nobody else can have made them.

    Nobody has to listen there.

    Raises:
        VaultUnavailable: directory or socket are missing, or open to others, or of several
            owners, or this process may not connect; the message says which, by its file name.
    """
    uids = {_owner(directory, stat.S_IFDIR, OTHERS_WRITE)}
    for name in names:
        for path in paths_of(directory, name) or [path_of(directory, name, 0)]:
            uids.add(_owner(path, stat.S_IFSOCK, ~FOR_OWNER_AND_GROUP))
            if not os.access(path, os.R_OK | os.W_OK):
                raise _refusal(path, "this user may not connect")
    uids -= {0}
    if len(uids) > 1:
        raise _refusal(directory, "it and the sockets in it have several owners")
    return uids.pop() if uids else 0


def _owner(path: Path, kind: int, forbidden_mode: int) -> int:
    """Return the uid that owns a file of this kind (``S_IFMT``)."""
    try:
        status = path.stat()
    except OSError as error:
        raise _refusal(path, error.strerror or "it cannot be read") from None
    if stat.S_IFMT(status.st_mode) != kind:
        raise _refusal(path, "it is no directory" if kind == stat.S_IFDIR else "it is no socket")
    if stat.S_IMODE(status.st_mode) & forbidden_mode:
        raise _refusal(path, "its mode lets others in")
    return status.st_uid


def _refusal(path: Path, reason: str) -> VaultUnavailable:
    return VaultUnavailable(f"{path.name}: {reason}")

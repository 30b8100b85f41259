"""Where the sockets of the vault are: ``<name>.<slot>.sock`` in one directory.

Each worker of the vault has a slot, from 0, and listens on its own socket of each name.
"""

from pathlib import Path

from hsm.messages import SocketName


def path_of(directory: Path, name: SocketName, slot: int) -> Path:
    """Return the path of a socket."""
    return directory / f"{name}.{slot}.sock"


def paths_of(directory: Path, name: SocketName) -> list[Path]:
    """List the sockets of a name, those of all slots, that are there."""
    return sorted(directory.glob(f"{name}.*.sock"))

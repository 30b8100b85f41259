"""Files of a vault host that hold what operators signed, each with a CMAC of this host.

::

    <name>.json   {"jws": "…", "key_label": "…", "cmac": "<hex>"}

The CMAC (16 bytes) is by a key of role ``manifest-mac`` over what the file is, its key label and
SHA-256 of its JWS (:func:`hsm.sealed.length_prefixed`). Workers of a host share the directory.
"""

import fcntl
import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from hmac import compare_digest
from pathlib import Path
from typing import Final, TypeAlias

from crypto.errors import JoseError
from crypto.jose import json_object
from hsm import directories
from hsm.errors import CeremonyError, KeyNotInUse, ManifestRefused
from hsm.manifest import signed
from hsm.pkcs11.keys import KeyLabel, KeyRole
from hsm.sealed import length_prefixed

PATHS_MAX: Final = 1_000
MINIMUM_VERSIONS: Final = "minimum-versions"
GENERATIONS: Final = "generations"
Mac: TypeAlias = Callable[[KeyLabel, bytes], bytes]
Seen: TypeAlias = tuple[int, int, int]
"""By what a file that was replaced is told from the one before: inode, size, time in ns."""


@dataclass(frozen=True, slots=True)
class HostFiles:
    """The files of one directory.

    Every method raises ``VaultUnavailable`` when the HSM token does not answer, or lacks the key,
    and ``ManifestRefused`` when the directory cannot be read or written.
    """

    directory: Path
    """Where they are; only the vault's user may write there."""
    mac: Mac
    """Makes an AES-CMAC with the key of a label."""

    def seen(self, name: str) -> Seen | None:
        """Look at a file; None: there is none."""
        with usable():
            try:
                # Every verb looks, and Path takes twice as long.
                status = os.stat(_file(self.directory, name))  # noqa: PTH116
            except FileNotFoundError:
                return None
        return status.st_ino, status.st_size, status.st_mtime_ns

    def open(self, name: str) -> tuple[str, KeyLabel]:
        """Read a file; return its JWS, and the label of the key of its CMAC.

        Raises:
            ManifestRefused: its CMAC is wrong, or by a key that is not in use any more.
        """
        text = ""
        with usable():
            content = self.path(name).read_bytes()
        try:
            members = json_object.parse(content)
            text = str(members["jws"])
            label, cmac = KeyLabel.parse(str(members["key_label"])), str(members["cmac"])
            is_ours = label.role is KeyRole.MANIFEST_MAC and compare_digest(
                self.mac(label, _mac_input(name, label, text)), bytes.fromhex(cmac)
            )
        except (JoseError, CeremonyError, KeyError, ValueError):
            is_ours = False
        except KeyNotInUse:
            raise ManifestRefused("a file of this host is under a key that is not in use") from None
        if not is_ours:
            raise ManifestRefused("a file of this host was changed by others")
        return text, label

    def payload(self, name: str) -> bytes:
        """Read a file; return the payload of its JWS.

        Raises:
            ManifestRefused: as :meth:`open` does.
        """
        return signed.parse(self.open(name)[0]).payload

    def write(self, name: str, text: str, label: KeyLabel) -> None:
        """Replace a file, so that a crash leaves the old one or the new one."""
        cmac = self.mac(label, _mac_input(name, label, text))
        members = {"jws": text, "key_label": str(label), "cmac": cmac.hex()}
        new = self.directory / f".{name}.new"
        with new.open("w", encoding="ascii") as file:
            os.fchmod(file.fileno(), 0o600)
            json.dump(members, file)
            file.flush()
            os.fsync(file.fileno())
        new.rename(self.path(name))
        directories.sync(self.directory)

    def names(self) -> Iterator[str]:
        """Name every file."""
        for file in self.directory.glob("[!.]*.json"):
            yield file.stem

    def path(self, name: str) -> Path:
        """Say where a file is."""
        return self.directory / f"{name}.json"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep the other workers of this host from storing anything.

        Raises:
            ManifestRefused: anybody may write in the directory: nothing there can be believed.
        """
        with usable():
            if self.directory.stat().st_mode & stat.S_IWOTH:
                raise ManifestRefused("anybody may write in HSM_STATE_DIRECTORY")
            with (self.directory / ".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield


@contextmanager
def usable() -> Iterator[None]:
    """Say so of a directory that cannot be used.

    Raises:
        ManifestRefused: it cannot be.
    """
    try:
        yield
    except OSError:
        # Not VaultUnavailable: opening the HSM token anew would not help.
        raise ManifestRefused("HSM_STATE_DIRECTORY cannot be read or written") from None


@lru_cache(maxsize=PATHS_MAX)
def _file(directory: Path, name: str) -> str:
    return str(directory / f"{name}.json")


def _mac_input(name: str, label: KeyLabel, text: str) -> bytes:
    # Of the text its hash: it may be longer than what a device takes at once.
    digest = hashlib.sha256(text.encode()).digest()
    return length_prefixed(b"manifest", name.encode(), str(label).encode(), digest)

"""The manifests of a vault host: the newest of each issuer, in a directory of the vault's own.

A file an issuer, and one for the list of floors with which the host began::

    <hexadecimal of the issuer id in UTF-8>.json   {"jws": "…", "key_label": "…", "cmac": "<hex>"}
    floors.json                                    the same

The CMAC (16 bytes) is by a key of role ``manifest-mac`` over what the file is, its key label and
SHA-256 of its JWS (:func:`hsm.sealed.length_prefixed`). What is in the directory is the floor: no
older version of a manifest is taken. Workers of a host share the directory; each looks at a file
again when another one has replaced it.
"""

import fcntl
import hashlib
import json
import os
import stat
from collections import OrderedDict
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property, lru_cache
from hmac import compare_digest
from pathlib import Path
from typing import Final, TypeAlias

from crypto.errors import JoseError
from crypto.jose import json_object
from hsm import directories
from hsm.errors import CeremonyError, ManifestRefused
from hsm.manifest import floors, model, signed
from hsm.manifest.model import Manifest
from hsm.manifest.trust import read_trust
from hsm.pkcs11.keys import ISSUER_ID_PATTERN, KeyLabel, KeyRole
from hsm.sealed import length_prefixed

FLOORS: Final = "floors"
PARSED_MAX: Final = 1_000
"""Manifests that a worker holds, parsed: those that were used last. A small one takes 17 KiB."""
Mac: TypeAlias = Callable[[KeyLabel, bytes], bytes]
_Seen: TypeAlias = tuple[int, int, int]
"""By what a file that was replaced is told from the one before: inode, size, time in ns."""
_ProviderName: TypeAlias = tuple[str, str]


@dataclass(frozen=True)
class _Stored:
    """A manifest that this host has taken, as it was signed."""

    seen: _Seen
    payload: bytes

    @cached_property
    def version(self) -> int:
        # Not of the whole manifest: an older version of this program may have taken one that this
        # one refuses, and a newer manifest must be able to replace it.
        version = json_object.parse(self.payload)["version"]
        return version if isinstance(version, int) else 0

    @cached_property
    def manifest(self) -> Manifest:
        return model.parse(self.payload)


@dataclass(frozen=True, slots=True)
class Manifests:
    """The manifests of this host.

    Every method raises ``VaultUnavailable`` when the HSM token does not answer, or lacks the key,
    and ``ManifestRefused`` when the directory cannot be read or written.
    """

    directory: Path
    """Where they are; only the vault's user may write there."""
    trust_file: Path
    """Whose signatures count; read anew for each manifest that comes."""
    mac: Mac
    """Makes an AES-CMAC with the key of a label."""
    label: KeyLabel
    """The active key of role ``manifest-mac``."""
    now: Callable[[], datetime]
    """The time, UTC."""
    _parsed: OrderedDict[str, _Stored] = field(default_factory=OrderedDict, init=False)
    """Of an issuer each, the one that was used last at the end."""
    _providers: dict[str, tuple[_Seen, _ProviderName | None]] = field(
        default_factory=dict, init=False
    )
    """Of every issuer: a manifest that comes is compared with each, which are read once."""

    def read(self, issuer_id: str) -> Manifest:
        """Return the newest manifest of an issuer.

        Raises:
            ManifestRefused: there is none, it is not in force now, or its file was changed by
                others.
        """
        stored = self._stored(issuer_id)
        if stored is None:
            raise ManifestRefused("this host has no manifest of the issuer")
        if not stored.manifest.is_valid_at(self.now()):
            raise ManifestRefused("the manifest is not in force now")
        return stored.manifest

    def version(self, issuer_id: str) -> int:
        """Return the version of the newest manifest, in force or not; 0: there is none.

        Raises:
            ManifestRefused: its file was changed by others.
        """
        stored = self._stored(issuer_id)
        return 0 if stored is None else stored.version

    def verified(self, text: str) -> Manifest:
        """Read a signed manifest that comes; nothing is stored.

        Raises:
            ManifestRefused: it is not signed by enough operators, not in canonical form, not a
                manifest, not in force now, or for trials where the trust file is not.
        """
        manifest = read_trust(self.trust_file).accept_manifest(signed.parse(text))
        if not manifest.is_valid_at(self.now()):
            raise ManifestRefused("the manifest is not in force now")
        return manifest

    def keep(self, text: str, manifest: Manifest) -> None:
        """Store a manifest that :meth:`verified` returned; the newest one may come again.

        Raises:
            ManifestRefused: this host has a newer one, another one of this version or a higher
                floor, or no floors at all; or another issuer's manifest names the same identity
                provider with the same audience, so that a cardholder of one would be one of both.
        """
        with self._alone():
            floor, stored = self._floor(manifest.issuer_id), self._stored(manifest.issuer_id)
            if stored is not None and manifest.version == stored.version:
                if signed.parse(text).payload == stored.payload:
                    return
                raise ManifestRefused("this host has another manifest of this version")
            if manifest.version < max(floor, 0 if stored is None else stored.version):
                raise ManifestRefused("an older version than this host takes")
            provider = manifest.identity_provider
            if provider is not None and provider.name in self._providers_but_of(manifest):
                raise ManifestRefused("another issuer has this identity provider and audience")
            self._write(_file_name(manifest.issuer_id), text)

    def begin(self, text: str) -> None:
        """Take a signed list of floors; a host that has one needs no other.

        Raises:
            ManifestRefused: the list is not signed by enough operators who may sign for every
                issuer, not in canonical form, or not good now; or this host has one already.
        """
        listed = read_trust(self.trust_file).accept_floors(signed.parse(text))
        if not listed.is_valid_at(self.now()):
            raise ManifestRefused("the list of floors is not good now")
        with self._alone():
            if self._path(FLOORS).exists():
                raise ManifestRefused("this host has floors already")
            self._write(FLOORS, text)

    def _providers_but_of(self, manifest: Manifest) -> Set[_ProviderName]:
        """Name the identity providers of the other issuers."""
        names = set()
        for file in self.directory.glob("[!.]*.json"):
            # Nobody is served by a manifest that cannot be read; the list of floors is none.
            with suppress(ManifestRefused, ValueError):
                issuer_id = bytes.fromhex(file.stem).decode("utf-8", "surrogatepass")
                name = self._provider(issuer_id)
                if name is not None and issuer_id != manifest.issuer_id:
                    names.add(name)
        return names

    def _provider(self, issuer_id: str) -> _ProviderName | None:
        seen = self._seen(issuer_id)
        if seen is None:
            return None
        known = self._providers.get(issuer_id)
        if known is not None and known[0] == seen:
            return known[1]
        stored = self._parsed.get(issuer_id)
        if stored is None or stored.seen != seen:
            # It does not take the place of one that is in use.
            stored = self._opened(issuer_id, seen)
        provider = stored.manifest.identity_provider
        name = None if provider is None else provider.name
        self._providers[issuer_id] = seen, name
        return name

    def _floor(self, issuer_id: str) -> int:
        if not self._path(FLOORS).exists():
            raise ManifestRefused("this host has no floors: load a list of floors first")
        return floors.parse(self._open(FLOORS)).floors.get(issuer_id, 1)

    def _stored(self, issuer_id: str) -> _Stored | None:
        seen = self._seen(issuer_id)
        if seen is None:
            return None
        stored = self._parsed.get(issuer_id)
        if stored is None or stored.seen != seen:
            stored = self._parsed[issuer_id] = self._opened(issuer_id, seen)
        self._parsed.move_to_end(issuer_id)
        if len(self._parsed) > PARSED_MAX:
            self._parsed.popitem(last=False)
        return stored

    def _seen(self, issuer_id: str) -> _Seen | None:
        """Look at the file of an issuer; None: there is none."""
        if not ISSUER_ID_PATTERN.fullmatch(issuer_id):
            return None
        with _files():
            try:
                # Every verb looks, and Path takes twice as long.
                status = os.stat(_file(self.directory, issuer_id))  # noqa: PTH116
            except FileNotFoundError:
                return None
        return status.st_ino, status.st_size, status.st_mtime_ns

    def _opened(self, issuer_id: str, seen: _Seen) -> _Stored:
        with _files():
            return _Stored(seen, self._open(_file_name(issuer_id)))

    def _open(self, name: str) -> bytes:
        """Read a file of ours and return the payload of its JWS.

        Raises:
            ManifestRefused: its CMAC is wrong.
        """
        try:
            members = json_object.parse(self._path(name).read_bytes())
            text = str(members["jws"])
            label, cmac = KeyLabel.parse(str(members["key_label"])), str(members["cmac"])
            is_ours = label.role is KeyRole.MANIFEST_MAC and compare_digest(
                self.mac(label, _mac_input(name, label, text)), bytes.fromhex(cmac)
            )
        except (JoseError, CeremonyError, KeyError, ValueError):
            is_ours = False
        if not is_ours:
            raise ManifestRefused("a file of this host was changed by others")
        return signed.parse(text).payload

    def _write(self, name: str, text: str) -> None:
        """Replace a file, so that a crash leaves the old one or the new one."""
        cmac = self.mac(self.label, _mac_input(name, self.label, text))
        members = {"jws": text, "key_label": str(self.label), "cmac": cmac.hex()}
        new = self.directory / f".{name}.new"
        with new.open("w", encoding="ascii") as file:
            os.fchmod(file.fileno(), 0o600)
            json.dump(members, file)
            file.flush()
            os.fsync(file.fileno())
        new.rename(self._path(name))
        directories.sync(self.directory)

    def _path(self, name: str) -> Path:
        return _path(self.directory, name)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep the other workers of this host from storing anything.

        Raises:
            ManifestRefused: anybody may write in the directory: what is there is no floor.
        """
        with _files():
            if self.directory.stat().st_mode & stat.S_IWOTH:
                raise ManifestRefused("anybody may write in HSM_STATE_DIRECTORY")
            with (self.directory / ".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield


@contextmanager
def _files() -> Iterator[None]:
    """Say so of a directory that cannot be used."""
    try:
        yield
    except OSError:
        # Not VaultUnavailable: opening the HSM token anew would not help.
        raise ManifestRefused("HSM_STATE_DIRECTORY cannot be read or written") from None


@lru_cache(maxsize=PARSED_MAX)
def _file(directory: Path, issuer_id: str) -> str:
    return str(_path(directory, _file_name(issuer_id)))


def _path(directory: Path, name: str) -> Path:
    return directory / f"{name}.json"


def _file_name(issuer_id: str) -> str:
    return issuer_id.encode("utf-8", "surrogatepass").hex()


def _mac_input(name: str, label: KeyLabel, text: str) -> bytes:
    # Of the text its hash: it may be longer than what a device takes at once.
    digest = hashlib.sha256(text.encode()).digest()
    return length_prefixed(b"manifest", name.encode(), str(label).encode(), digest)

"""The manifests of a vault host: the newest of each issuer, in a directory of the vault's own.

A file an issuer, and one for the list of floors with which the host began::

    <hexadecimal of the issuer id in UTF-8>.json   {"jws": "…", "key_label": "…", "cmac": "<hex>"}
    floors.json                                    the same

The CMAC (16 bytes) is by a key of role ``manifest-mac`` over what the file is, its key label and
its JWS (:func:`hsm.sealed.length_prefixed`). What is in the directory is the floor: no older
version of a manifest is taken. Workers of a host share the directory; each looks at a file again
when another one has replaced it.
"""

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from hmac import compare_digest
from pathlib import Path
from typing import Final, TypeAlias

from crypto.errors import JoseError
from crypto.jose import json_object, jws_json
from crypto.jose.jws_json import SignedText
from hsm.errors import CeremonyError, ManifestRefused
from hsm.manifest import floors, model
from hsm.manifest.body import canonical_body
from hsm.manifest.floors import Floors
from hsm.manifest.model import Manifest
from hsm.manifest.trust import FLOORS_TYPE, MANIFEST_TYPE, read_trust
from hsm.pkcs11.keys import KeyLabel, KeyRole
from hsm.sealed import length_prefixed

FLOORS: Final = "floors"
Mac: TypeAlias = Callable[[KeyLabel, bytes], bytes]
_Seen: TypeAlias = tuple[int, int, int]
"""By what a file that was replaced is told from the one before: inode, size, time in ns."""


class Manifests:
    """The manifests of this host.

    Args:
        directory: where they are; only the vault's user may write there.
        trust_file: whose signatures count; read anew for each manifest that comes.
        mac: makes an AES-CMAC with the key of a label.
        label: the active key of role ``manifest-mac``.
        now: the time, UTC.
    """

    def __init__(
        self,
        directory: Path,
        trust_file: Path,
        mac: Mac,
        label: KeyLabel,
        now: Callable[[], datetime],
    ) -> None:
        self._directory = directory
        self._trust_file = trust_file
        self._mac = mac
        self._label = label
        self._now = now
        self._read: dict[str, tuple[_Seen, Manifest]] = {}

    def read(self, issuer_id: str) -> Manifest:
        """Return the newest manifest of an issuer.

        Raises:
            ManifestRefused: there is none, it is not in force now, or its file was changed by
                others.
        """
        manifest = self._newest(issuer_id)
        if manifest is None:
            raise ManifestRefused("this host has no manifest of the issuer")
        if not manifest.is_valid_at(self._now()):
            raise ManifestRefused("the manifest is not in force now")
        return manifest

    def version(self, issuer_id: str) -> int:
        """Return the version of the newest manifest, in force or not; 0: there is none.

        Raises:
            ManifestRefused: its file was changed by others.
        """
        manifest = self._newest(issuer_id)
        return 0 if manifest is None else manifest.version

    def verified(self, text: str) -> Manifest:
        """Read a signed manifest that comes; nothing is stored.

        Raises:
            ManifestRefused: it is not signed by enough operators, not in canonical form, not a
                manifest, not in force now, or for trials where the trust file is not.
        """
        signed = _parse(text)
        manifest = model.parse(signed.payload)
        trust = read_trust(self._trust_file)
        trust.require_signed(signed, MANIFEST_TYPE, manifest.issuer_id)
        if manifest.sandbox and not trust.sandbox:
            raise ManifestRefused("a manifest for trials")
        if not manifest.is_valid_at(self._now()):
            raise ManifestRefused("the manifest is not in force now")
        return manifest

    def keep(self, text: str, manifest: Manifest) -> None:
        """Store a manifest that :meth:`verified` returned; the newest one may come again.

        Raises:
            ManifestRefused: this host has a newer one, another one of this version or a higher
                floor, or no floors at all.
        """
        with self._alone():
            floor, newest = self._floor(manifest.issuer_id), self._newest(manifest.issuer_id)
            if newest is not None and newest.canonical() == manifest.canonical():
                return
            if manifest.version < floor or (newest and manifest.version <= newest.version):
                raise ManifestRefused("an older version than this host has")
            self._write(_file_name(manifest.issuer_id), text)

    def begin(self, text: str) -> None:
        """Take a signed list of floors; a host that has one needs no other.

        Raises:
            ManifestRefused: the list is not signed by enough operators who may sign for every
                issuer, not in canonical form, or not good now; or this host has one already.
        """
        signed = _parse(text)
        listed = floors.parse(signed.payload)
        read_trust(self._trust_file).require_signed(signed, FLOORS_TYPE, None)
        if not listed.is_valid_at(self._now()):
            raise ManifestRefused("the list of floors is not good now")
        with self._alone():
            if self._path(FLOORS).exists():
                raise ManifestRefused("this host has floors already")
            self._write(FLOORS, text)

    def _floor(self, issuer_id: str) -> int:
        if not self._path(FLOORS).exists():
            raise ManifestRefused("this host has no floors: load a list of floors first")
        listed: Floors = floors.parse(_parse(self._open(FLOORS)).payload)
        return listed.floors.get(issuer_id, 1)

    def _newest(self, issuer_id: str) -> Manifest | None:
        name = _file_name(issuer_id)
        try:
            status = self._path(name).stat()
        except FileNotFoundError:
            return None
        seen = (status.st_ino, status.st_size, status.st_mtime_ns)
        read = self._read.get(issuer_id)
        if read is not None and read[0] == seen:
            return read[1]
        manifest = model.parse(_parse(self._open(name)).payload)
        if manifest.issuer_id != issuer_id:
            raise ManifestRefused("a file of this host was changed by others")
        self._read[issuer_id] = (seen, manifest)
        return manifest

    def _open(self, name: str) -> str:
        """Read a file of ours.

        Raises:
            ManifestRefused: its CMAC is wrong.
        """
        try:
            members = json_object.parse(self._path(name).read_bytes())
            text = str(members["jws"])
            label, cmac = KeyLabel.parse(str(members["key_label"])), str(members["cmac"])
            is_ours = label.role is KeyRole.MANIFEST_MAC and compare_digest(
                self._mac(label, _mac_input(name, label, text)), bytes.fromhex(cmac)
            )
        except (JoseError, CeremonyError, KeyError, ValueError):
            is_ours = False
        if not is_ours:
            raise ManifestRefused("a file of this host was changed by others")
        return text

    def _write(self, name: str, text: str) -> None:
        """Replace a file, so that a crash leaves the old one or the new one."""
        cmac = self._mac(self._label, _mac_input(name, self._label, text))
        members = {"jws": text, "key_label": str(self._label), "cmac": cmac.hex()}
        new = self._directory / f".{name}.new"
        with new.open("w", encoding="ascii") as file:
            os.fchmod(file.fileno(), 0o600)
            json.dump(members, file)
            file.flush()
            os.fsync(file.fileno())
        new.rename(self._path(name))
        directory = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}.json"

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep the other workers of this host from storing anything."""
        with (self._directory / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _parse(text: str) -> SignedText:
    """Read a signed text whose payload is in canonical form.

    Raises:
        ManifestRefused: it is none.
    """
    try:
        signed = jws_json.parse(text)
        is_canonical = canonical_body(json_object.parse(signed.payload)) == signed.payload
    except JoseError:
        is_canonical = False
    if not is_canonical:
        raise ManifestRefused("not a signed text in canonical form")
    return signed


def _file_name(issuer_id: str) -> str:
    return issuer_id.encode().hex()


def _mac_input(name: str, label: KeyLabel, text: str) -> bytes:
    return length_prefixed(b"manifest", name.encode(), str(label).encode(), text.encode())

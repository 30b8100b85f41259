"""The manifests of a vault host: the newest of each issuer, in a directory of the vault's own.

A file an issuer, named by the hexadecimal of the issuer id in UTF-8, and one for the list of
minimum versions with which the host began (:mod:`hsm.manifest.host_files`). No manifest is taken
that is older than what is in the directory. Workers of a host share the directory; each looks at a
file again when another one has replaced it.
"""

from collections import OrderedDict
from collections.abc import Callable, Set
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Final, TypeAlias

from crypto.jose import json_object
from hsm.errors import ManifestRefused
from hsm.manifest import minimum_versions, model, signed
from hsm.manifest.host_files import MINIMUM_VERSIONS, HostFiles, Seen, usable
from hsm.manifest.model import Manifest
from hsm.manifest.trust import read_trust
from hsm.pkcs11.keys import ISSUER_ID_PATTERN, KeyLabel

PARSED_MAX: Final = 1_000
"""Manifests that a worker holds, parsed: those that were used last. A small one takes 17 KiB."""
_ProviderName: TypeAlias = tuple[str, str]


@dataclass(frozen=True)
class _Stored:
    """A manifest that this host has taken, as it was signed."""

    seen: Seen
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

    files: HostFiles
    trust_file: Path
    """Whose signatures count; read anew for each manifest that comes."""
    label: Callable[[], KeyLabel]
    """Names the active key of role ``manifest-mac``."""
    now: Callable[[], datetime]
    """The time, UTC."""
    _parsed: OrderedDict[str, _Stored] = field(default_factory=OrderedDict, init=False)
    """Of an issuer each, the one that was used last at the end."""
    _providers: dict[str, tuple[Seen, _ProviderName | None]] = field(
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
                minimum version, or no minimum versions at all; or another issuer's manifest names
                the same identity provider with the same audience, so that a cardholder of one would
                be one of both.
        """
        with self.files.alone():
            minimum_version, stored = (
                self._minimum_version(manifest.issuer_id),
                self._stored(manifest.issuer_id),
            )
            if stored is not None and manifest.version == stored.version:
                if signed.parse(text).payload == stored.payload:
                    return
                raise ManifestRefused("this host has another manifest of this version")
            if manifest.version < max(minimum_version, 0 if stored is None else stored.version):
                raise ManifestRefused("an older version than this host takes")
            provider = manifest.identity_provider
            if provider is not None and provider.name in self._providers_but_of(manifest):
                raise ManifestRefused("another issuer has this identity provider and audience")
            self.files.write(_file_name(manifest.issuer_id), text, self.label())

    def begin(self, text: str) -> None:
        """Take a signed list of minimum versions; a host that has one needs no other.

        Raises:
            ManifestRefused: the list is not signed by enough operators who may sign for every
                issuer, not in canonical form, or not good now; or this host has one already.
        """
        listed = read_trust(self.trust_file).accept_minimum_versions(signed.parse(text))
        if not listed.is_valid_at(self.now()):
            raise ManifestRefused("the list of minimum versions is not good now")
        with self.files.alone():
            if self.files.path(MINIMUM_VERSIONS).exists():
                raise ManifestRefused("this host has minimum versions already")
            self.files.write(MINIMUM_VERSIONS, text, self.label())

    def _providers_but_of(self, manifest: Manifest) -> Set[_ProviderName]:
        """Name the identity providers of the other issuers."""
        names = set()
        for file in self.files.names():
            # Nobody is served by a manifest that cannot be read; the list of versions is none.
            with suppress(ManifestRefused, ValueError):
                issuer_id = bytes.fromhex(file).decode("utf-8", "surrogatepass")
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

    def _minimum_version(self, issuer_id: str) -> int:
        if not self.files.path(MINIMUM_VERSIONS).exists():
            raise ManifestRefused("this host has no minimum versions: load a list of them first")
        return minimum_versions.parse(self.files.payload(MINIMUM_VERSIONS)).minimum_versions.get(
            issuer_id, 1
        )

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

    def _seen(self, issuer_id: str) -> Seen | None:
        """Look at the file of an issuer; None: there is none."""
        if not ISSUER_ID_PATTERN.fullmatch(issuer_id):
            return None
        return self.files.seen(_file_name(issuer_id))

    def _opened(self, issuer_id: str, seen: Seen) -> _Stored:
        with usable():
            return _Stored(seen, self.files.payload(_file_name(issuer_id)))


def _file_name(issuer_id: str) -> str:
    return issuer_id.encode("utf-8", "surrogatepass").hex()

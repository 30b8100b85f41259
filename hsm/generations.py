"""The table of key generations that a host has taken, and what it says of a key.

Without a table the oldest key of a role on the HSM token is active, as when a deployment begins,
and younger ones are loaded: one that is made changes nothing before operators have signed. Workers
look at the file when they use a key, some times a second, so that all of them follow a new table
soon.
"""

from collections.abc import Iterator, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from hsm.errors import KeyMissing, ManifestRefused
from hsm.manifest import generation_table, minimum_versions, resigned, signed
from hsm.manifest.generation_table import GenerationTable, State
from hsm.manifest.host_files import GENERATIONS, MINIMUM_VERSIONS, HostFiles, Seen
from hsm.manifest.trust import Trust, read_trust
from hsm.pkcs11.hsm_token import HsmToken
from hsm.pkcs11.keys import OWN_ROLES, KeyLabel, KeyRole

KEPT_BY_HOST: Final = frozenset({State.ACTIVE, State.DECRYPT_ONLY})
"""The states in which a key must be on the HSM token."""


@dataclass(slots=True)
class Generations:
    """The table of this host.

    Every method raises ``ManifestRefused`` when the file cannot be used, or is older than one that
    this process has seen; and ``VaultUnavailable`` when the HSM token does not answer.
    """

    files: HostFiles
    """Whose CMACs are made with whichever key a file names: the table says which may be."""
    _seen: Seen | None = field(default=None, init=False)
    _table: GenerationTable | None = field(default=None, init=False)
    _looked: bool = field(default=False, init=False)

    def table(self) -> GenerationTable | None:
        """Return the table that is in force: the same object until there is another.

        Raises:
            ManifestRefused: there is none, and there was, or the list of minimum versions has one.
        """
        seen = self.files.seen(GENERATIONS)
        # Without one the minimum versions tell whether there must be one.
        key = self.files.seen(MINIMUM_VERSIONS) if seen is None else seen
        if key != self._seen or not self._looked:
            if seen is None and (self._table is not None or self.minimum_version()):
                raise ManifestRefused("this host lacks its table of key generations")
            table = None if seen is None else self.stored()
            if table is not None and table.version < self.minimum_version():
                raise ManifestRefused(
                    "the table of key generations is below this host's minimum version"
                )
            self._table = table
            self._seen, self._looked = key, True
        return self._table

    def stored(self) -> GenerationTable | None:
        """Read the file; None: there is none."""
        if self.files.seen(GENERATIONS) is None:
            return None
        text, label = self.files.open(GENERATIONS)
        table = generation_table.parse(signed.parse(text).payload)
        if not table.opens(label):
            raise ManifestRefused(
                "the table of key generations is under a key that it takes out of use"
            )
        if self._table is not None and table.version < self._table.version:
            raise ManifestRefused("the table of key generations is older than the one before")
        return table

    def minimum_version(self) -> int:
        """Return the version below which this host takes no table; 0: there is none."""
        if self.files.seen(MINIMUM_VERSIONS) is None:
            return 0
        return minimum_versions.parse(self.files.payload(MINIMUM_VERSIONS)).generations


def of_host(directory: Path, hsm_token: HsmToken) -> Generations:
    """Look for the table of a host in its state directory."""

    def mac(label: KeyLabel, data: bytes) -> bytes:
        # The key under which the table stands may have come with it.
        if label not in hsm_token.labels():
            hsm_token.find_keys()
        return hsm_token.mac(label, data)

    return Generations(HostFiles(directory, mac))


def verified(text: str, trust_file: Path, now: datetime) -> GenerationTable:
    """Read a signed table that comes; nothing is stored.

    Raises:
        ManifestRefused: it is not signed by enough operators who may sign for every issuer, not in
            canonical form, no table, or not to be taken now.
    """
    table = read_trust(trust_file).accept_generations(signed.parse(text))
    if not table.is_valid_at(now):
        raise ManifestRefused("the table of key generations is not in force now")
    return table


def keep(generations: Generations, text: str, trust: Trust, there: Set[KeyLabel]) -> None:
    """Store a table that :func:`verified` returned; the newest one may come again.

    Every other file of the host then gets its CMAC from the key that the table makes active, so
    that a later table can retire the one before.

    Args:
        generations: of this host.
        text: the table, as it was signed.
        trust: whose signatures count on a file that gets a CMAC of another key.
        there: the keys on the HSM token, each as its role wants it.

    Raises:
        ManifestRefused: this host has a newer one, another of this version or a higher minimum
            version; it cannot follow the one before, names a key as in use that is not there, or
            takes one out of use under which files of this host stand; or such a file is not signed
            by operators who count now: each is named.
    """
    files, document = generations.files, signed.parse(text)
    table = generation_table.parse(document.payload)
    with files.alone():
        before = generations.stored()
        _check_version(table, before, generations.minimum_version())
        if before is not None:
            table.check_follows(before)
        if table.roles != {*OWN_ROLES}:
            raise ManifestRefused("the table does not name a key of each role of our own")
        if any(x not in there for x in _needed(table.states)):
            raise ManifestRefused("a key that the table has in use is not on the HSM token")
        stored = dict(_others(files))
        if not all(table.opens(label) for _, label in stored.values()):
            raise ManifestRefused(
                "files of this host are under a key that the table takes out of use: load one "
                "before in which it is decrypt-only"
            )
        label = table.active[KeyRole.MANIFEST_MAC]
        moving = {name: one for name, (one, by) in stored.items() if by != label}
        _require_signed(moving, trust)
        files.write(GENERATIONS, text, label)
        for name, one in moving.items():
            files.write(name, one, label)


def _require_signed(moving: Mapping[str, str], trust: Trust) -> None:
    unsigned = [x for x, text in sorted(moving.items()) if not resigned.is_signed(trust, x, text)]
    if unsigned:
        raise ManifestRefused(
            "files of this host are not signed by operators who count now; load newer ones, or "
            "remove what nobody signed: " + ", ".join(map(resigned.described, unsigned))
        )


def _others(files: HostFiles) -> Iterator[tuple[str, tuple[str, KeyLabel]]]:
    """Read the other files; one that cannot be read serves nobody, and holds up no table."""
    for name in files.names():
        if name != GENERATIONS:
            with suppress(ManifestRefused, KeyMissing):
                yield name, files.open(name)


def _check_version(
    table: GenerationTable, before: GenerationTable | None, minimum_version: int
) -> None:
    if table.version < max(minimum_version, 0 if before is None else before.version):
        raise ManifestRefused("an older table than this host takes")
    if before is not None and table.version == before.version and table != before:
        raise ManifestRefused("this host has another table of this version")


def _needed(states: Mapping[KeyLabel, State]) -> Set[KeyLabel]:
    return {
        label
        for label, state in states.items()
        if state in KEPT_BY_HOST and not label.role.per_issuer
    }


def without_table(label: KeyLabel, active: Mapping[KeyRole, KeyLabel]) -> State:
    """Say what a key may be used for where there is no table."""
    is_active = label.role.per_issuer or active[label.role] == label
    return State.ACTIVE if is_active else State.LOADED


def state_of(
    label: KeyLabel, table: GenerationTable | None, active: Mapping[KeyRole, KeyLabel]
) -> State | None:
    """Say what a key may be used for; None: the table does not name it."""
    if table is None or not (label.role.per_issuer or label.role in table.roles):
        return without_table(label, active)
    return table.states.get(label)

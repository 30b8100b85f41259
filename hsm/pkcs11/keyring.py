"""Which key a verb uses, and which may open what it made.

The table of key generations of the host decides (:mod:`hsm.generations`). Without one, of our own
keys the oldest is active, and all others open. Every CMAC that is made or compared is made here,
and every sealed value is opened by its CMAC first: so a key that must open nothing does not.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

from hsm.errors import KeyMissing, KeyNotInUse, ManifestRefused, VaultUnavailable
from hsm.generations import Generations, state_of
from hsm.manifest.generation_table import LOST, GenerationTable, State
from hsm.pkcs11.hsm_token import HsmToken
from hsm.pkcs11.keys import MAC_ROLES, OWN_ROLES, KeyKind, KeyLabel, KeyRole

LOOK_SECONDS: Final = 0.1
"""Ten looks a verb, each some microseconds, are too many."""


class Keyring:
    """The keys on the HSM token, found at construction and at each new table.

    It looks for a new table at use: each 0.1 s, and before it refuses a key.

    Every method and property raises ``ManifestRefused`` when the table of the host cannot be used,
    and ``VaultUnavailable`` when a role of our own has no key, or the HSM token does not answer.

    Args:
        hsm_token: the HSM token.
        generations: the table of this host; None: there is none.

    Raises:
        VaultUnavailable: at construction, when a role of our own has no key.
    """

    def __init__(self, hsm_token: HsmToken, generations: Generations | None = None) -> None:
        self._hsm_token = hsm_token
        self._generations = generations
        self._table: GenerationTable | None = None
        self._labels: Sequence[KeyLabel] = ()
        self._look_at = 0.0
        # A host that lacks its table must be able to take one.
        with suppress(ManifestRefused):
            self._look()

    @property
    def active(self) -> Mapping[KeyRole, KeyLabel]:
        """The active key of each role of our own."""
        self._look()
        return self._active

    @property
    def labels(self) -> Sequence[KeyLabel]:
        """The keys that were found: the same object until they were looked for again."""
        self._look()
        return self._labels

    def may_open(self, label: KeyLabel) -> bool:
        """Tell whether what was sealed, signed or encrypted for a key of our own is taken."""
        self._look()
        if not self._opens(label):
            # What another worker made under a new key came with a new table.
            self.follow()
        return self._opens(label)

    def is_announced(self, label: KeyLabel) -> bool:
        """Tell whether partners may encrypt to a key: every host opens with it by then.

        A key that is loaded opens here, and not yet where the table has not come.
        """
        if not self.may_open(label):
            return False
        return state_of(label, self._table, self._active) is not State.LOADED

    def is_lost(self, label: KeyLabel) -> bool:
        """Tell whether the table says of a key that it is compromised or destroyed, for good."""
        return self._table is not None and self._table.states.get(label) in LOST

    def mac(self, label: KeyLabel, data: bytes) -> bytes:
        """Make a 16-byte AES-CMAC with a key of our own, or one to compare with.

        Raises:
            KeyNotInUse: the table does not let it be used.
        """
        if not self.may_open(label):
            raise KeyNotInUse("a key is not in use any more")
        return self._hsm_token.mac(label, data)

    def shared(
        self,
        role: KeyRole,
        issuer_id: str,
        generation: int,
        kinds: Sequence[KeyKind] = (KeyKind.TDES_2KEY,),
    ) -> KeyLabel:
        """Return the label of the key of *role* that a partner of the issuer has too.

        Raises:
            KeyMissing: it was not imported.
            KeyNotInUse: the table does not let it be used.
            ManifestRefused: it is of none of *kinds*, so that the profile cannot mean this key.
        """
        self._look()
        label = KeyLabel(role, generation, issuer_id)
        if label not in self._shared:
            raise KeyMissing("a shared key is not on the token")
        if self._table is not None and self._table.forbids(label):
            raise KeyNotInUse("a shared key is not in use any more")
        if self._shared[label] not in kinds:
            raise ManifestRefused("a shared key is not of the kind that the profile needs")
        return label

    def _opens(self, label: KeyLabel) -> bool:
        return self._table is None or self._table.opens(label)

    def follow(self) -> None:
        """Look for a new table now."""
        self._look_at = 0.0
        self._look()

    def _look(self) -> None:
        """Follow a new table; keys that came to the HSM token meanwhile are found then."""
        now = time.monotonic()
        if now < self._look_at:
            return
        self._follow()
        self._look_at = now + LOOK_SECONDS

    def _follow(self) -> None:
        table = None if self._generations is None else self._generations.table()
        if table is self._table and self._labels:
            return
        if self._labels:
            self._hsm_token.find_keys()
        labels = self._hsm_token.labels()
        came = {*labels} - {*self._labels} if self._labels else ()
        if not all(map(self._hsm_token.is_as_expected, came)):
            raise VaultUnavailable("a key is not as its role wants it: hsm check says which")
        named = {} if table is None else table.active
        self._active = _active(labels, named)
        self._shared = {x: self._hsm_token.kind(x) for x in labels if x.role.per_issuer}
        self._table, self._labels = table, tuple(labels)


def _active(
    labels: Sequence[KeyLabel], named: Mapping[KeyRole, KeyLabel]
) -> Mapping[KeyRole, KeyLabel]:
    """Choose the key that is *named*, else the lowest generation.

    Sealing roles need their MAC key beside it.
    """
    oldest = {
        role: min((x for x in labels if x.role is role), key=lambda x: x.generation, default=None)
        for role in OWN_ROLES
    }
    complete = {role: label for role, label in oldest.items() if label is not None} | {**named}
    partners = {complete[role].of(mac) for role, mac in MAC_ROLES.items() if role in complete}
    if len(complete) != len(OWN_ROLES) or not partners | {*named.values()} <= {*labels}:
        raise VaultUnavailable("a key is not on the token")
    return complete

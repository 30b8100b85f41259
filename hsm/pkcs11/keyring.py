"""Which key a verb uses: of our own the newest, of shared ones that which a profile names."""

from collections.abc import Mapping, Sequence
from typing import Final

from hsm.errors import KeyMissing, ManifestRefused, VaultUnavailable
from hsm.pkcs11.hsm_token import HsmToken
from hsm.pkcs11.keys import MAC_ROLES, OWN_ROLES, KeyKind, KeyLabel, KeyRole


class Keyring:
    """The labels that were on the HSM token at construction.

    Raises:
        VaultUnavailable: at construction, when a role of our own has no key.
    """

    def __init__(self, hsm_token: HsmToken) -> None:
        labels = hsm_token.labels()
        self.active: Final[Mapping[KeyRole, KeyLabel]] = _active(labels)
        self._shared = {label: hsm_token.kind(label) for label in labels if label.role.per_issuer}

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
            ManifestRefused: it is of none of *kinds*, so that the profile cannot mean this key.
        """
        label = KeyLabel(role, generation, issuer_id)
        if label not in self._shared:
            raise KeyMissing("a shared key is not on the token")
        if self._shared[label] not in kinds:
            raise ManifestRefused("a shared key is not of the kind that the profile needs")
        return label


def _active(labels: Sequence[KeyLabel]) -> dict[KeyRole, KeyLabel]:
    """Choose the highest generation of each role; sealing roles need their MAC key beside it."""
    newest = {
        role: max((x for x in labels if x.role is role), key=lambda x: x.generation, default=None)
        for role in OWN_ROLES
    }
    complete = {role: label for role, label in newest.items() if label is not None}
    partners = {complete[role].of(mac) for role, mac in MAC_ROLES.items() if role in complete}
    if len(complete) != len(OWN_ROLES) or not partners <= {*labels}:
        raise VaultUnavailable("a key is not on the token")
    return complete

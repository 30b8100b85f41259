"""What tells a key from another of its label, and is no secret: a check value, or a thumbprint."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from crypto import kcv
from crypto.jose.jwk import thumbprint
from hsm.pkcs11.hsm_token import HsmToken
from hsm.pkcs11.keyring import Keyring
from hsm.pkcs11.keys import AES_KINDS, KeyKind, KeyLabel, Usage

NO_FINGERPRINT: Final = "-"


def fingerprint(hsm_token: HsmToken, label: KeyLabel) -> str:
    """Return the fingerprint of a key, as ``hsm list`` and the records of ceremonies show it.

    The key check value (KCV) of a shared key, which its partner knows; ``CKA_CHECK_VALUE`` of
    another secret key; the JWK thumbprint of an EC key; ``-`` if the device has none of them.

    Raises:
        VaultUnavailable: the HSM token does not answer.
    """
    kind, role = hsm_token.kind(label), label.role
    if kind is KeyKind.EC_P256:
        point = hsm_token.public_point(label)
        return thumbprint(point.x, point.y)
    if kind in AES_KINDS and role.per_issuer:
        # CKA_CHECK_VALUE of an AES key is not its KCV; that of a TDES key is.
        if role.usage is Usage.MAC:
            return kcv.aes(partial(hsm_token.mac, label)).hex().upper()
        if role.usage in (Usage.ENCRYPT, Usage.ENCRYPT_ONLY):
            return kcv.aes_of_cipher(partial(hsm_token.encrypt_block, label)).hex().upper()
    return hsm_token.check_value(label).hex().upper() or NO_FINGERPRINT


class Fingerprints:
    """The fingerprints of a host's own keys: each HSM token of a service must have the same.

    They are read once of each set of keys that the keyring finds, as reading asks the HSM token.

    Args:
        hsm_token: the HSM token.
        keyring: its keys.
    """

    def __init__(self, hsm_token: HsmToken, keyring: Keyring) -> None:
        self._hsm_token = hsm_token
        self._keyring = keyring
        self._labels: Sequence[KeyLabel] = ()
        self._read: Mapping[KeyLabel, str] = {}

    def read(self) -> Mapping[KeyLabel, str]:
        """Return them, without keys that have none.

        Raises:
            ManifestRefused, VaultUnavailable: as the keyring does.
        """
        labels = self._keyring.labels
        if labels is not self._labels:
            own = [label for label in labels if not label.role.per_issuer]
            read = {label: fingerprint(self._hsm_token, label) for label in own}
            self._read = {label: one for label, one in read.items() if one != NO_FINGERPRINT}
            self._labels = labels
        return self._read

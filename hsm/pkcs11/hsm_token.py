"""HsmToken: the few primitives that differ from one cryptographic device to the next.

Every key is named by its label and never leaves the device. The methods that the vault uses raise
``VaultUnavailable`` when the device or the key is unavailable, and nothing else: arguments are
checked before they come here, so a failure always means a broken device. Those that make or
import a key raise ``CeremonyError`` too, when there is a key of that label already.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from enum import StrEnum
from typing import Final, Protocol, TypeAlias

from crypto.jose.jwk import Point
from crypto.secret import Secret
from hsm.pkcs11.keys import KeyKind, KeyLabel

GCM_NONCE_BYTES: Final = 12
GCM_TAG_BYTES: Final = 16
AES_MAC_BYTES: Final = 16
TDES_MAC_BYTES: Final = 8
TDES_BLOCK_BYTES: Final = 8


class KeyUnit(StrEnum):
    """In what the use of a key is counted; :mod:`hsm.key_budgets` says how much there may be."""

    TDES_BLOCKS = "tdes-blocks"
    GCM_INVOCATIONS = "gcm-invocations"


#: Told of each use of a key that is counted: its label, the unit and how many.
CountUses: TypeAlias = Callable[[KeyLabel, KeyUnit, int], None]


def not_counted(label: KeyLabel, unit: KeyUnit, uses: int) -> None:
    """Count nothing, as commands do: they use no key that is counted for long."""


def tdes_blocks(data: bytes) -> int:
    """Count the blocks of *data*; a last one may be short, and an empty MAC input is one.

    >>> [tdes_blocks(bytes(size)) for size in (0, 8, 9)]
    [1, 1, 2]
    """
    return -(-len(data) // TDES_BLOCK_BYTES) or 1


class SessionKey(Protocol):
    """A TDES key of 16 bytes, derived in the HSM token for one use and destroyed after it."""

    def encrypt(self, data: bytes) -> bytes:
        """Encipher a multiple of 8 bytes in ECB mode."""
        ...

    def decrypt(self, data: bytes) -> bytes:
        """Decipher a multiple of 8 bytes in ECB mode."""
        ...

    def encrypt_cbc(self, iv: bytes, data: bytes) -> bytes:
        """Encipher a multiple of 8 bytes in CBC mode; *iv* is 8 bytes."""
        ...

    def mac(self, data: bytes) -> bytes:
        """Make an 8-byte TDES-CMAC (NIST SP 800-38B)."""
        ...


class HsmToken(Protocol):
    """A PKCS#11 token, or anything that can do the same. Used from one thread only."""

    def labels(self) -> Sequence[KeyLabel]:
        """List the keys on the HSM token that have a label of ours."""
        ...

    def find_keys(self) -> None:
        """Look for the keys anew: other processes may have made or destroyed some."""
        ...

    def is_as_expected(self, label: KeyLabel) -> bool:
        """Tell whether kind and attributes of a key are those of its role."""
        ...

    def encrypt_block(self, label: KeyLabel, block: bytes) -> bytes:
        """Encipher 16-byte blocks with AES, each alone (ECB)."""
        ...

    def decrypt_block(self, label: KeyLabel, block: bytes) -> bytes:
        """Decipher 16-byte blocks with AES, each alone (ECB)."""
        ...

    def encrypt_cbc(self, label: KeyLabel, iv: bytes, data: bytes) -> bytes:
        """Encipher a multiple of 16 bytes with AES in CBC mode; *iv* is 16 bytes."""
        ...

    def encrypt_gcm(self, label: KeyLabel, nonce: bytes, plaintext: bytes) -> bytes:
        """Encipher with AES-GCM: 12-byte *nonce* in, ciphertext and 16-byte tag out."""
        ...

    def decrypt_gcm(self, label: KeyLabel, nonce: bytes, ciphertext: bytes) -> bytes:
        """Undo :meth:`encrypt_gcm`."""
        ...

    def mac(self, label: KeyLabel, data: bytes) -> bytes:
        """Make a 16-byte AES-CMAC (NIST SP 800-38B)."""
        ...

    def tdes_encrypt(self, label: KeyLabel, data: bytes) -> bytes:
        """Encipher a multiple of 8 bytes with TDES in ECB mode."""
        ...

    def tdes_decrypt(self, label: KeyLabel, data: bytes) -> bytes:
        """Decipher a multiple of 8 bytes with TDES in ECB mode."""
        ...

    def tdes_encrypt_cbc(self, label: KeyLabel, iv: bytes, data: bytes) -> bytes:
        """Encipher a multiple of 8 bytes with TDES in CBC mode; *iv* is 8 bytes."""
        ...

    def tdes_mac(self, label: KeyLabel, data: bytes) -> bytes:
        """Make an 8-byte TDES-CMAC (NIST SP 800-38B)."""
        ...

    def derived(self, label: KeyLabel, *data: bytes) -> AbstractContextManager[SessionKey]:
        """Derive a key from the key *label*, and from that the next, one for each of *data*.

        Each is E_parent(data) of 16 bytes in ECB mode with odd parity, as in
        :class:`crypto.emv.key_derivation.DerivationData`. The last one can be used inside the
        context. When the context ends, all of them are destroyed.
        """
        ...

    def agree(self, label: KeyLabel, point: Point, other_info: bytes) -> bytes:
        """Derive a 32-byte content key: ECDH, then one round of Concat KDF with SHA-256.

        Source: NIST SP 800-56A, 5.8.1, as in RFC 7518, 4.6.2. *point* must lie on P-256.
        The shared secret stays in the HSM token.
        """
        ...

    def sign(self, label: KeyLabel, digest: bytes) -> bytes:
        """Sign a 32-byte digest with ECDSA P-256: r and s, 32 bytes each."""
        ...

    def random(self, size_bytes: int) -> bytes:
        """Draw random bytes from the HSM token's generator."""
        ...

    def public_point(self, label: KeyLabel) -> Point:
        """Read the public half of an EC key."""
        ...

    def kind(self, label: KeyLabel) -> KeyKind:
        """Say what a key is made of."""
        ...

    def check_value(self, label: KeyLabel) -> bytes:
        """Read ``CKA_CHECK_VALUE`` of a secret key: 3 bytes, or none if the device has none."""
        ...

    def attributes(self, label: KeyLabel) -> Mapping[str, bool]:
        """Read back the attributes that protect the key, without those unknown to the device."""
        ...

    def generate(self, label: KeyLabel) -> None:
        """Make the key *label* on the HSM token, with the attributes of its role.

        Raises:
            CeremonyError: there is a key of that label, or the role is one of shared keys.
        """
        ...

    def import_key(self, label: KeyLabel, kind: KeyKind, key: Secret[bytes]) -> None:
        """Bring the secret *key* in as *label*, with the attributes of its role.

        Raises:
            CeremonyError: there is a key of that label.
        """
        ...

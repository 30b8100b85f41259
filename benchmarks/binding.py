"""The operations of an HSM token through python-pkcs11, to compare :mod:`hsm.pkcs11.calls` with."""

from collections.abc import Mapping
from typing import Any, Final, Self

from pkcs11 import KDF, Attribute, GCMParams, KeyType, Mechanism

from crypto.jose.jwk import Point
from hsm.pkcs11.calls import CONCAT_KDF_FIRST_ROUND
from hsm.pkcs11.hsm_token import GCM_TAG_BYTES
from hsm.pkcs11.keys import KeyLabel
from hsm.pkcs11.templates import SHARED_SECRET
from hsm.pkcs11.token import Pkcs11Token

#: What the binding writes into a template by itself.
WRITTEN: Final = (Attribute.CLASS, Attribute.KEY_TYPE, Attribute.VALUE_LEN)
TEMPLATE: Final[Mapping[Attribute, Any]] = {
    name: value for name, value in SHARED_SECRET.items() if name not in WRITTEN
}


class BindingToken(Pkcs11Token):
    """An HSM token that is open already, of which each operation goes through the binding."""

    @classmethod
    def over(cls, hsm_token: Pkcs11Token) -> Self:
        """Use the session of *hsm_token*."""
        return cls(
            hsm_token._library,  # noqa: SLF001 - it is the same HSM token
            hsm_token._session,  # noqa: SLF001 - as above
            hsm_token._calls,  # noqa: SLF001 - as above
            hsm_token._settings,  # noqa: SLF001 - as above
        )

    def encrypt_block(self, label: KeyLabel, block: bytes) -> bytes:
        """Encipher one 16-byte block with AES."""
        return bytes(self._key(label).encrypt(block, mechanism=Mechanism.AES_ECB))

    def decrypt_block(self, label: KeyLabel, block: bytes) -> bytes:
        """Decipher one 16-byte block with AES."""
        return bytes(self._key(label).decrypt(block, mechanism=Mechanism.AES_ECB))

    def encrypt_cbc(self, label: KeyLabel, iv: bytes, data: bytes) -> bytes:
        """Encipher with AES in CBC mode."""
        mode = Mechanism.AES_CBC
        return bytes(self._key(label).encrypt(data, mechanism=mode, mechanism_param=iv))

    def encrypt_gcm(self, label: KeyLabel, nonce: bytes, plaintext: bytes) -> bytes:
        """Encipher with AES-GCM."""
        given = GCMParams(nonce=nonce, tag_bits=8 * GCM_TAG_BYTES)
        mode = Mechanism.AES_GCM
        return bytes(self._key(label).encrypt(plaintext, mechanism=mode, mechanism_param=given))

    def decrypt_gcm(self, label: KeyLabel, nonce: bytes, ciphertext: bytes) -> bytes:
        """Decipher with AES-GCM."""
        given = GCMParams(nonce=nonce, tag_bits=8 * GCM_TAG_BYTES)
        mode = Mechanism.AES_GCM
        return bytes(self._key(label).decrypt(ciphertext, mechanism=mode, mechanism_param=given))

    def mac(self, label: KeyLabel, data: bytes) -> bytes:
        """Make a 16-byte AES-CMAC."""
        return bytes(self._key(label).sign(data, mechanism=Mechanism.AES_CMAC))

    def agree(self, label: KeyLabel, point: Point, other_info: bytes) -> bytes:
        """Derive a 32-byte content key; the shared secret stays in the HSM token."""
        shared_secret = self._key(label).derive_key(
            KeyType.GENERIC_SECRET,
            256,
            mechanism=Mechanism.ECDH1_DERIVE,
            mechanism_param=(KDF.NULL, None, point.uncompressed),
            template=dict(TEMPLATE),
        )
        parts = iter((CONCAT_KDF_FIRST_ROUND, shared_secret, other_info))
        digest = bytes(self._session.digest(parts, mechanism=Mechanism.SHA256))
        shared_secret.destroy()
        return digest

    def sign(self, label: KeyLabel, digest: bytes) -> bytes:
        """Sign a 32-byte digest with ECDSA P-256."""
        return bytes(self._key(label).sign(digest, mechanism=Mechanism.ECDSA))

    def random(self, size_bytes: int) -> bytes:
        """Draw random bytes from the HSM token's generator."""
        return bytes(self._session.generate_random(size_bytes * 8))

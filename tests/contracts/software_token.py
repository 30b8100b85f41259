"""A Token without a device: keys in this process, arithmetic by the cryptography library.

It shows that the vault and its contract need no PKCS#11. A test that wants an HSM token to answer
wrongly makes a subclass of it.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.cmac import CMAC
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash

from crypto.emv import key_derivation
from crypto.jose.jwk import Point
from crypto.secret import Secret
from hsm.errors import CeremonyError, KeyMissing
from hsm.pkcs11.keys import OWN_ROLES, TDES_KINDS, KeyKind, KeyLabel
from tests.crypto.ciphers import aes_cbc, tdes_cbc, tdes_cmac, tdes_ecb, tdes_ecb_decrypt

AES_BYTES = 32


class SoftwareSessionKey:
    """A :class:`hsm.pkcs11.hsm_token.SessionKey`."""

    def __init__(self, key: bytes) -> None:
        self.encrypt = tdes_ecb(key)
        self.decrypt = tdes_ecb_decrypt(key)
        self.encrypt_cbc = tdes_cbc(key)
        self.mac = tdes_cmac(key)


class SoftwareToken:
    """A :class:`hsm.pkcs11.hsm_token.HsmToken` in memory, with the keys that *labels* names.

    Without *labels* it has the first generation of each role of our own; shared keys are imported.
    """

    def __init__(self, labels: Sequence[KeyLabel] | None = None) -> None:
        self.secrets: dict[KeyLabel, bytes] = {}
        self.kinds: dict[KeyLabel, KeyKind] = {}
        self.private: dict[KeyLabel, ec.EllipticCurvePrivateKey] = {}
        for label in [KeyLabel(role, 1) for role in OWN_ROLES] if labels is None else labels:
            self.generate(label)

    def labels(self) -> Sequence[KeyLabel]:
        return (*self.secrets, *self.private)

    def find_keys(self) -> None:
        """There are no other processes."""

    def is_as_expected(self, label: KeyLabel) -> bool:
        return label in self.labels()

    def encrypt_block(self, label: KeyLabel, block: bytes) -> bytes:
        encryptor = self._ecb(label).encryptor()
        return encryptor.update(block) + encryptor.finalize()

    def decrypt_block(self, label: KeyLabel, block: bytes) -> bytes:
        decryptor = self._ecb(label).decryptor()
        return decryptor.update(block) + decryptor.finalize()

    def encrypt_cbc(self, label: KeyLabel, iv: bytes, data: bytes) -> bytes:
        return aes_cbc(self._secret(label))(iv, data)

    def encrypt_gcm(self, label: KeyLabel, nonce: bytes, plaintext: bytes) -> bytes:
        return AESGCM(self._secret(label)).encrypt(nonce, plaintext, None)

    def decrypt_gcm(self, label: KeyLabel, nonce: bytes, ciphertext: bytes) -> bytes:
        return AESGCM(self._secret(label)).decrypt(nonce, ciphertext, None)

    def mac(self, label: KeyLabel, data: bytes) -> bytes:
        cmac = CMAC(algorithms.AES(self._secret(label)))
        cmac.update(data)
        return cmac.finalize()

    def tdes_encrypt(self, label: KeyLabel, data: bytes) -> bytes:
        return tdes_ecb(self._secret(label))(data)

    def tdes_decrypt(self, label: KeyLabel, data: bytes) -> bytes:
        return tdes_ecb_decrypt(self._secret(label))(data)

    def tdes_encrypt_cbc(self, label: KeyLabel, iv: bytes, data: bytes) -> bytes:
        return tdes_cbc(self._secret(label))(iv, data)

    def tdes_mac(self, label: KeyLabel, data: bytes) -> bytes:
        return tdes_cmac(self._secret(label))(data)

    @contextmanager
    def derived(self, label: KeyLabel, *data: bytes) -> Iterator[SoftwareSessionKey]:
        key = self._secret(label)
        for step in data:
            key = key_derivation.derive(step, tdes_ecb(key)).reveal()
        yield SoftwareSessionKey(key)

    def agree(self, label: KeyLabel, point: Point, other_info: bytes) -> bytes:
        z = self._private(label).exchange(ec.ECDH(), point.public_key())
        return ConcatKDFHash(hashes.SHA256(), 32, other_info).derive(z)

    def sign(self, label: KeyLabel, digest: bytes) -> bytes:
        algorithm = ec.ECDSA(Prehashed(hashes.SHA256()))
        r, s = decode_dss_signature(self._private(label).sign(digest, algorithm))
        return r.to_bytes(32) + s.to_bytes(32)

    def random(self, size_bytes: int) -> bytes:
        return os.urandom(size_bytes)

    def public_point(self, label: KeyLabel) -> Point:
        numbers = self._private(label).public_key().public_numbers()
        return Point(numbers.x.to_bytes(32), numbers.y.to_bytes(32))

    def kind(self, label: KeyLabel) -> KeyKind:
        return self.kinds[label]

    def check_value(self, label: KeyLabel) -> bytes:
        if self.kind(label) in TDES_KINDS:
            return self.tdes_encrypt(label, bytes(8))[:3]
        return self.encrypt_block(label, bytes(16))[:3]

    def attributes(self, label: KeyLabel) -> Mapping[str, bool]:
        return {"LOCAL": label in self.labels()}

    def generate(self, label: KeyLabel) -> None:
        self.kinds[label] = label.role.kind
        if label.role.kind is KeyKind.AES_256:
            self.secrets[label] = os.urandom(AES_BYTES)
        else:
            self.private[label] = ec.generate_private_key(ec.SECP256R1())

    def import_key(self, label: KeyLabel, kind: KeyKind, key: Secret[bytes]) -> None:
        if label in self.kinds:
            raise CeremonyError("the key is already on the token")
        self.kinds[label] = kind
        self.secrets[label] = key.reveal()

    def _ecb(self, label: KeyLabel) -> Cipher[modes.ECB]:
        return Cipher(algorithms.AES(self._secret(label)), modes.ECB())

    def _secret(self, label: KeyLabel) -> bytes:
        if label not in self.secrets:
            raise KeyMissing("a key is not on the token")
        return self.secrets[label]

    def _private(self, label: KeyLabel) -> ec.EllipticCurvePrivateKey:
        if label not in self.private:
            raise KeyMissing("a key is not on the token")
        return self.private[label]

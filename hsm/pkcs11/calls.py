"""The C functions that every request needs, on one session, without the binding.

The binding asks the module for the length of each result before it asks for the result, and makes
a class for each derived key. Here mechanisms and templates are laid out once, the size of a result
is known beforehand, and one that has another size is refused.
"""

import ctypes
from ctypes import addressof, byref, c_ulong, memset, sizeof
from functools import lru_cache
from typing import Any, Final

from pkcs11 import KDF, Mechanism

from hsm.errors import VaultUnavailable
from hsm.pkcs11.hsm_token import GCM_TAG_BYTES
from hsm.pkcs11.return_values import CKR_OK, name_of
from hsm.pkcs11.structures import (
    Ecdh1DeriveParams,
    FunctionList,
    GcmParams,
    KeyDerivationStringData,
    MechanismStruct,
    Template,
)

SPARE_BYTES: Final = 64
"""More room than a result needs: some devices want it, as for padding, before they begin."""
CONCAT_KDF_FIRST_ROUND: Final = b"\0\0\0\1"
SHA256_BYTES: Final = 32

AES_ECB: Final = MechanismStruct(Mechanism.AES_ECB)
AES_CMAC: Final = MechanismStruct(Mechanism.AES_CMAC)
DES3_ECB: Final = MechanismStruct(Mechanism.DES3_ECB)
DES3_CMAC: Final = MechanismStruct(Mechanism.DES3_CMAC)
ECDSA: Final = MechanismStruct(Mechanism.ECDSA)
_SHA256: Final = MechanismStruct(Mechanism.SHA256)


class Calls:
    """Calls on a session, which may have no other operation meanwhile. Used from one thread only.

    A key is a handle. Every method raises ``VaultUnavailable`` when the module refuses, whose
    message is the name of the binding's error, or when a result has another size than it must have.
    """

    def __init__(self, functions: FunctionList, session: int) -> None:
        self._session = c_ulong(session)
        # Read once: the list makes a new object of each function that is read.
        self._encrypt = (functions.encrypt_init, functions.encrypt)
        self._decrypt = (functions.decrypt_init, functions.decrypt)
        self._sign = (functions.sign_init, functions.sign)
        self._derive_key = functions.derive_key
        self._destroy_object = functions.destroy_object
        self._digest_init = functions.digest_init
        self._digest_update = functions.digest_update
        self._digest_key = functions.digest_key
        self._digest_final = functions.digest_final
        self._generate_random = functions.generate_random

    def encrypt(self, mechanism: MechanismStruct, key: int, data: bytes) -> bytes:
        """Encipher whole blocks."""
        return self._result(self._encrypt, mechanism, key, data, len(data))

    def decrypt(self, mechanism: MechanismStruct, key: int, data: bytes) -> bytes:
        """Decipher whole blocks."""
        return self._result(self._decrypt, mechanism, key, data, len(data))

    def encrypt_cbc(self, mechanism: Mechanism, key: int, iv: bytes, data: bytes) -> bytes:
        """Encipher whole blocks in CBC mode with AES or TDES."""
        parameter = _room_type(len(iv)).from_buffer_copy(iv)
        return self._result(self._encrypt, _with(mechanism, parameter), key, data, len(data))

    def encrypt_gcm(self, key: int, nonce: bytes, plaintext: bytes) -> bytes:
        """Encipher with AES-GCM and return the ciphertext and its 16-byte tag."""
        parameters = _gcm(nonce)
        mechanism = _with(Mechanism.AES_GCM, parameters)
        size_bytes = len(plaintext) + GCM_TAG_BYTES
        return self._result(self._encrypt, mechanism, key, plaintext, size_bytes)

    def decrypt_gcm(self, key: int, nonce: bytes, ciphertext: bytes) -> bytes:
        """Undo :meth:`encrypt_gcm`."""
        parameters = _gcm(nonce)
        mechanism = _with(Mechanism.AES_GCM, parameters)
        size_bytes = len(ciphertext) - GCM_TAG_BYTES
        return self._result(self._decrypt, mechanism, key, ciphertext, size_bytes)

    def sign(self, mechanism: MechanismStruct, key: int, data: bytes, size_bytes: int) -> bytes:
        """Make a MAC or a signature of *size_bytes*."""
        return self._result(self._sign, mechanism, key, data, size_bytes)

    def agree(self, key: int, point: bytes, other_info: bytes, template: Template) -> bytes:
        """Derive a 32-byte content key: ECDH, then one round of Concat KDF with SHA-256.

        Args:
            key: the private key.
            point: the public key of the other side, 65 bytes.
            other_info: the last input of the digest.
            template: of the shared secret, which stays in the HSM token.
        """
        parameters = Ecdh1DeriveParams(KDF.NULL, 0, None, len(point), point)
        shared_secret = self._derive(_with(Mechanism.ECDH1_DERIVE, parameters), key, template)
        try:
            return self._digest(shared_secret, other_info)
        finally:
            self.destroy(shared_secret.value)

    def derive_tdes(self, key: int, data: bytes, template: Template) -> int:
        """Derive a TDES key, which is *data* enciphered in ECB mode; return its handle."""
        parameters = KeyDerivationStringData(data, len(data))
        mechanism = _with(Mechanism.DES3_ECB_ENCRYPT_DATA, parameters)
        return self._derive(mechanism, key, template).value

    def destroy(self, key: int) -> None:
        """Destroy a key that was derived."""
        _check(self._destroy_object(self._session, c_ulong(key)))

    def random(self, size_bytes: int) -> bytes:
        """Draw random bytes."""
        room = _room_type(size_bytes)()
        _check(self._generate_random(self._session, room, c_ulong(size_bytes)))
        return room.raw

    def _result(
        self,
        functions: Any,  # noqa: ANN401 - ctypes has no type for what a prototype makes
        mechanism: MechanismStruct,
        key: int,
        data: bytes,
        size_bytes: int,
    ) -> bytes:
        """Begin an operation, and do it in one part; its result must have *size_bytes*."""
        initialize, run = functions
        size = size_bytes + SPARE_BYTES
        room, length = _room_type(size)(), c_ulong(size)
        try:
            _check(initialize(self._session, byref(mechanism), c_ulong(key)))
            _check(run(self._session, data, c_ulong(len(data)), room, byref(length)))
            return _read(room, length, size_bytes)
        finally:
            memset(room, 0, size)

    def _derive(self, mechanism: MechanismStruct, key: int, template: Template) -> c_ulong:
        derived = c_ulong()
        result = self._derive_key(
            *(self._session, byref(mechanism), c_ulong(key)),
            *(template.array, template.count, byref(derived)),
        )
        _check(result)
        return derived

    def _digest(self, shared_secret: c_ulong, other_info: bytes) -> bytes:
        """Digest what Concat KDF does."""
        session, first = self._session, CONCAT_KDF_FIRST_ROUND
        size = SHA256_BYTES + SPARE_BYTES
        room, length = _room_type(size)(), c_ulong(size)
        _check(self._digest_init(session, byref(_SHA256)))
        try:
            result = (
                self._digest_update(session, first, c_ulong(len(first)))
                or self._digest_key(session, shared_secret)
                or self._digest_update(session, other_info, c_ulong(len(other_info)))
            )
            # Always: an operation that stays open would be in the way of the next one.
            ended = self._digest_final(session, room, byref(length))
            _check(result or ended)
            return _read(room, length, SHA256_BYTES)
        finally:
            memset(room, 0, size)


def _check(result: int) -> None:
    if result != CKR_OK:
        raise VaultUnavailable(name_of(result))


def _read(room: Any, length: c_ulong, size_bytes: int) -> bytes:  # noqa: ANN401 - as above
    if length.value != size_bytes:
        raise VaultUnavailable("a result of the HSM token has a wrong length")
    result: bytes = room[:size_bytes]
    return result


@lru_cache(maxsize=64)
def _room_type(size_bytes: int) -> type[ctypes.Array[ctypes.c_char]]:
    """Return the type of a buffer; to make one costs as much as a token call."""
    return ctypes.c_char * size_bytes


def _gcm(nonce: bytes) -> GcmParams:
    return GcmParams(nonce, len(nonce), 8 * len(nonce), None, 0, 8 * GCM_TAG_BYTES)


def _with(
    mechanism: Mechanism, parameters: ctypes.Structure | ctypes.Array[ctypes.c_char]
) -> MechanismStruct:
    """Return a mechanism that points to *parameters*, of which the caller keeps hold."""
    return MechanismStruct(mechanism, addressof(parameters), sizeof(parameters))

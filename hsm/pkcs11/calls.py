"""The C functions that every request needs, on one session, without the binding.

The binding asks the module for the length of each result before it asks for the result, and makes
a class for each derived key. Here mechanisms and templates are laid out once, the size of a result
is known beforehand, and one that has another size is refused.
"""

import ctypes
from ctypes import addressof, byref, c_ulong, sizeof
from functools import lru_cache
from typing import Any, Final, TypeAlias

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
    MechanismWithIv,
    Template,
)

SPARE_BYTES: Final = 64
"""More room than a result needs: some devices want it, as for padding, before they begin."""
CONCAT_KDF_FIRST_ROUND: Final = b"\0\0\0\1"
SHA256_BYTES: Final = 32

Pointer: TypeAlias = Any
"""What ``byref`` returns, which keeps hold of what it points to."""
AES_ECB: Final[Pointer] = byref(MechanismStruct(Mechanism.AES_ECB))
AES_CMAC: Final[Pointer] = byref(MechanismStruct(Mechanism.AES_CMAC))
DES3_ECB: Final[Pointer] = byref(MechanismStruct(Mechanism.DES3_ECB))
DES3_CMAC: Final[Pointer] = byref(MechanismStruct(Mechanism.DES3_CMAC))
ECDSA: Final[Pointer] = byref(MechanismStruct(Mechanism.ECDSA))
_SHA256: Final[Pointer] = byref(MechanismStruct(Mechanism.SHA256))
_FIRST_ROUND_BYTES: Final = c_ulong(len(CONCAT_KDF_FIRST_ROUND))


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
        self._gcm_params = GcmParams(tag_bits=8 * GCM_TAG_BYTES)
        self._gcm = _with(Mechanism.AES_GCM, self._gcm_params)
        self._ecdh_params = Ecdh1DeriveParams(kdf=KDF.NULL)
        self._ecdh = _with(Mechanism.ECDH1_DERIVE, self._ecdh_params)

    def encrypt(self, mechanism: Pointer, key: int, data: bytes) -> bytes:
        """Encipher whole blocks."""
        return self._result(self._encrypt, mechanism, key, data, len(data))

    def decrypt(self, mechanism: Pointer, key: int, data: bytes) -> bytes:
        """Decipher whole blocks."""
        return self._result(self._decrypt, mechanism, key, data, len(data))

    def encrypt_cbc(self, mechanism: Mechanism, key: int, iv: bytes, data: bytes) -> bytes:
        """Encipher whole blocks in CBC mode with AES or TDES."""
        cbc = byref(MechanismWithIv(mechanism, iv, len(iv)))
        return self._result(self._encrypt, cbc, key, data, len(data))

    def encrypt_gcm(self, key: int, nonce: bytes, plaintext: bytes) -> bytes:
        """Encipher with AES-GCM and return the ciphertext and its 16-byte tag."""
        self._take_nonce(nonce)
        size_bytes = len(plaintext) + GCM_TAG_BYTES
        return self._result(self._encrypt, self._gcm, key, plaintext, size_bytes)

    def decrypt_gcm(self, key: int, nonce: bytes, ciphertext: bytes) -> bytes:
        """Undo :meth:`encrypt_gcm`."""
        self._take_nonce(nonce)
        size_bytes = len(ciphertext) - GCM_TAG_BYTES
        return self._result(self._decrypt, self._gcm, key, ciphertext, size_bytes)

    def sign(self, mechanism: Pointer, key: int, data: bytes, size_bytes: int) -> bytes:
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
        self._ecdh_params.public_point, self._ecdh_params.public_point_bytes = point, len(point)
        shared_secret = self._derive(self._ecdh, key, template)
        try:
            return self._digest(shared_secret, other_info)
        finally:
            _check(self._destroy_object(self._session, shared_secret))

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
        try:
            _check(self._generate_random(self._session, room, c_ulong(size_bytes)))
            return room.raw
        finally:
            room.raw = bytes(size_bytes)

    def _take_nonce(self, nonce: bytes) -> None:
        parameters = self._gcm_params
        parameters.nonce, parameters.nonce_bytes = nonce, len(nonce)
        parameters.nonce_bits = 8 * len(nonce)

    def _result(
        self,
        functions: Any,  # noqa: ANN401 - ctypes has no type for what a prototype makes
        mechanism: Pointer,
        key: int,
        data: bytes,
        size_bytes: int,
    ) -> bytes:
        """Begin an operation, and do it in one part; its result must have *size_bytes*."""
        initialize, run = functions
        size = size_bytes + SPARE_BYTES
        room, length = _room_type(size)(), c_ulong(size)
        try:
            _check(
                initialize(self._session, mechanism, c_ulong(key))
                or run(self._session, data, c_ulong(len(data)), room, byref(length))
            )
            return _read(room, length, size_bytes)
        finally:
            room.raw = bytes(size)

    def _derive(self, mechanism: Pointer, key: int, template: Template) -> c_ulong:
        derived = c_ulong()
        given = (self._session, mechanism, c_ulong(key), template.array, template.count)
        _check(self._derive_key(*given, byref(derived)))
        return derived

    def _digest(self, shared_secret: c_ulong, other_info: bytes) -> bytes:
        """Digest what Concat KDF does."""
        session = self._session
        size = SHA256_BYTES + SPARE_BYTES
        room, length = _room_type(size)(), c_ulong(size)
        try:
            result = (
                self._digest_init(session, _SHA256)
                or self._digest_update(session, CONCAT_KDF_FIRST_ROUND, _FIRST_ROUND_BYTES)
                or self._digest_key(session, shared_secret)
                or self._digest_update(session, other_info, c_ulong(len(other_info)))
                or self._digest_final(session, room, byref(length))
            )
            if result != CKR_OK:
                # An operation that stays open would be in the way of the next one.
                self._digest_final(session, room, byref(length))
            _check(result)
            return _read(room, length, SHA256_BYTES)
        finally:
            room.raw = bytes(size)


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


def _with(mechanism: Mechanism, parameters: ctypes.Structure) -> Pointer:
    """Point to a mechanism with *parameters*, of which the caller keeps hold."""
    return byref(MechanismStruct(mechanism, addressof(parameters), sizeof(parameters)))

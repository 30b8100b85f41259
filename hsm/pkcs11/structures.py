"""The structures that a PKCS#11 module takes, as C lays them out on 64-bit Linux.

``CK_ULONG`` has 8 bytes there, and nothing is packed. Sources: PKCS#11 2.40, base specification
(3.4 to 3.6) and current mechanisms.
"""

import ctypes
from collections.abc import Mapping
from ctypes import addressof, c_char_p, c_ubyte, c_ulong, c_void_p, sizeof
from typing import Final

from pkcs11 import Attribute

#: Every function returns a ``CK_RV``. Its arguments are not declared, since to check them again at
#: each call costs as much as the call; so each must be an object of ctypes, bytes or None: a bare
#: ``int`` would be cut to 32 bits.
Function: Final = ctypes.CFUNCTYPE(c_ulong)


class FunctionList(ctypes.Structure):
    """``CK_FUNCTION_LIST`` (3.6) up to ``C_GenerateRandom``, with what is called here."""

    _fields_ = (
        ("version", c_ubyte * 2),
        ("initialize", Function),
        ("finalize", Function),
        ("_from_get_info", c_void_p * 20),
        ("destroy_object", Function),
        ("_from_get_object_size", c_void_p * 6),
        ("encrypt_init", Function),
        ("encrypt", Function),
        ("_from_encrypt_update", c_void_p * 2),
        ("decrypt_init", Function),
        ("decrypt", Function),
        ("_from_decrypt_update", c_void_p * 2),
        ("digest_init", Function),
        ("_digest", c_void_p),
        ("digest_update", Function),
        ("digest_key", Function),
        ("digest_final", Function),
        ("sign_init", Function),
        ("sign", Function),
        ("_from_sign_update", c_void_p * 18),
        ("derive_key", Function),
        ("_seed_random", c_void_p),
        ("generate_random", Function),
    )


class InitializeArgs(ctypes.Structure):
    """``CK_C_INITIALIZE_ARGS`` (3.4)."""

    _fields_ = (
        ("create_mutex", c_void_p),
        ("destroy_mutex", c_void_p),
        ("lock_mutex", c_void_p),
        ("unlock_mutex", c_void_p),
        ("flags", c_ulong),
        ("reserved", c_char_p),
    )


class MechanismStruct(ctypes.Structure):
    """``CK_MECHANISM`` (3.5). What *parameter* points to must live as long as this."""

    _fields_ = (("mechanism", c_ulong), ("parameter", c_void_p), ("length", c_ulong))


class MechanismWithIv(ctypes.Structure):
    """``CK_MECHANISM`` of a mode whose parameter is an IV."""

    _fields_ = (("mechanism", c_ulong), ("iv", c_char_p), ("length", c_ulong))


class GcmParams(ctypes.Structure):
    """``CK_GCM_PARAMS`` (errata 1, 2.12.3)."""

    _fields_ = (
        ("nonce", c_char_p),
        ("nonce_bytes", c_ulong),
        ("nonce_bits", c_ulong),
        ("associated_data", c_char_p),
        ("associated_data_bytes", c_ulong),
        ("tag_bits", c_ulong),
    )


class Ecdh1DeriveParams(ctypes.Structure):
    """``CK_ECDH1_DERIVE_PARAMS`` (2.3.7)."""

    _fields_ = (
        ("kdf", c_ulong),
        ("shared_data_bytes", c_ulong),
        ("shared_data", c_char_p),
        ("public_point_bytes", c_ulong),
        ("public_point", c_char_p),
    )


class KeyDerivationStringData(ctypes.Structure):
    """``CK_KEY_DERIVATION_STRING_DATA`` (2.43.2)."""

    _fields_ = (("data", c_char_p), ("length", c_ulong))


class AttributeStruct(ctypes.Structure):
    """``CK_ATTRIBUTE`` (3.3)."""

    _fields_ = (("type", c_ulong), ("value", c_void_p), ("length", c_ulong))


class Template:
    """The attributes of a new key, laid out once: ``CK_BBOOL`` and ``CK_ULONG`` only."""

    def __init__(self, attributes: Mapping[Attribute, bool | int]) -> None:
        # The array points to these.
        self._values = [
            c_ubyte(value) if isinstance(value, bool) else c_ulong(value)
            for value in attributes.values()
        ]
        pairs = zip(attributes, self._values, strict=True)
        entries = [AttributeStruct(name, addressof(value), sizeof(value)) for name, value in pairs]
        self.array: Final = (AttributeStruct * len(entries))(*entries)
        self.count: Final = c_ulong(len(entries))

"""The PKCS#11 attributes of each key, in full: the binding's defaults allow everything."""

import struct
from collections.abc import Mapping, Sequence
from typing import Final, Never

from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass
from pkcs11.attributes import AttributeMapper
from pkcs11.exceptions import AttributeTypeInvalid

from hsm.pkcs11.keys import AES_KINDS, KEY_BYTES, KeyKind, KeyRole, Usage
from hsm.pkcs11.structures import Template

#: The attributes of every secret and private key of ours, beside its one usage.
PROTECTION: Final[Mapping[Attribute, bool]] = {
    Attribute.TOKEN: True,
    Attribute.PRIVATE: True,
    Attribute.SENSITIVE: True,
    Attribute.EXTRACTABLE: False,
    Attribute.MODIFIABLE: False,
    Attribute.COPYABLE: False,
}
#: Not every device knows these, or stores them. Without the second a key is only less well kept:
#: another usage than that of its role is refused all the same.
MAY_BE_UNKNOWN: Final = frozenset({Attribute.COPYABLE, Attribute.ALLOWED_MECHANISMS})
#: Attributes that the device sets itself: true for a key that was made in it and never left it,
#: false for one that was imported.
BIRTH: Final[Mapping[Attribute, bool]] = {
    Attribute.LOCAL: True,
    Attribute.ALWAYS_SENSITIVE: True,
    Attribute.NEVER_EXTRACTABLE: True,
}
USAGE_ATTRIBUTES: Final[Mapping[Usage, frozenset[Attribute]]] = {
    Usage.ENCRYPT: frozenset({Attribute.ENCRYPT, Attribute.DECRYPT}),
    Usage.MAC: frozenset({Attribute.SIGN}),
    Usage.AGREE: frozenset({Attribute.DERIVE}),
    Usage.SIGN: frozenset({Attribute.SIGN}),
    Usage.ENCRYPT_ONLY: frozenset({Attribute.ENCRYPT}),
    Usage.DECRYPT: frozenset({Attribute.DECRYPT, Attribute.DERIVE}),
    Usage.DERIVE: frozenset({Attribute.DERIVE}),
}
SECRET_USAGES: Final = (
    Attribute.ENCRYPT,
    Attribute.DECRYPT,
    Attribute.SIGN,
    Attribute.VERIFY,
    Attribute.WRAP,
    Attribute.UNWRAP,
    Attribute.DERIVE,
)
PRIVATE_USAGES: Final = (
    Attribute.DECRYPT,
    Attribute.SIGN,
    Attribute.UNWRAP,
    Attribute.DERIVE,
)
PUBLIC_USAGES: Final = (Attribute.ENCRYPT, Attribute.VERIFY, Attribute.WRAP, Attribute.DERIVE)
#: The shared secret of an ECDH: it can be digested in the HSM token and used for nothing else.
SHARED_SECRET: Final[Mapping[Attribute, bool | int]] = {
    Attribute.CLASS: ObjectClass.SECRET_KEY,
    Attribute.KEY_TYPE: KeyType.GENERIC_SECRET,
    Attribute.VALUE_LEN: 32,
    Attribute.TOKEN: False,
    Attribute.PRIVATE: True,
    Attribute.SENSITIVE: True,
    Attribute.EXTRACTABLE: False,
    **dict.fromkeys(SECRET_USAGES, False),
}
#: What a key of ECDH must hold its secrets to, whoever has them made: ``CKA_DERIVE_TEMPLATE``.
HELD_SECRET: Final = Template({Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False})
#: Every derived TDES key: a card key derives, a session key makes a MAC, by CMAC or by
#: enciphering, or deciphers a block. It has no length: that of its type is the only one, and a
#: device may refuse to be told.
DERIVED_KEY: Final[Mapping[Attribute, bool | int]] = {
    Attribute.CLASS: ObjectClass.SECRET_KEY,
    Attribute.KEY_TYPE: KeyType.DES2,
    Attribute.TOKEN: False,
    Attribute.PRIVATE: True,
    Attribute.SENSITIVE: True,
    Attribute.EXTRACTABLE: False,
    **{
        name: name in (Attribute.ENCRYPT, Attribute.DECRYPT, Attribute.SIGN, Attribute.DERIVE)
        for name in SECRET_USAGES
    },
    # SoftHSM reads in this order, and takes nothing more for a key that is not modifiable.
    Attribute.COPYABLE: False,
    Attribute.MODIFIABLE: False,
}
KEY_TYPES: Final[Mapping[KeyKind, KeyType]] = {
    **dict.fromkeys(AES_KINDS, KeyType.AES),
    KeyKind.TDES_2KEY: KeyType.DES2,
    KeyKind.TDES_3KEY: KeyType.DES3,
    KeyKind.EC_P256: KeyType.EC,
}
#: A kind by its type and, where the type has several, its size in bytes.
KINDS: Final[Mapping[tuple[KeyType, int | None], KeyKind]] = {
    (key_type, KEY_BYTES[kind] if kind in AES_KINDS else None): kind
    for kind, key_type in KEY_TYPES.items()
}


def attribute_mapper() -> AttributeMapper:
    """Let the binding write the two attributes of ours that it does not know, and read the first.

    Its value is a sequence of mechanisms, an array of ``CK_MECHANISM_TYPE`` (PKCS#11 2.40, 4.8);
    that of the second is an array of ``CK_ATTRIBUTE`` (4.9), which points to what it does not hold.
    """
    mapper = AttributeMapper()
    mapper.register_handler(Attribute.ALLOWED_MECHANISMS, _pack_mechanisms, _unpack_mechanisms)
    mapper.register_handler(Attribute.DERIVE_TEMPLATE, _pack_template, _no_template)
    return mapper


def _pack_mechanisms(mechanisms: Sequence[Mechanism]) -> bytes:
    return struct.pack(f"{len(mechanisms)}L", *mechanisms)


def _unpack_mechanisms(data: bytes) -> tuple[int, ...]:
    return struct.unpack(f"{len(data) // struct.calcsize('L')}L", data)


def _pack_template(template: Template) -> bytes:
    return bytes(template.array)


def _no_template(_: bytes) -> Never:
    # The device would write to wherever the binding's array points.
    raise AttributeTypeInvalid


def private_template(role: KeyRole) -> dict[Attribute, bool]:
    """Return every attribute of a secret key, or of the private half of an EC key, of *role*."""
    return {**PROTECTION, **{name: name in USAGE_ATTRIBUTES[role.usage] for name in usages(role)}}


def public_template(role: KeyRole) -> dict[Attribute, bool]:
    """Return every attribute of the public half of an EC key of *role*."""
    return {
        Attribute.TOKEN: True,
        Attribute.PRIVATE: False,
        Attribute.MODIFIABLE: False,
        **{name: name is Attribute.VERIFY and role.usage is Usage.SIGN for name in PUBLIC_USAGES},
    }


def usages(role: KeyRole) -> tuple[Attribute, ...]:
    """List the usage attributes that a key of *role* has, whether true or false."""
    return PRIVATE_USAGES if role.kind is KeyKind.EC_P256 else SECRET_USAGES

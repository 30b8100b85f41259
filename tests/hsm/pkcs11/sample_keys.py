"""Roles, labels and keys that the tests of a PKCS#11 token share."""

from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from pkcs11 import Attribute, PKCS11Error, _pkcs11

from crypto.jose.jwe import other_info
from crypto.jose.jwk import Point
from hsm.pkcs11.keys import OWN_ROLES, KeyKind, KeyLabel, KeyRole, Usage
from hsm.pkcs11.token import Pkcs11Token

binding: Any = _pkcs11  # compiled without types
AES_ROLES = [role for role in OWN_ROLES if role.kind is KeyKind.AES_256]
EC_ROLES = [role for role in OWN_ROLES if role.kind is KeyKind.EC_P256]
ENCRYPT_ROLES = [role for role in OWN_ROLES if role.usage is Usage.ENCRYPT]
MAC_ROLES = [role for role in OWN_ROLES if role.usage is Usage.MAC]
AGREE_ROLES = [role for role in OWN_ROLES if role.usage is Usage.AGREE]
INFO = other_info("A256GCM", b"Alice", b"Bob", 256)

# PKCS#11 2.40, table 6 and 2.3.3
KEY_FUNCTION_NOT_PERMITTED = "0x68"
ACTION_PROHIBITED = "0x1b"

NEVER_LEAVES = {
    "TOKEN": True,
    "PRIVATE": True,
    "SENSITIVE": True,
    "EXTRACTABLE": False,
    "MODIFIABLE": False,
    "COPYABLE": False,
}
"""Attributes of every key: nobody reads, copies or changes it."""


def label_of(role: KeyRole) -> KeyLabel:
    return KeyLabel(role, 1)


def read_back(key: Any, names: dict[str, bool]) -> dict[str, bool]:  # noqa: ANN401 - the binding's
    return {name: key[Attribute[name]] for name in names}


def forced(key: Any, mixin: type) -> Any:  # noqa: ANN401 - the binding's
    """Give a key a method that the binding leaves out: what refuses must be the HSM token."""
    return type("Forced", (type(key).__bases__[0], mixin, binding.Object), {})(key.wrapper)


def software_key(number: int) -> tuple[ec.EllipticCurvePrivateKey, Point]:
    key = ec.derive_private_key(number, ec.SECP256R1())
    numbers = key.public_key().public_numbers()
    return key, Point(numbers.x.to_bytes(32), numbers.y.to_bytes(32))


def session_objects(hsm_token: Pkcs11Token) -> int:
    return len(session_keys(hsm_token))


def session_keys(hsm_token: Pkcs11Token) -> dict[int, Any]:
    """Find the keys that are there for a request only, by their handles."""
    found = hsm_token._session.get_objects({Attribute.TOKEN: False})
    return {key.handle: key for key in found}


def read_or_refusal(key: Any, name: str) -> object:  # noqa: ANN401 - the binding's
    """Read an attribute, or return the error with which the HSM token refuses."""
    try:
        return key[Attribute[name]]
    except PKCS11Error as error:
        return type(error)

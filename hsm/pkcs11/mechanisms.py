"""Which mechanisms of PKCS#11 the keys of each role need, and whether a module has them.

A module's list is not all that it can do: NSS softoken does not list ``CKM_SHA256`` in the slot of
its keys, and does it. So what is not listed is tried, with a key of the session; and once, so is
what no list tells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

from pkcs11 import Mechanism
from pkcs11.exceptions import PKCS11Error

from crypto.jose.jwe import other_info
from hsm.errors import KeyMissing, MechanismMissing, VaultUnavailable
from hsm.pkcs11.keys import AES_KINDS, OWN_ROLES, KeyKind, KeyLabel, KeyRole, Usage

if TYPE_CHECKING:
    from hsm.pkcs11.token import Pkcs11Token

TEMPORARY_GENERATION: Final = 999_999
"""Of keys that are made to try something; no ceremony comes that far."""
NO_ISSUER: Final = "----------"
NONCE: Final = bytes(12)
DIGEST: Final = bytes(32)
INFO: Final = other_info("A256GCM", b"", b"", 256)
_AES: Final[Mapping[Usage, tuple[Mechanism, ...]]] = {
    Usage.ENCRYPT: (Mechanism.AES_ECB, Mechanism.AES_CBC),
    Usage.MAC: (Mechanism.AES_CMAC,),
    Usage.ENCRYPT_ONLY: (Mechanism.AES_ECB, Mechanism.AES_CBC),
}
_GCM_ROLES: Final = frozenset({KeyRole.RECORD, KeyRole.VALUES, KeyRole.TZPK})
_TDES: Final[Mapping[Usage, tuple[Mechanism, ...]]] = {
    Usage.ENCRYPT: (Mechanism.DES3_ECB,),
    Usage.MAC: (Mechanism.DES3_CMAC,),
    Usage.ENCRYPT_ONLY: (Mechanism.DES3_ECB, Mechanism.DES3_CBC),
    Usage.DECRYPT: (Mechanism.DES3_ECB, Mechanism.DES3_ECB_ENCRYPT_DATA),
    Usage.DERIVE: (Mechanism.DES3_ECB_ENCRYPT_DATA,),
}
_EC: Final[Mapping[Usage, tuple[Mechanism, ...]]] = {
    Usage.AGREE: (Mechanism.ECDH1_DERIVE,),
    Usage.SIGN: (Mechanism.ECDSA,),
}
#: What is used with that which such a key derives.
_DERIVED: Final[Mapping[Usage, tuple[Mechanism, ...]]] = {
    Usage.AGREE: (Mechanism.SHA256,),
    # Or TDES-CMAC, where a profile says so.
    Usage.DERIVE: (Mechanism.DES3_CBC,),
}

#: What no list of mechanisms tells, by the one of the roles that need it for which it is tried.
_UNTOLD: Final[Mapping[KeyRole, str]] = {KeyRole.D1: "C_DigestKey of a secret made by ECDH"}
#: Errors of a device that may do it another time.
_OF_THE_DEVICE: Final = frozenset(
    {
        *("DeviceError", "DeviceMemory", "DeviceRemoved", "HostMemory"),
        *("SessionClosed", "SessionHandleInvalid", "TokenNotPresent", "TokenNotRecognised"),
    }
)


def needed(role: KeyRole, kind: KeyKind) -> tuple[Mechanism, ...]:
    """Name what a key of *role* and *kind*, and what it derives, is used with."""
    return (*allowed(role, kind), *_DERIVED.get(role.usage, ()))


def allowed(role: KeyRole, kind: KeyKind) -> tuple[Mechanism, ...]:
    """Name what a key of *role* and *kind* itself is used with: its ``CKA_ALLOWED_MECHANISMS``."""
    if role in _GCM_ROLES:
        return (*_AES[role.usage], Mechanism.AES_GCM)
    if kind is KeyKind.EC_P256:
        return _EC[role.usage]
    return (_AES if kind in AES_KINDS else _TDES)[role.usage]


def require(hsm_token: Pkcs11Token) -> None:
    """Refuse a module that lacks what our own keys need, or the shared keys that are there.

    Raises:
        MechanismMissing: it does; says how the use of a key failed.
        VaultUnavailable: it does not answer.
    """
    kinds = {(role, role.kind) for role in OWN_ROLES}
    kinds |= {
        (label.role, hsm_token.kind(label)) for label in hsm_token.labels() if label.role.per_issuer
    }
    require_for(hsm_token, kinds)


def require_for(hsm_token: Pkcs11Token, kinds: Iterable[tuple[KeyRole, KeyKind]]) -> None:
    """Refuse a module that lacks what keys of these roles and kinds need.

    Raises:
        MechanismMissing, VaultUnavailable: as :func:`require` says.
    """
    listed = hsm_token.mechanisms()
    for role, kind in sorted(kinds, key=str):
        missing = [mechanism for mechanism in needed(role, kind) if mechanism not in listed]
        names = ", ".join(f"CKM_{mechanism.name}" for mechanism in missing) or _UNTOLD.get(role)
        if names and (found := fault(hsm_token, role, kind)) is not None:
            raise (
                VaultUnavailable(found) if found in _OF_THE_DEVICE else _missing(names, role, found)
            )


def fault(hsm_token: Pkcs11Token, role: KeyRole, kind: KeyKind) -> str | None:
    """Use a new key of this session in every way of its role; name the error, None: there is none.

    No other process of this machine may make keys meanwhile.
    """
    try:
        with _temporary(hsm_token, role, kind) as label:
            _use(hsm_token, label, kind)
    except (VaultUnavailable, PKCS11Error) as error:
        return str(error) or type(error).__name__
    return None


@contextmanager
def _temporary(hsm_token: Pkcs11Token, role: KeyRole, kind: KeyKind) -> Iterator[KeyLabel]:
    label = KeyLabel(role, TEMPORARY_GENERATION, NO_ISSUER if role.per_issuer else None)
    try:
        hsm_token.make_temporary(label, kind)
        yield label
    finally:
        hsm_token.destroy(label)


def _use(hsm_token: Pkcs11Token, label: KeyLabel, kind: KeyKind) -> None:
    """Use a key; what comes back is compared where the key can undo it.

    Raises:
        VaultUnavailable: it cannot be used, or not undone.
    """
    block = bytes(range(16))
    if kind is KeyKind.EC_P256:
        if label.role.usage is Usage.SIGN:
            hsm_token.sign(label, DIGEST)
        else:
            hsm_token.agree(label, hsm_token.public_point(label), INFO)
    elif kind in AES_KINDS:
        _use_aes(hsm_token, label, block)
    else:
        _use_tdes(hsm_token, label, block)


def _use_aes(hsm_token: Pkcs11Token, label: KeyLabel, block: bytes) -> None:
    if label.role.usage is Usage.MAC:
        hsm_token.mac(label, block)
        return
    encrypt, decrypt = hsm_token.encrypt_block, hsm_token.decrypt_block
    if label.role.usage is Usage.ENCRYPT_ONLY:
        # What the key cannot undo is compared with what it makes in the other mode.
        if encrypt(label, block) != hsm_token.encrypt_cbc(label, bytes(len(block)), block):
            raise KeyMissing("two modes do not encipher alike")
        return
    _round_trip(partial(encrypt, label), partial(decrypt, label), block)
    # One block in CBC mode is one in ECB mode where the IV is zeros.
    _round_trip(
        partial(hsm_token.encrypt_cbc, label, bytes(len(block))), partial(decrypt, label), block
    )
    if label.role in _GCM_ROLES:
        _round_trip(
            partial(hsm_token.encrypt_gcm, label, NONCE),
            partial(hsm_token.decrypt_gcm, label, NONCE),
            block,
        )


def _use_tdes(hsm_token: Pkcs11Token, label: KeyLabel, block: bytes) -> None:
    match label.role.usage:
        case Usage.MAC:
            hsm_token.tdes_mac(label, block)
        case Usage.ENCRYPT:
            _round_trip(
                partial(hsm_token.tdes_encrypt, label),
                partial(hsm_token.tdes_decrypt, label),
                block,
            )
        case Usage.ENCRYPT_ONLY:
            hsm_token.tdes_encrypt(label, block)
            hsm_token.tdes_encrypt_cbc(label, bytes(8), block)
        case Usage.DECRYPT:
            hsm_token.tdes_decrypt(label, block)
            with hsm_token.derived(label, block, block) as key:
                key.decrypt(block)
        case _:
            with hsm_token.derived(label, block, block) as key:
                key.encrypt_cbc(bytes(8), block)


def _round_trip(
    there: Callable[[bytes], bytes], back: Callable[[bytes], bytes], block: bytes
) -> None:
    if back(there(block)) != block:
        raise KeyMissing("what was enciphered is not deciphered")


def _missing(names: str, role: KeyRole, found: str) -> MechanismMissing:
    """Say what is missing, for whom, and how that was found; no value of a key."""
    return MechanismMissing(
        f"the PKCS#11 module has no {names}, which keys of role {role} need: {found}"
    )

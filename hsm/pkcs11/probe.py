"""What an HSM token can do, tried with keys of one session, and for which faces and profiles.

Nothing of it stays on the HSM token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from hsm.pkcs11 import mechanisms
from hsm.pkcs11.keys import AES_KINDS, OWN_ROLES, SHARED_ROLES, TDES_KINDS, KeyKind, KeyRole
from hsm.pkcs11.token import Pkcs11Token

_OWN: Final = tuple((role, role.kind) for role in OWN_ROLES)
_BOTH: Final = (KeyKind.AES_256, KeyKind.TDES_2KEY)


def _of(role: KeyRole, kinds: Sequence[KeyKind]) -> tuple[tuple[KeyRole, KeyKind], ...]:
    return tuple((role, kind) for kind in kinds)


def _two_key(*roles: KeyRole) -> tuple[tuple[KeyRole, KeyKind], ...]:
    return tuple((role, KeyKind.TDES_2KEY) for role in roles)


#: What an issuer may want, and the keys that it takes beside our own.
PROFILES: Final[Mapping[str, Sequence[tuple[KeyRole, KeyKind]]]] = {
    "faces d1, hosted and pincontrol": _OWN,
    "key blocks of version B": _of(KeyRole.BLOCK_PROTECTION, TDES_KINDS),
    "key blocks of version D": _of(KeyRole.BLOCK_PROTECTION, AES_KINDS),
    "ISO-0 under a zone key (zpk-tdes)": _of(KeyRole.ZPK, TDES_KINDS),
    "ISO-4 under a zone key (zpk-aes)": _of(KeyRole.ZPK_AES, AES_KINDS),
    "ISO-1 under a server's zone key": _two_key(KeyRole.ZPK_SERVER),
    "SECCOS PIN blocks": _two_key(KeyRole.SECCOS_PIN),
    "SECCOS PRW by aes-cmac": _of(KeyRole.SECCOS_PRW, _BOTH[:1]),
    "SECCOS PRW by tdes-cmac": _of(KeyRole.SECCOS_PRW, _BOTH[1:]),
    "SECCOS PRW by iso9797-alg3": _two_key(
        KeyRole.SECCOS_PRW_RETAIL, KeyRole.SECCOS_PRW_RETAIL_LEFT
    ),
    "SECCOS MAC by iso9797-alg3": _two_key(KeyRole.SECCOS_MAC, KeyRole.SECCOS_MAC_LEFT),
    "SECCOS MAC by aes-cmac": _of(KeyRole.SECCOS_MAC_CMAC, _BOTH[:1]),
    "SECCOS MAC by tdes-cmac": _of(KeyRole.SECCOS_MAC_CMAC, _BOTH[1:]),
    "SECCOS MAC by iso9797-alg3, session keys": _two_key(KeyRole.SECCOS_MAC_MASTER),
    "SECCOS MAC by tdes-cmac, session keys": _two_key(
        KeyRole.SECCOS_MAC_MASTER, KeyRole.SECCOS_MAC_CMAC
    ),
    "PVV": _two_key(KeyRole.PVK),
    "IBM 3624 offsets": _two_key(KeyRole.PVK_3624),
    "PRW of the issuer's own": _of(KeyRole.PRW, (KeyKind.AES_256,)),
    "ISO-0 for a bureau": _of(KeyRole.BUREAU_PIN, TDES_KINDS),
    "ISO-4 for a bureau": _of(KeyRole.BUREAU_PIN_AES, AES_KINDS),
    "MAC for a bureau by aes-cmac": _of(KeyRole.BUREAU_MAC, AES_KINDS),
    "MAC for a bureau by iso9797-alg3": _two_key(
        KeyRole.BUREAU_MAC_RETAIL, KeyRole.BUREAU_MAC_RETAIL_LEFT
    ),
    "EMV scripts": _two_key(KeyRole.SMC, KeyRole.SMI),
}


@dataclass(frozen=True, slots=True)
class Probe:
    """What was found.

    *faults* has the error of each role and kind of key that was tried, None where there is none;
    *unlisted* the mechanisms that the module does not list though keys need them.
    """

    faults: Mapping[tuple[KeyRole, KeyKind], str | None]
    unlisted: Sequence[str]
    unknown_attributes: Sequence[str]

    def why_not(self, profile: str) -> Sequence[str]:
        """Say for which keys of a profile there is a fault, and which; empty: it can be had."""
        found = (
            (role, kind, self.faults[role, kind]) for role, kind in (*_OWN, *PROFILES[profile])
        )
        return [
            f"{role} {kind.value}: {fault}" for role, kind, fault in dict.fromkeys(found) if fault
        ]


def probe(hsm_token: Pkcs11Token) -> Probe:
    """Try every role with every kind of key that it takes.

    Raises:
        VaultUnavailable: the HSM token does not answer.
    """
    kinds = [(role, kind) for role in (*OWN_ROLES, *SHARED_ROLES) for kind in role.kinds]
    listed = hsm_token.mechanisms()
    needed = {mechanism for role, kind in kinds for mechanism in mechanisms.needed(role, kind)}
    return Probe(
        faults={(role, kind): mechanisms.fault(hsm_token, role, kind) for role, kind in kinds},
        unlisted=sorted(f"CKM_{mechanism.name}" for mechanism in needed - listed),
        unknown_attributes=hsm_token.unknown_attributes(),
    )

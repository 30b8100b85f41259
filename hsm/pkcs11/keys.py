"""Key roles, labels and generations.

A label is ``<role>.g<generation>``, as in ``pin.g1``. Which generation seals and which opens, the
keyring says (:mod:`hsm.pkcs11.keyring`). A key that is shared with a partner belongs to one issuer
and is imported: ``<role>@<issuer id>.g<generation>``, as in ``pvk@demobank01.g1``.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final, Self

from hsm.errors import CeremonyError

LABEL_PATTERN: Final = re.compile(r"([a-z0-9-]{1,24})(?:@([^@]{10}))?\.g([1-9][0-9]{0,5})")
ISSUER_ID_PATTERN: Final = re.compile(r"[^@]{10}")


class KeyKind(Enum):
    """What a key is made of."""

    AES_128 = "AES-128"
    AES_192 = "AES-192"
    AES_256 = "AES-256"
    EC_P256 = "EC P-256"
    TDES_2KEY = "TDES 2-key"
    TDES_3KEY = "TDES 3-key"


AES_KINDS: Final = (KeyKind.AES_256, KeyKind.AES_192, KeyKind.AES_128)
TDES_KINDS: Final = (KeyKind.TDES_2KEY, KeyKind.TDES_3KEY)
#: The size of a secret key of each kind.
KEY_BYTES: Final[Mapping[KeyKind, int]] = {
    KeyKind.AES_128: 16,
    KeyKind.AES_192: 24,
    KeyKind.AES_256: 32,
    KeyKind.TDES_2KEY: 16,
    KeyKind.TDES_3KEY: 24,
}


class Usage(StrEnum):
    """The one thing a key may do; :mod:`hsm.pkcs11.templates` says by which attributes."""

    ENCRYPT = "encrypt and decrypt"
    MAC = "make MACs"
    AGREE = "agree keys (ECDH)"
    SIGN = "sign"
    ENCRYPT_ONLY = "encrypt"
    DECRYPT = "decrypt, and derive keys that decrypt"
    DERIVE = "derive keys"


class KeyRole(StrEnum):
    """What a key is for. One role, one usage."""

    PIN = "pin"
    """AES: the format-4 block of a sealed PIN."""
    PIN_MAC = "pin-mac"
    """AES-CMAC over a sealed PIN and what it belongs to."""
    RECORD = "record"
    """AES-GCM: a sealed card record."""
    RECORD_MAC = "record-mac"
    """AES-CMAC over a sealed card record and the card that it belongs to."""
    VALUES = "values"
    """AES-GCM: a sealed PIN verification value."""
    VALUES_MAC = "values-mac"
    """AES-CMAC over a sealed PIN verification value and what it belongs to."""
    MANIFEST_MAC = "manifest-mac"
    """AES-CMAC over what a host has taken: manifests, and its list of minimum versions."""
    GRANT_MAC = "grant-mac"
    """AES-CMAC over what a control token is good for."""
    LOG_MAC = "log-mac"
    """AES-CMAC over a line of the vault's log."""
    D1 = "d1"
    """ECDH: the key that Thales D1 encrypts PIN blocks to."""
    PAGE = "page"
    """ECDH: the key that pages encrypt PIN blocks to."""
    INTAKE = "intake"
    """ECDH: the key that PANs are encrypted to on their way in."""
    TOKEN_SIGN = "token-sign"  # noqa: S105 - a role, not a password
    """ECDSA: signs the access tokens of the OAuth endpoint."""
    BLOCK_PROTECTION = "block-protection"
    """CMAC: makes the two keys that open a TR-31 key block (KBPK)."""
    SECCOS_PIN = "seccos-pin"
    """TDES: deciphers SECCOS PIN blocks, or makes the session keys that do."""
    SECCOS_PRW = "seccos-prw"
    """AES-CMAC or TDES-CMAC: the PRW that D1 sends."""
    SECCOS_PRW_RETAIL = "seccos-prw-retail"
    """TDES in CBC mode: the last block of the same, where it is a retail MAC."""
    SECCOS_PRW_RETAIL_LEFT = "seccos-prw-retail-left"
    """TDES in CBC mode: K1‖K1 of the key above, for the chain of that MAC."""
    SECCOS_MAC = "seccos-mac"
    """TDES in CBC mode: the last block of the retail MAC over a SECCOS payload."""
    SECCOS_MAC_LEFT = "seccos-mac-left"
    """TDES in CBC mode: K1‖K1 of the key above, for the chain of that MAC."""
    SECCOS_MAC_CMAC = "seccos-mac-cmac"
    """AES-CMAC or TDES-CMAC: the MAC over a SECCOS payload, where it is one."""
    SECCOS_MAC_MASTER = "seccos-mac-master"
    """TDES: makes the session keys of that MAC."""
    PVK = "pvk"
    """TDES: PIN verification values (PVV) of Visa."""
    PVK_3624 = "pvk-3624"
    """TDES: IBM 3624 offsets."""
    PRW = "prw"
    """AES-CMAC: the PRW that the issuer makes."""
    ZPK = "zpk"
    """TDES: the format-0 blocks that D1 sends and gets, where a ZPK enciphers them too."""
    ZPK_AES = "zpk-aes"
    """AES: the format-4 blocks that stand in their place."""
    BUREAU_PIN = "bureau-pin"
    """TDES: the format-0 blocks that the personalisation bureau gets."""
    BUREAU_PIN_AES = "bureau-pin-aes"
    """AES: the format-4 blocks that it gets in their place."""
    BUREAU_MAC = "bureau-mac"
    """AES-CMAC over a batch of them."""
    BUREAU_MAC_RETAIL = "bureau-mac-retail"
    """TDES in CBC mode: the last block of the same, where it is a retail MAC."""
    BUREAU_MAC_RETAIL_LEFT = "bureau-mac-retail-left"
    """TDES in CBC mode: K1‖K1 of the key above, for the chain of that MAC."""
    SMC = "smc"
    """TDES: makes the keys that encipher the scripts of chip cards (IMK-SMC)."""
    SMI = "smi"
    """TDES: makes the keys of the MACs over them (IMK-SMI)."""
    ZPK_SERVER = "zpk-server"
    """TDES: the format-1 blocks that an issuer's own server sends and gets."""
    TZPK = "tzpk"
    """AES-GCM: a sealed temporary zone PIN key (TZPK), until a device has sent its PIN block."""
    TZPK_MAC = "tzpk-mac"
    """AES-CMAC over a sealed TZPK and the control token that it belongs to."""

    @property
    def kind(self) -> KeyKind:
        """What keys of this role are made of; :attr:`kinds` says what else they may be."""
        return _SHARED_KINDS[self][0] if self.per_issuer else _KINDS[self.usage]

    @property
    def kinds(self) -> Sequence[KeyKind]:
        """All that keys of this role may be made of."""
        return _SHARED_KINDS.get(self, (self.kind,))

    @property
    def per_issuer(self) -> bool:
        """Whether keys of this role are shared with a partner of one issuer, and imported."""
        return self in _SHARED_KINDS

    @property
    def usage(self) -> Usage:
        """What keys of this role may do."""
        return _USAGES[self]


_USAGES: Final[Mapping[KeyRole, Usage]] = {
    KeyRole.PIN: Usage.ENCRYPT,
    KeyRole.PIN_MAC: Usage.MAC,
    KeyRole.RECORD: Usage.ENCRYPT,
    KeyRole.RECORD_MAC: Usage.MAC,
    KeyRole.VALUES: Usage.ENCRYPT,
    KeyRole.VALUES_MAC: Usage.MAC,
    KeyRole.MANIFEST_MAC: Usage.MAC,
    KeyRole.GRANT_MAC: Usage.MAC,
    KeyRole.LOG_MAC: Usage.MAC,
    KeyRole.D1: Usage.AGREE,
    KeyRole.PAGE: Usage.AGREE,
    KeyRole.INTAKE: Usage.AGREE,
    KeyRole.TOKEN_SIGN: Usage.SIGN,
    KeyRole.BLOCK_PROTECTION: Usage.MAC,
    KeyRole.SECCOS_PIN: Usage.DECRYPT,
    KeyRole.SECCOS_PRW: Usage.MAC,
    KeyRole.SECCOS_PRW_RETAIL: Usage.ENCRYPT_ONLY,
    KeyRole.SECCOS_PRW_RETAIL_LEFT: Usage.ENCRYPT_ONLY,
    KeyRole.SECCOS_MAC: Usage.ENCRYPT_ONLY,
    KeyRole.SECCOS_MAC_LEFT: Usage.ENCRYPT_ONLY,
    KeyRole.SECCOS_MAC_CMAC: Usage.MAC,
    KeyRole.SECCOS_MAC_MASTER: Usage.DERIVE,
    KeyRole.PVK: Usage.ENCRYPT_ONLY,
    KeyRole.PVK_3624: Usage.ENCRYPT_ONLY,
    KeyRole.PRW: Usage.MAC,
    KeyRole.ZPK: Usage.ENCRYPT,
    KeyRole.ZPK_AES: Usage.ENCRYPT,
    # No PIN block comes back from the bureau.
    KeyRole.BUREAU_PIN: Usage.ENCRYPT_ONLY,
    KeyRole.BUREAU_PIN_AES: Usage.ENCRYPT_ONLY,
    KeyRole.BUREAU_MAC: Usage.MAC,
    KeyRole.BUREAU_MAC_RETAIL: Usage.ENCRYPT_ONLY,
    KeyRole.BUREAU_MAC_RETAIL_LEFT: Usage.ENCRYPT_ONLY,
    KeyRole.SMC: Usage.DERIVE,
    KeyRole.SMI: Usage.DERIVE,
    KeyRole.ZPK_SERVER: Usage.ENCRYPT,
    KeyRole.TZPK: Usage.ENCRYPT,
    KeyRole.TZPK_MAC: Usage.MAC,
}
_KINDS: Final[Mapping[Usage, KeyKind]] = {
    Usage.ENCRYPT: KeyKind.AES_256,
    Usage.MAC: KeyKind.AES_256,
    Usage.AGREE: KeyKind.EC_P256,
    Usage.SIGN: KeyKind.EC_P256,
}
_SHARED_KINDS: Final[Mapping[KeyRole, Sequence[KeyKind]]] = {
    KeyRole.BLOCK_PROTECTION: (*AES_KINDS, *TDES_KINDS),
    KeyRole.SECCOS_PIN: (KeyKind.TDES_2KEY,),
    KeyRole.SECCOS_PRW: (KeyKind.AES_256, KeyKind.TDES_2KEY),
    KeyRole.SECCOS_PRW_RETAIL: (KeyKind.TDES_2KEY,),
    KeyRole.SECCOS_PRW_RETAIL_LEFT: (KeyKind.TDES_2KEY,),
    KeyRole.SECCOS_MAC: (KeyKind.TDES_2KEY,),
    KeyRole.SECCOS_MAC_LEFT: (KeyKind.TDES_2KEY,),
    KeyRole.SECCOS_MAC_CMAC: (KeyKind.AES_256, KeyKind.TDES_2KEY),
    KeyRole.SECCOS_MAC_MASTER: (KeyKind.TDES_2KEY,),
    KeyRole.PVK: (KeyKind.TDES_2KEY,),
    KeyRole.PVK_3624: (KeyKind.TDES_2KEY,),
    KeyRole.PRW: (KeyKind.AES_256,),
    KeyRole.ZPK: TDES_KINDS,
    KeyRole.ZPK_AES: AES_KINDS,
    KeyRole.BUREAU_PIN: TDES_KINDS,
    KeyRole.BUREAU_PIN_AES: AES_KINDS,
    KeyRole.BUREAU_MAC: AES_KINDS,
    KeyRole.BUREAU_MAC_RETAIL: (KeyKind.TDES_2KEY,),
    KeyRole.BUREAU_MAC_RETAIL_LEFT: (KeyKind.TDES_2KEY,),
    KeyRole.SMC: (KeyKind.TDES_2KEY,),
    KeyRole.SMI: (KeyKind.TDES_2KEY,),
    KeyRole.ZPK_SERVER: (KeyKind.TDES_2KEY,),
}
#: The role of a key that enciphers -> that of the key that makes the CMAC over the result. Both
#: have the same generation.
MAC_ROLES: Final[Mapping[KeyRole, KeyRole]] = {
    KeyRole.PIN: KeyRole.PIN_MAC,
    KeyRole.RECORD: KeyRole.RECORD_MAC,
    KeyRole.VALUES: KeyRole.VALUES_MAC,
    KeyRole.TZPK: KeyRole.TZPK_MAC,
}
#: Where a retail MAC is made of two keys: the role of the whole key -> that of its left half.
LEFT_ROLES: Final[Mapping[KeyRole, KeyRole]] = {
    KeyRole.SECCOS_PRW_RETAIL: KeyRole.SECCOS_PRW_RETAIL_LEFT,
    KeyRole.SECCOS_MAC: KeyRole.SECCOS_MAC_LEFT,
    KeyRole.BUREAU_MAC_RETAIL: KeyRole.BUREAU_MAC_RETAIL_LEFT,
}
#: The roles of which every deployment has a key, made by its own ceremony.
OWN_ROLES: Final = tuple(role for role in KeyRole if not role.per_issuer)
#: The roles of which an issuer may have keys, shared with a partner.
SHARED_ROLES: Final = tuple(role for role in KeyRole if role.per_issuer)
#: Those of them whose keys come in key blocks: not the one that opens these, nor halves of others.
BLOCK_ROLES: Final = tuple(
    role for role in SHARED_ROLES if role not in {KeyRole.BLOCK_PROTECTION, *LEFT_ROLES.values()}
)


@dataclass(frozen=True, slots=True)
class KeyLabel:
    """The name of one key on the HSM token: a role, a generation from 1, perhaps an issuer id.

    Raises:
        CeremonyError: the role is of shared keys and there is no issuer id of 10 characters, none
            of them ``@``; or it is a role of our own keys and there is an issuer id.
    """

    role: KeyRole
    generation: int
    issuer_id: str | None = None

    def __post_init__(self) -> None:
        issuer_id = self.issuer_id
        if self.role.per_issuer != (issuer_id is not None):
            raise CeremonyError("not a key label")
        if issuer_id is not None and not ISSUER_ID_PATTERN.fullmatch(issuer_id):
            raise CeremonyError("not an issuer id: 10 characters, none of them @")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a label.

        Raises:
            CeremonyError: *text* is not a label of ours.

        >>> KeyLabel.parse("pvk@demobank01.g2")
        KeyLabel(role=<KeyRole.PVK: 'pvk'>, generation=2, issuer_id='demobank01')
        """
        match = LABEL_PATTERN.fullmatch(text)
        if match is None or match[1] not in set(KeyRole):
            raise CeremonyError("not a key label")
        return cls(KeyRole(match[1]), int(match[3]), match[2])

    def of(self, role: KeyRole) -> "KeyLabel":
        """Name the key of another role with the same generation and issuer.

        >>> str(KeyLabel(KeyRole.PIN, 2).of(KeyRole.PIN_MAC))
        'pin-mac.g2'
        """
        return KeyLabel(role, self.generation, self.issuer_id)

    def __str__(self) -> str:
        owner = "" if self.issuer_id is None else f"@{self.issuer_id}"
        return f"{self.role}{owner}.g{self.generation}"

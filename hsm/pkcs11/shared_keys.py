"""Keys shared with a partner of an issuer: opened from key blocks or typed parts, then imported.

The key that opens key blocks (KBPK) comes first, as components of which each officer knows one::

    KBPK = component 1 XOR component 2 [ XOR component 3 ]

It stays in the HSM token from then on. The keys that it derives, and the keys in key blocks, are
in the memory of the process that imports them; that process does nothing else, and ends.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import Final

from crypto import kcv, keyblock
from crypto.emv.key_derivation import odd_parity
from crypto.errors import KeyBlockError, KeyPurposeError
from crypto.keyblock import KeyAlgorithm, KeyBlockHeader, KeyPurpose
from crypto.pinblock.fields import xor
from crypto.secret import Secret
from crypto.software import aes_cmac, tdes_encrypt_ecb
from hsm.errors import CeremonyError
from hsm.pkcs11.hsm_token import HsmToken
from hsm.pkcs11.keys import KEY_BYTES, LEFT_ROLES, KeyKind, KeyLabel, KeyRole

HALF_BYTES: Final = 8
COMPONENTS_MIN: Final = 2
COMPONENTS_MAX: Final = 3
_REFUSED_VERSIONS: Final = ("A", "C")
_HEX: Final = re.compile("(?:[0-9A-Fa-f]{2})+")
_KINDS: Final[Mapping[KeyAlgorithm, KeyKind]] = {
    KeyAlgorithm.AES: KeyKind.AES_256,
    KeyAlgorithm.TDES: KeyKind.TDES_2KEY,
}
_PROTECTED_BY: Final[Mapping[str, KeyKind]] = {"B": KeyKind.TDES_2KEY, "D": KeyKind.AES_256}


def _purpose(algorithm: KeyAlgorithm, usage: str, modes: str) -> KeyPurpose:
    sizes = frozenset({KEY_BYTES[_KINDS[algorithm]]})
    return KeyPurpose(algorithm, frozenset({usage}), frozenset(modes), sizes)


#: What a key block must say of its key, one purpose for each usage and algorithm that a role
#: takes (ANSI X9.143-2021, tables 2 and 4). D deciphers, B does both, X derives, C makes and
#: verifies MACs, G makes them, V verifies them. A PRW has no usage of its own.
PURPOSES: Final[Mapping[KeyRole, Sequence[KeyPurpose]]] = {
    KeyRole.SECCOS_PIN: (
        _purpose(KeyAlgorithm.TDES, "P0", "DB"),
        _purpose(KeyAlgorithm.TDES, "E1", "DBX"),
    ),
    KeyRole.SECCOS_PRW: (
        _purpose(KeyAlgorithm.AES, "M6", "CGV"),
        _purpose(KeyAlgorithm.TDES, "M6", "CGV"),
    ),
    KeyRole.SECCOS_PRW_RETAIL: (_purpose(KeyAlgorithm.TDES, "M3", "CGV"),),
    KeyRole.SECCOS_MAC: (
        _purpose(KeyAlgorithm.TDES, "M3", "CGV"),
        _purpose(KeyAlgorithm.TDES, "E2", "CGV"),
    ),
    KeyRole.SECCOS_MAC_CMAC: (
        _purpose(KeyAlgorithm.AES, "M6", "CGV"),
        _purpose(KeyAlgorithm.TDES, "M6", "CGV"),
    ),
    KeyRole.SECCOS_MAC_MASTER: (_purpose(KeyAlgorithm.TDES, "E2", "X"),),
    # The next three make values: a key that may only verify is not for them.
    KeyRole.PVK: (_purpose(KeyAlgorithm.TDES, "V2", "CG"),),
    KeyRole.PVK_3624: (_purpose(KeyAlgorithm.TDES, "V1", "CG"),),
    KeyRole.PRW: (_purpose(KeyAlgorithm.AES, "M6", "CG"),),
}


@dataclass(frozen=True, slots=True)
class ClearKey:
    """A key in clear, before it is imported into the HSM token."""

    kind: KeyKind
    value: Secret[bytes]

    @property
    def kcv(self) -> str:
        """The key check value (KCV), which the partner knows: 6 hexadecimal digits."""
        if self.kind is KeyKind.AES_256:
            return kcv.aes(partial(aes_cmac, self.value)).hex().upper()
        return kcv.tdes(partial(tdes_encrypt_ecb, self.value)).hex().upper()


def open_block(hsm_token: HsmToken, role: KeyRole, issuer_id: str, text: str) -> ClearKey:
    """Open a key block for *role* with the newest block-protection key of the issuer.

    Raises:
        CeremonyError: it is of version A or C, the issuer has no key that opens it, it is not
            genuine, or its key is not for this role.
    """
    if text.startswith(_REFUSED_VERSIONS):
        raise CeremonyError("key blocks of versions A and C are not taken: ask for B or D")
    try:
        header = keyblock.parse_header(text)
        kind = _PROTECTED_BY[header.version]
        label = _block_protection_key(hsm_token, issuer_id, kind)
        mac = hsm_token.mac if kind is KeyKind.AES_256 else hsm_token.tdes_mac
        purpose = _purpose_for(role, header)
        opened = keyblock.open_block(text, purpose, partial(mac, label), KEY_BYTES[kind])
    except KeyPurposeError:
        raise CeremonyError("the key in this block is not for this role") from None
    except KeyBlockError:
        raise CeremonyError("not a genuine key block under this block-protection key") from None
    return ClearKey(_KINDS[purpose.algorithm], opened.key)


def join_components(components: Sequence[Secret[str]]) -> ClearKey:
    """Make a key of its components, in hexadecimal digits; spaces between digits are ignored.

    Raises:
        CeremonyError: they are not 2 or 3 of 32 (TDES) or of 64 (AES) hexadecimal digits.
    """
    texts = [component.reveal().replace(" ", "") for component in components]
    right_number = COMPONENTS_MIN <= len(texts) <= COMPONENTS_MAX
    if right_number and all(map(_HEX.fullmatch, texts)):
        for kind, size_bytes in KEY_BYTES.items():
            if {len(text) for text in texts} == {2 * size_bytes}:
                return ClearKey(kind, Secret(reduce(xor, map(bytes.fromhex, texts))))
    raise CeremonyError("not two or three components of 32 or 64 hexadecimal digits")


def store(hsm_token: HsmToken, role: KeyRole, issuer_id: str, key: ClearKey) -> KeyLabel:
    """Import *key* as the next generation of *role*.

    The caller makes sure that no other process imports a key meanwhile.

    Raises:
        CeremonyError: *issuer_id* is not 10 characters without ``@``, or the key is zero or has two
            equal halves.
    """
    value = key.value
    if key.kind is KeyKind.TDES_2KEY:
        # XOR undoes parity, and partners may leave it out; some devices insist on it.
        value = odd_parity(value)
    _check_strength(key.kind, value)
    label = _next_label(hsm_token, role, issuer_id)
    if role in LEFT_ROLES:
        # First, so that there is no MAC key without it.
        left = Secret(value.reveal()[:HALF_BYTES] * 2)
        hsm_token.import_key(label.of(LEFT_ROLES[role]), key.kind, left)
    hsm_token.import_key(label, key.kind, value)
    return label


def _block_protection_key(hsm_token: HsmToken, issuer_id: str, kind: KeyKind) -> KeyLabel:
    role = KeyRole.BLOCK_PROTECTION
    labels = [
        label
        for label in hsm_token.labels()
        if label.role is role and label.issuer_id == issuer_id and hsm_token.kind(label) is kind
    ]
    if not labels:
        raise CeremonyError("the issuer has no block-protection key for this version of key block")
    return max(labels, key=lambda label: label.generation)


def _purpose_for(role: KeyRole, header: KeyBlockHeader) -> KeyPurpose:
    """Choose the purpose that fits the header; opening the block then proves the header."""
    purposes = PURPOSES[role]
    claimed = (
        purpose
        for purpose in purposes
        if header.usage in purpose.usages and header.algorithm == purpose.algorithm
    )
    return next(claimed, purposes[0])


def _check_strength(kind: KeyKind, value: Secret[bytes]) -> None:
    """Refuse zeros, which a component typed twice gives, and single DES."""
    raw = value.reveal()
    single = kind is KeyKind.TDES_2KEY and raw[:HALF_BYTES] == raw[HALF_BYTES:]
    if single or not any(raw):
        raise CeremonyError("this key is too weak: it is zero, or its halves are equal")


def _next_label(hsm_token: HsmToken, role: KeyRole, issuer_id: str) -> KeyLabel:
    roles = {role, LEFT_ROLES.get(role, role)}
    taken = [
        label.generation
        for label in hsm_token.labels()
        if label.role in roles and label.issuer_id == issuer_id
    ]
    return KeyLabel(role, max(taken, default=0) + 1, issuer_id)

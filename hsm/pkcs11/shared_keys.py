"""Keys shared with a partner of an issuer: opened from key blocks or typed parts, then imported.

The key that opens key blocks (KBPK) comes first, as components of which each custodian knows one::

    KBPK = component 1 XOR component 2 [ XOR component 3 … ]

No component is zero and no two are equal: each would leave the key to fewer custodians (ANSI
X9.24-1 wants each component to be as long as the key and to tell nothing of it).

It stays in the HSM token from then on. The keys that it derives, and the keys in key blocks, are
in the memory of the process that imports them; that process does nothing else, and ends.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from itertools import combinations
from typing import Final

from crypto import kcv, keyblock
from crypto.emv.key_derivation import odd_parity
from crypto.errors import KeyBlockError, KeyPurposeError, KeyStrengthError
from crypto.keyblock import KeyAlgorithm, KeyBlockHeader, KeyPurpose, OptionalBlock
from crypto.pinblock.fields import xor
from crypto.secret import Secret
from crypto.software import aes_cmac, tdes_encrypt_ecb
from crypto.types import Mac
from hsm.errors import CeremonyError
from hsm.pkcs11.hsm_token import HsmToken
from hsm.pkcs11.keys import (
    AES_KINDS,
    KEY_BYTES,
    LEFT_ROLES,
    TDES_KINDS,
    KeyKind,
    KeyLabel,
    KeyRole,
    Usage,
)

HALF_BYTES: Final = 8
KBPK_KCV_BYTES: Final = 5
COMPONENTS_MIN: Final = 2
_REFUSED_VERSIONS: Final = ("A", "C")
_HEX: Final = re.compile("(?:[0-9A-Fa-f]{2})+")
_KINDS: Final[Mapping[KeyAlgorithm, Sequence[KeyKind]]] = {
    KeyAlgorithm.AES: AES_KINDS,
    KeyAlgorithm.TDES: TDES_KINDS,
}
_PROTECTED_BY: Final[Mapping[str, Sequence[KeyKind]]] = {"B": TDES_KINDS, "D": AES_KINDS}


def _purpose(role: KeyRole, algorithm: KeyAlgorithm, usage: str, modes: str) -> KeyPurpose:
    sizes = frozenset(KEY_BYTES[kind] for kind in role.kinds if kind in _KINDS[algorithm])
    return KeyPurpose(algorithm, frozenset({usage}), frozenset(modes), sizes)


#: The usages and modes of use of each role (ANSI X9.143-2021, tables 2 and 4). D deciphers, B does
#: both, X derives, C makes and verifies MACs, G makes them, V verifies them, N has no restriction
#: beyond that of the usage. A PRW has no usage of its own.
_PURPOSES: Final[Mapping[KeyRole, Sequence[tuple[KeyAlgorithm, str, str]]]] = {
    KeyRole.SECCOS_PIN: ((KeyAlgorithm.TDES, "P0", "DBN"), (KeyAlgorithm.TDES, "E1", "DBXN")),
    KeyRole.SECCOS_PRW: ((KeyAlgorithm.AES, "M6", "CGVN"), (KeyAlgorithm.TDES, "M6", "CGVN")),
    KeyRole.SECCOS_PRW_RETAIL: ((KeyAlgorithm.TDES, "M3", "CGVN"),),
    KeyRole.SECCOS_MAC: (
        (KeyAlgorithm.TDES, "M3", "CGVN"),
        # No N here: without a mode, usage E2 is that of a master key, which derives.
        (KeyAlgorithm.TDES, "E2", "CGV"),
    ),
    KeyRole.SECCOS_MAC_CMAC: ((KeyAlgorithm.AES, "M6", "CGVN"), (KeyAlgorithm.TDES, "M6", "CGVN")),
    KeyRole.SECCOS_MAC_MASTER: ((KeyAlgorithm.TDES, "E2", "XN"),),
    # The next three make values: a key that may only verify is not for them.
    KeyRole.PVK: ((KeyAlgorithm.TDES, "V2", "CGN"),),
    KeyRole.PVK_3624: ((KeyAlgorithm.TDES, "V1", "CGN"),),
    KeyRole.PRW: ((KeyAlgorithm.AES, "M6", "CGN"),),
    # One key for both directions: one that may only encipher, or decipher, is not for these.
    KeyRole.ZPK: ((KeyAlgorithm.TDES, "P0", "BN"),),
    KeyRole.ZPK_AES: ((KeyAlgorithm.AES, "P0", "BN"),),
    # The next four are used in one direction: a key for the other one is not for them.
    KeyRole.BUREAU_PIN: ((KeyAlgorithm.TDES, "P0", "BEN"),),
    KeyRole.BUREAU_PIN_AES: ((KeyAlgorithm.AES, "P0", "BEN"),),
    KeyRole.BUREAU_MAC: ((KeyAlgorithm.AES, "M6", "CGN"),),
    KeyRole.BUREAU_MAC_RETAIL: ((KeyAlgorithm.TDES, "M3", "CGN"),),
    KeyRole.SMC: ((KeyAlgorithm.TDES, "E1", "XN"),),
    KeyRole.SMI: ((KeyAlgorithm.TDES, "E2", "XN"),),
    KeyRole.ZPK_SERVER: ((KeyAlgorithm.TDES, "P0", "BN"),),
}
#: What a key block must say of its key: one purpose for each usage and algorithm of a role.
PURPOSES: Final[Mapping[KeyRole, Sequence[KeyPurpose]]] = {
    role: tuple(_purpose(role, *purpose) for purpose in purposes)
    for role, purposes in _PURPOSES.items()
}


@dataclass(frozen=True, slots=True)
class ClearKey:
    """A key or a component in clear, before a key is imported into the HSM token."""

    kind: KeyKind
    value: Secret[bytes]

    @property
    def kcv(self) -> str:
        """The key check value (KCV), which its sender knows: 6 hexadecimal digits."""
        if self.kind in AES_KINDS:
            return kcv.aes(partial(aes_cmac, self.value)).hex().upper()
        return kcv.tdes(partial(tdes_encrypt_ecb, self.value)).hex().upper()


def open_block(hsm_token: HsmToken, role: KeyRole, issuer_id: str, text: str) -> ClearKey:
    """Open a key block for *role* with the newest block-protection key of the issuer.

    Raises:
        CeremonyError: it is of version A or C, the issuer has no key that opens it, it is not
            genuine, its key is not for this role, or its key is stronger than the
            block-protection key.
    """
    if text.startswith(_REFUSED_VERSIONS):
        raise CeremonyError("key blocks of versions A and C are not taken: ask for B or D")
    try:
        header = keyblock.parse_header(text)
        label = block_protection_key(hsm_token, issuer_id, header.version)
        purpose = _purpose_for(role, header)
        opened = keyblock.open_block(text, purpose, *_kbpk(hsm_token, label))
    except KeyPurposeError:
        raise _not_for(role, header) from None
    except KeyStrengthError:
        raise CeremonyError(
            "the key in this block is stronger than the block-protection key: ask for a block of "
            "version D"
        ) from None
    except KeyBlockError:
        raise CeremonyError("not a genuine key block under this block-protection key") from None
    return ClearKey(kind_of(purpose.algorithm, len(opened.key.reveal())), opened.key)


def block_protection_key(hsm_token: HsmToken, issuer_id: str, version: str) -> KeyLabel:
    """Name the newest block-protection key of the issuer that is for a version of key block.

    Raises:
        CeremonyError: there is none.
    """
    role, kinds = KeyRole.BLOCK_PROTECTION, _PROTECTED_BY[version]
    labels = [
        label
        for label in hsm_token.labels()
        if label.role is role and label.issuer_id == issuer_id and hsm_token.kind(label) in kinds
    ]
    if not labels:
        raise CeremonyError("the issuer has no block-protection key for this version of key block")
    return max(labels, key=lambda label: label.generation)


def kind_of(algorithm: KeyAlgorithm, size_bytes: int) -> KeyKind:
    """Name what a key of an algorithm and one of its sizes is made of."""
    return next(kind for kind in _KINDS[algorithm] if KEY_BYTES[kind] == size_bytes)


def read_component(text: Secret[str], kind: KeyKind, *, odd_parity_needed: bool) -> ClearKey:
    """Read a component of a key, hexadecimal digits; spaces between digits are ignored.

    Args:
        text: as its custodian types it.
        kind: of the key.
        odd_parity_needed: whether a TDES component must have odd parity. Where it must not, its
            parity bits count for nothing.

    Raises:
        CeremonyError: it is not as long as the key, its parity is not odd, or it is zero.
    """
    digits = text.reveal().replace(" ", "")
    if not _HEX.fullmatch(digits) or len(digits) != 2 * KEY_BYTES[kind]:
        raise CeremonyError("not a component of as many hexadecimal digits as the key has")
    component = ClearKey(kind, Secret(bytes.fromhex(digits)))
    if odd_parity_needed and odd_parity(component.value).reveal() != component.value.reveal():
        raise CeremonyError("a component does not have odd parity")
    if _is_zero(component):
        raise CeremonyError("a component is zero: it keeps nothing secret")
    return component


def join_components(components: Sequence[ClearKey]) -> ClearKey:
    """Make a key of its components.

    Raises:
        CeremonyError: they are fewer than 2 or of several kinds, two of them are equal, or the key
            is too weak.
    """
    if len(components) < COMPONENTS_MIN:
        raise CeremonyError("fewer than two components")
    if len({component.kind for component in components}) > 1:
        raise CeremonyError("the components are of different kinds")
    if any(_is_zero(_joined(pair)) for pair in combinations(components, 2)):
        raise CeremonyError("two components are equal")
    key = _joined(components)
    if _is_zero(key):
        raise CeremonyError("the components make a key that is zero")
    _check_strength(key)
    return key


#: The modes of use that a block of a usage may give a partner (X9.143-2021, table 2), the default
#: first: both directions, or deriving. What one role needs of a key that it imports does not bind
#: the side that gets it.
EXPORTED_MODES: Final[Mapping[str, str]] = {
    "E1": "BDEXN",
    "E2": "CGVXN",
    "M3": "CGVN",
    "M6": "CGVN",
    "P0": "BDEN",
    "V1": "CGVN",
    "V2": "CGVN",
}
_DERIVES: Final = "X"


def make_key(hsm_token: HsmToken, kind: KeyKind) -> ClearKey:
    """Make a key of random bytes from the HSM token; it is in this process's memory.

    The HSM token does not make it itself: a device that could then wrap it as a key block is rare,
    and one whose key may be wrapped by others would let it out again.
    """
    value = Secret(hsm_token.random(KEY_BYTES[kind]))
    if kind in TDES_KINDS:
        value = odd_parity(value)
    key = ClearKey(kind, value)
    _check_strength(key)
    return key


def export_header(
    role: KeyRole, kind: KeyKind, version: str, usage: str | None, mode: str | None
) -> KeyBlockHeader:
    """Say of a key of *role* what its block says to a partner.

    Args:
        role: of the key here.
        kind: of the key.
        version: B or D.
        usage: one that the role takes; None: its first.
        mode: None: both directions, or deriving for a role that derives.

    Raises:
        CeremonyError: the role has no key of this kind, or takes no key of this usage; or the usage
            has no such mode.
    """
    algorithm = KeyAlgorithm.AES if kind in AES_KINDS else KeyAlgorithm.TDES
    purposes = [
        purpose
        for purpose in PURPOSES[role]
        if purpose.algorithm is algorithm and KEY_BYTES[kind] in purpose.key_bytes
    ]
    usages = [one for purpose in purposes for one in purpose.usages]
    if not usages:
        raise CeremonyError("the role has no key of this kind")
    usage = usages[0] if usage is None else usage
    if usage not in usages:
        raise CeremonyError("the role takes no key of this usage")
    modes = EXPORTED_MODES[usage]
    if mode is None:
        mode = _DERIVES if role.usage is Usage.DERIVE else modes[0]
    if mode not in modes:
        raise CeremonyError("a key of this usage has no such mode of use")
    return KeyBlockHeader(version, usage, algorithm, mode, "00", "N")


def write_block(hsm_token: HsmToken, label: KeyLabel, key: ClearKey, header: KeyBlockHeader) -> str:
    """Write *key* as a key block under the block-protection key *label*.

    Raises:
        CeremonyError: the key is stronger than that key, or an optional block is malformed.
    """
    try:
        kbpk = _kbpk(hsm_token, label)
        return keyblock.write_block(header, key.value, *kbpk, hsm_token.random)
    except KeyStrengthError:
        raise CeremonyError(
            "the key is stronger than the block-protection key: take one of version D"
        ) from None
    except KeyBlockError:
        raise CeremonyError("an optional block is malformed, or there twice") from None


def kbpk_kcv_block(hsm_token: HsmToken, label: KeyLabel) -> OptionalBlock:
    """Return the optional block KP: the KCV of a block-protection key.

    Raises:
        CeremonyError: the device does not tell the KCV of a TDES key that only makes MACs.
    """
    if hsm_token.kind(label) in AES_KINDS:
        method, found = keyblock.CMAC_KCV, hsm_token.mac(label, bytes(16))[:KBPK_KCV_BYTES]
    else:
        method, found = keyblock.LEGACY_KCV, hsm_token.check_value(label)
    if not found:
        raise CeremonyError("the device does not tell the KCV of this block-protection key")
    return OptionalBlock(keyblock.KCV_OF_KBPK, method + found.hex().upper())


def store(
    hsm_token: HsmToken, role: KeyRole, issuer_id: str, key: ClearKey, after: int = 0
) -> KeyLabel:
    """Import *key* as the next generation of *role*, as :func:`next_label` names it.

    The caller makes sure that no other process imports a key meanwhile.

    Raises:
        CeremonyError: *issuer_id* is not 10 characters without ``@``, or the key is zero, or a TDES
            key with two equal parts.
    """
    _check_strength(key)
    value = key.value
    if key.kind in TDES_KINDS:
        # XOR undoes parity, and partners may leave it out; some devices insist on it.
        value = odd_parity(value)
    label = next_label(hsm_token, role, issuer_id, after)
    if role in LEFT_ROLES:
        # First, so that there is no MAC key without it.
        left = Secret(value.reveal()[:HALF_BYTES] * 2)
        hsm_token.import_key(label.of(LEFT_ROLES[role]), key.kind, left)
    hsm_token.import_key(label, key.kind, value)
    return label


def next_label(hsm_token: HsmToken, role: KeyRole, issuer_id: str, after: int = 0) -> KeyLabel:
    """Name the next generation of *role*, which is above *after*.

    Raises:
        CeremonyError: *issuer_id* is not 10 characters without ``@``.
    """
    roles = {role, LEFT_ROLES.get(role, role)}
    taken = [
        label.generation
        for label in hsm_token.labels()
        if label.role in roles and label.issuer_id == issuer_id
    ]
    return KeyLabel(role, max((after, *taken)) + 1, issuer_id)


def _kbpk(hsm_token: HsmToken, label: KeyLabel) -> tuple[Mac, int]:
    """Return what makes a CMAC with a block-protection key, and its size in bytes."""
    kind = hsm_token.kind(label)
    mac = hsm_token.mac if kind in AES_KINDS else hsm_token.tdes_mac
    return partial(mac, label), KEY_BYTES[kind]


def _purpose_for(role: KeyRole, header: KeyBlockHeader) -> KeyPurpose:
    """Choose the purpose that fits the header; opening the block then proves the header."""
    purposes = PURPOSES[role]
    claimed = (
        purpose
        for purpose in purposes
        if header.usage in purpose.usages and header.algorithm == purpose.algorithm
    )
    return next(claimed, purposes[0])


def _not_for(role: KeyRole, header: KeyBlockHeader) -> CeremonyError:
    """Say what the header of a genuine block says, and what the role takes; no value of a key."""
    taken = "; ".join(
        f"{usage} {purpose.algorithm} {'/'.join(sorted(purpose.modes))}"
        f" of {'/'.join(map(str, sorted(purpose.key_bytes)))} bytes"
        for purpose in PURPOSES[role]
        for usage in sorted(purpose.usages)
    )
    return CeremonyError(
        f"the key in this block is not for this role: usage {header.usage}, algorithm "
        f"{header.algorithm}, mode of use {header.mode}; the role takes {taken}"
    )


def _joined(components: Sequence[ClearKey]) -> ClearKey:
    values = [component.value.reveal() for component in components]
    return ClearKey(components[0].kind, Secret(reduce(xor, values)))


def _is_zero(key: ClearKey) -> bool:
    """Tell whether no bit is set that counts; in a TDES key, the parity bits do not."""
    if key.kind in TDES_KINDS:
        return not any(byte >> 1 for byte in key.value.reveal())
    return not any(key.value.reveal())


def _check_strength(key: ClearKey) -> None:
    """Refuse zeros, single DES, and a TDES key that claims three parts and has fewer."""
    raw = key.value.reveal()
    parts: Sequence[bytes] = ()
    if key.kind in TDES_KINDS:
        raw = odd_parity(key.value).reveal()
        parts = [raw[start : start + HALF_BYTES] for start in range(0, len(raw), HALF_BYTES)]
    if _is_zero(key) or len(set(parts)) != len(parts):
        raise CeremonyError("this key is too weak: it is zero, or two of its parts are equal")

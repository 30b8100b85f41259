"""Key roles, labels, generations and the PKCS#11 attributes that each key must have.

A label is ``<role>.g<generation>``, as in ``pin.g1``. New values are sealed under the highest
generation of a role on the token; older generations still open what they sealed.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final, Self

from hsm.errors import CeremonyError

LABEL_PATTERN: Final = re.compile(r"([a-z0-9-]{1,24})\.g([1-9][0-9]{0,5})")


class KeyKind(Enum):
    """What a key is made of."""

    AES_256 = "AES-256"
    EC_P256 = "EC P-256"


class Usage(StrEnum):
    """The one thing a key may do; each maps to PKCS#11 usage attributes."""

    ENCRYPT = "encrypt and decrypt"
    MAC = "make MACs"
    AGREE = "agree keys (ECDH)"
    SIGN = "sign"


class KeyRole(StrEnum):
    """What a key is for. One role, one usage."""

    PIN = "pin"
    """AES: the format-4 block of a sealed PIN."""
    PIN_MAC = "pin-mac"
    """AES-CMAC over a sealed PIN and what it belongs to."""
    PAN = "pan"
    """AES-GCM: a sealed PAN."""
    PAN_MAC = "pan-mac"
    """AES-CMAC over a sealed PAN and what it belongs to."""
    CONFIG_MAC = "config-mac"
    """AES-CMAC over vault configuration."""
    D1 = "d1"
    """ECDH: the key that Thales D1 encrypts PIN blocks to."""
    INTAKE = "intake"
    """ECDH: the key that PANs are encrypted to on their way in."""
    TOKEN_SIGN = "token-sign"  # noqa: S105 - a role, not a password
    """ECDSA: signs the access tokens of the OAuth endpoint."""

    @property
    def kind(self) -> KeyKind:
        """What keys of this role are made of."""
        return KeyKind.AES_256 if self.usage in (Usage.ENCRYPT, Usage.MAC) else KeyKind.EC_P256

    @property
    def usage(self) -> Usage:
        """What keys of this role may do."""
        return _USAGES[self]


_USAGES: Final[Mapping[KeyRole, Usage]] = {
    KeyRole.PIN: Usage.ENCRYPT,
    KeyRole.PIN_MAC: Usage.MAC,
    KeyRole.PAN: Usage.ENCRYPT,
    KeyRole.PAN_MAC: Usage.MAC,
    KeyRole.CONFIG_MAC: Usage.MAC,
    KeyRole.D1: Usage.AGREE,
    KeyRole.INTAKE: Usage.AGREE,
    KeyRole.TOKEN_SIGN: Usage.SIGN,
}


@dataclass(frozen=True, slots=True)
class KeyLabel:
    """The name of one key on the token: a role and its generation, counted from 1."""

    role: KeyRole
    generation: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a label such as ``pin-mac.g2``.

        Raises:
            CeremonyError: *text* is not a label of ours.
        """
        match = LABEL_PATTERN.fullmatch(text)
        if match is None or match[1] not in set(KeyRole):
            raise CeremonyError("not a key label")
        return cls(KeyRole(match[1]), int(match[2]))

    def of(self, role: KeyRole) -> "KeyLabel":
        """Name the key of another role in the same generation."""
        return KeyLabel(role, self.generation)

    def __str__(self) -> str:
        return f"{self.role}.g{self.generation}"

"""Control tokens: UUIDs that say where their row is.

They are of version 8 (RFC 9562, section 5.8), in their usual form::

    pppprrrr-rrrr-8rrr-vrrr-rrrrrrrrrrrr

``p``, 16 bits, is how SHA-256 of the issuer id begins; ``v`` has the two bits of the variant, and
two random ones; ``r`` is random: 106 bits in all. The published address of a control token names no
issuer, and rows are split by it: the prefix says of which issuers a control token may be. It is no
secret, as an issuer id is none, and it says less.
"""

import hashlib
import re
import uuid
from typing import Final

RANDOM_BYTES: Final = 16
PREFIX_BYTES: Final = 2
PREFIX_CHARS: Final = 2 * PREFIX_BYTES
_PREFIX: Final = re.compile(rf"[0-9a-f]{{{PREFIX_CHARS}}}")
_VERSION: Final = 8 << 76
_VARIANT: Final = 0b10 << 62
_RANDOM: Final = (1 << 128) - 1 ^ 0xFFFF << 112 ^ 0xF << 76 ^ 0b11 << 62
"""Which bits of a control token are random."""


def make(issuer_id: str, random: bytes) -> str:
    """Make a control token of *random*, 16 bytes, of which 22 bits are not used."""
    drawn = int.from_bytes(random) & _RANDOM
    placed = int(prefix(issuer_id), 16) << 112
    return str(uuid.UUID(int=placed | _VERSION | _VARIANT | drawn))


def prefix(issuer_id: str) -> str:
    """Return how the control tokens of an issuer begin: four hexadecimal digits.

    >>> prefix("testbank01")
    '3b7d'
    """
    return hashlib.sha256(issuer_id.encode()).hexdigest()[:PREFIX_CHARS]


def prefix_of(secret: str) -> str | None:
    """Return how a control token, or what begins as one, begins; None: as none does."""
    found = _PREFIX.match(secret)
    return None if found is None else found[0]

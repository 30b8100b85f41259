"""Layouts of sealed values, and what their MACs cover.

::

    sealed PIN    01 | n | key label, n bytes | block 16                            | CMAC 16
    sealed PAN    01 | n | key label, n bytes | nonce 12, ciphertext 20, GCM tag 16  | CMAC 16
    sealed value  01 | n | key label, n bytes | nonce 12, ciphertext 256, GCM tag 16 | CMAC 16

A verification value is JSON, filled up with spaces, so that its size does not tell the length of
the PIN.

The MAC key is the one of the same generation as the key in the label.
"""

from dataclasses import dataclass
from typing import Final

from hsm.errors import CeremonyError, SealBroken
from hsm.pkcs11.keys import MAC_ROLES, KeyLabel, KeyRole
from hsm.port import CardRef, ValueKind

VERSION: Final = 1
CMAC_BYTES: Final = 16
PIN_BLOCK_BYTES: Final = 16
NONCE_BYTES: Final = 12
PAN_FIELD_BYTES: Final = 20
GCM_TAG_BYTES: Final = 16
VALUE_FIELD_BYTES: Final = 256
BODY_BYTES: Final = {
    KeyRole.PIN: PIN_BLOCK_BYTES,
    KeyRole.PAN: NONCE_BYTES + PAN_FIELD_BYTES + GCM_TAG_BYTES,
    KeyRole.VALUES: NONCE_BYTES + VALUE_FIELD_BYTES + GCM_TAG_BYTES,
}


@dataclass(frozen=True, slots=True)
class Envelope:
    """The parts of a sealed value, not yet verified."""

    label: KeyLabel
    body: bytes
    cmac: bytes

    @property
    def mac_label(self) -> KeyLabel:
        """The key that its CMAC was made with."""
        return self.label.of(MAC_ROLES[self.label.role])


def pack(envelope: Envelope) -> bytes:
    """Join the parts."""
    label = str(envelope.label).encode()
    return bytes((VERSION, len(label))) + label + envelope.body + envelope.cmac


def unpack(blob: bytes, role: KeyRole) -> Envelope:
    """Split a sealed value of *role*.

    Raises:
        SealBroken: it is not one.
    """
    try:
        label_end = 2 + blob[1]
        label = KeyLabel.parse(blob[2:label_end].decode("ascii"))
    except (IndexError, UnicodeDecodeError, CeremonyError):
        raise SealBroken from None
    body_end = label_end + BODY_BYTES[role]
    if blob[0] != VERSION or label.role is not role or len(blob) != body_end + CMAC_BYTES:
        raise SealBroken
    return Envelope(label, blob[label_end:body_end], blob[body_end:])


def pin_mac_input(card: CardRef, counter: int, label: KeyLabel, block: bytes) -> bytes:
    """Bind a sealed PIN to its card and change counter."""
    return length_prefixed(
        b"pin",
        card.issuer_id.encode(),
        card.card_id.encode(),
        counter.to_bytes(8),
        str(label).encode(),
        block,
    )


def pan_mac_input(card: CardRef, label: KeyLabel, body: bytes) -> bytes:
    """Bind a sealed PAN to its card."""
    return length_prefixed(
        b"pan", card.issuer_id.encode(), card.card_id.encode(), str(label).encode(), body
    )


def value_mac_input(
    card: CardRef, counter: int, kind: ValueKind, label: KeyLabel, body: bytes
) -> bytes:
    """Bind a sealed verification value to its card, change counter and kind."""
    return length_prefixed(
        b"value",
        card.issuer_id.encode(),
        card.card_id.encode(),
        counter.to_bytes(8),
        kind.encode(),
        str(label).encode(),
        body,
    )


def length_prefixed(*parts: bytes) -> bytes:
    """Join *parts*, each behind its length in 4 bytes, so that no two lists read the same."""
    return b"".join(len(part).to_bytes(4) + part for part in parts)

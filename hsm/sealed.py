"""Layouts of sealed values, and what their CMACs cover.

::

    sealed PIN     01 | n | key label, n bytes | block 16                            | CMAC 16
    sealed record  01 | n | key label, n bytes | nonce 12, ciphertext 320, GCM tag 16 | CMAC 16
    sealed value   01 | n | key label, n bytes | nonce 12, ciphertext 256, GCM tag 16 | CMAC 16
    sealed TZPK    01 | n | key label, n bytes | nonce 12, ciphertext 16, GCM tag 16  | CMAC 16

``01`` is the version of the layout and ``n`` the length of the label, one byte each. What stands
between label and CMAC is the body. A PIN verification value is JSON, filled up with spaces, so
that its size does not tell the length of the PIN.

The key that makes the CMAC has the same generation as the key in the label. A grant
(:mod:`hsm.grants`) is not enciphered: the key in its label makes its CMAC, and its body has any
length.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from crypto.pinblock import iso4
from hsm.errors import CeremonyError, SealBroken
from hsm.pkcs11.hsm_token import GCM_NONCE_BYTES, GCM_TAG_BYTES
from hsm.pkcs11.keys import MAC_ROLES, KeyLabel, KeyRole
from hsm.port import CardRef, Purpose, ValueKind
from hsm.records import FIELD_BYTES

VERSION: Final = 1
CMAC_BYTES: Final = 16
VALUE_FIELD_BYTES: Final = 256
TZPK_BYTES: Final = 16
BODY_BYTES: Final = {
    KeyRole.PIN: iso4.BLOCK_BYTES,
    KeyRole.RECORD: GCM_NONCE_BYTES + FIELD_BYTES + GCM_TAG_BYTES,
    KeyRole.VALUES: GCM_NONCE_BYTES + VALUE_FIELD_BYTES + GCM_TAG_BYTES,
    KeyRole.TZPK: GCM_NONCE_BYTES + TZPK_BYTES + GCM_TAG_BYTES,
}


@dataclass(frozen=True, slots=True)
class Envelope:
    """The parts of a sealed value. The CMAC was not checked yet."""

    label: KeyLabel
    body: bytes
    cmac: bytes

    @property
    def mac_label(self) -> KeyLabel:
        """The label of the key that makes the CMAC."""
        return self.label.of(MAC_ROLES.get(self.label.role, self.label.role))


def pack(envelope: Envelope) -> bytes:
    r"""Join the parts of a sealed value.

    >>> envelope = Envelope(KeyLabel(KeyRole.PIN, 1), b"B" * 16, b"C" * 16)
    >>> pack(envelope)
    b'\x01\x06pin.g1BBBBBBBBBBBBBBBBCCCCCCCCCCCCCCCC'
    """
    return beginning(envelope.label) + envelope.body + envelope.cmac


@lru_cache(maxsize=256)
def beginning(label: KeyLabel) -> bytes:
    r"""Return what stands before the body of every value that is sealed under a key.

    >>> beginning(KeyLabel(KeyRole.PIN, 1))
    b'\x01\x06pin.g1'
    """
    text = str(label).encode()
    return bytes((VERSION, len(text))) + text


def unpack(blob: bytes, role: KeyRole) -> Envelope:
    r"""Split a sealed value into its parts; the caller checks the CMAC.

    Raises:
        SealBroken: *blob* is not laid out as above, or its key is not of *role*.

    >>> blob = b"\x01\x06pin.g1" + b"B" * 16 + b"C" * 16
    >>> str(unpack(blob, KeyRole.PIN).label)
    'pin.g1'
    """
    try:
        label_end = 2 + blob[1]
        label = _label(blob[2:label_end])
    except (IndexError, UnicodeDecodeError, CeremonyError):
        raise SealBroken from None
    body_end = len(blob) - CMAC_BYTES
    size_bytes = body_end - label_end
    if blob[0] != VERSION or label.role is not role:
        raise SealBroken
    if size_bytes < 0 or size_bytes != BODY_BYTES.get(role, size_bytes):
        raise SealBroken
    return Envelope(label, blob[label_end:body_end], blob[body_end:])


@lru_cache(maxsize=256)
def _label(text: bytes) -> KeyLabel:
    """Read a label, once: all values name the same few."""
    return KeyLabel.parse(text.decode("ascii"))


def pin_mac_input(card: CardRef, holder: str, counter: int, label: KeyLabel, block: bytes) -> bytes:
    """Return what the CMAC of a sealed PIN covers.

    That is its card, the cardholder whose PIN it is, its change counter, key and block.
    """
    return length_prefixed(
        b"pin",
        card.issuer_id.encode(),
        card.card_id.encode(),
        holder.encode(),
        counter.to_bytes(8),
        str(label).encode(),
        block,
    )


def record_mac_input(card: CardRef, label: KeyLabel, body: bytes) -> bytes:
    """Return what the CMAC of a sealed card record covers: its card, key and body."""
    return length_prefixed(
        b"record", card.issuer_id.encode(), card.card_id.encode(), str(label).encode(), body
    )


def value_mac_input(
    card: CardRef, holder: str, counter: int, kind: ValueKind, label: KeyLabel, body: bytes
) -> bytes:
    """Return what the CMAC of a sealed PIN verification value covers.

    That is its card, the cardholder of whose PIN it was made, its change counter, its kind, key and
    body.
    """
    return length_prefixed(
        b"value",
        card.issuer_id.encode(),
        card.card_id.encode(),
        holder.encode(),
        counter.to_bytes(8),
        kind.encode(),
        str(label).encode(),
        body,
    )


def tzpk_mac_input(
    grant_id: str, token_digest: bytes, purpose: Purpose, label: KeyLabel, body: bytes
) -> bytes:
    """Return what the CMAC of a sealed TZPK covers.

    That is the grant and SHA-256 of the control token for which it was made, their purpose, its
    key and body.
    """
    return length_prefixed(
        b"tzpk", grant_id.encode(), token_digest, purpose.encode(), str(label).encode(), body
    )


def length_prefixed(*parts: bytes) -> bytes:
    """Join *parts*, each behind its length in 4 bytes, big-endian.

    Two different lists of parts never give the same bytes, however they are split.

    >>> length_prefixed(b"ab", b"c").hex()
    '0000000261620000000163'
    >>> length_prefixed(b"a", b"bc") == length_prefixed(b"ab", b"c")
    False
    """
    return b"".join([len(part).to_bytes(4) + part for part in parts])

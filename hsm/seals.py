"""Sealing and opening of card records, PINs and PIN verification values with keys of the HSM token.

Opening checks the CMAC before anything else, so that a GCM error always means a broken HSM token.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from hmac import compare_digest
from typing import Final

from crypto.errors import CryptoError
from crypto.pinblock import iso4
from crypto.secret import Secret
from crypto.types import Pin
from hsm.errors import HsmError, KeyMissing, KeyNotInUse, SealBroken
from hsm.grants import Grant, digest
from hsm.pkcs11.hsm_token import GCM_NONCE_BYTES, HsmToken
from hsm.pkcs11.keyring import Keyring
from hsm.pkcs11.keys import MAC_ROLES, KeyLabel, KeyRole
from hsm.port import CardRef, SealedPin, SealedRecord, SealedTzpk, SealedValue, ValueKind
from hsm.records import CardRecord, read_record, write_record
from hsm.sealed import (
    VALUE_FIELD_BYTES,
    Envelope,
    pack,
    pin_mac_input,
    record_mac_input,
    tzpk_mac_input,
    unpack,
    value_mac_input,
)
from hsm.verification import Value

NOT_OPEN: Final = (SealBroken, KeyMissing, KeyNotInUse)
"""Why a value does not open, while the HSM token works."""


@dataclass(frozen=True, slots=True)
class PinOf:
    """Whose PIN it is, and of which change."""

    record: CardRecord
    card: CardRef
    counter: int

    @property
    def changes_before(self) -> int:
        """How many changes there were before; a PIN that comes with its card is change 0."""
        return max(self.counter - 1, 0)


class Seals:
    """Seals under the active key of a role, opens under every one that the keyring lets open.

    The layouts are those of :mod:`hsm.sealed`. Every method may raise ``VaultUnavailable``: the
    HSM token does not answer, or lacks the key; ``KeyNotInUse``, one of them: it must not open.
    """

    def __init__(self, hsm_token: HsmToken, keyring: Keyring) -> None:
        self._hsm_token = hsm_token
        self._keyring = keyring

    def seal_record(self, record: CardRecord, card: CardRef) -> SealedRecord:
        """Seal the record of *card*."""
        label = self._keyring.active[KeyRole.RECORD]
        body = self._encipher(label, write_record(record))
        return SealedRecord(self._pack(label, body, record_mac_input(card, label, body)))

    def is_lost(self, sealed: SealedRecord) -> bool:
        """Tell whether the table says of the key of a record that it never opens anything again.

        Raises:
            SealBroken: it is no sealed record.
        """
        return self._keyring.is_lost(unpack(sealed, KeyRole.RECORD).label)

    def open_record(self, sealed: SealedRecord, card: CardRef) -> CardRecord:
        """Open the record of *card*.

        Raises:
            SealBroken: it was not sealed here for this card.
        """
        envelope = unpack(sealed, KeyRole.RECORD)
        self._verify(envelope, record_mac_input(card, envelope.label, envelope.body))
        return read_record(self._decipher(envelope))

    def seal_pin(self, pin: Pin, record: CardRecord, card: CardRef, counter: int) -> SealedPin:
        """Seal a PIN of the card's holder as an enciphered PIN block of format 4 (ISO 9564-1)."""
        label = self._keyring.active[KeyRole.PIN]

        def encrypt(iv: bytes, fields: bytes) -> bytes:
            return self._hsm_token.encrypt_cbc(label, iv, fields)

        block = iso4.encipher(pin, record.pan, self._hsm_token.random, encrypt)
        mac_input = _of_pin(PinOf(record, card, counter), label, block)
        return SealedPin(self._pack(label, block, mac_input))

    def open_pin(self, sealed: SealedPin, record: CardRecord, card: CardRef, counter: int) -> Pin:
        """Open a PIN.

        Raises:
            SealBroken: it was not sealed here for this card, its PAN, its holder and this counter.
        """
        envelope = self._verified_pin(sealed, PinOf(record, card, counter))
        decrypt = partial(self._hsm_token.decrypt_block, envelope.label)
        try:
            return iso4.decipher(envelope.body, record.pan, decrypt)
        except CryptoError:
            # The CMAC was right: this PIN was sealed for another PAN of the same card.
            raise SealBroken from None

    def open_pins(
        self, sealed: Sequence[SealedPin], owners: Sequence[PinOf]
    ) -> Sequence[Pin | HsmError]:
        """Open PINs as :meth:`open_pin` does, those under one key with two deciphering calls.

        Returns:
            Each PIN, or in its place the error for which it does not open.
        """
        opened: dict[int, Pin | HsmError] = {}
        verified: dict[KeyLabel, list[tuple[int, bytes]]] = defaultdict(list)
        for number, (each, owner) in enumerate(zip(sealed, owners, strict=True)):
            try:
                envelope = self._verified_pin(each, owner)
            except NOT_OPEN as error:
                opened[number] = error
            else:
                verified[envelope.label].append((number, envelope.body))
        for label, several in verified.items():
            numbers, blocks = zip(*several, strict=True)
            pans = [owners[number].record.pan for number in numbers]
            decrypt = partial(self._hsm_token.decrypt_block, label)
            for number, pin in zip(numbers, iso4.decipher_all(blocks, pans, decrypt), strict=True):
                opened[number] = SealBroken() if pin is None else pin
        return [opened[number] for number in range(len(sealed))]

    def seal_pins(self, pins: Sequence[Pin], owners: Sequence[PinOf]) -> Sequence[SealedPin]:
        """Seal PINs as :meth:`seal_pin` does, with two enciphering calls."""
        if not pins:
            return []
        label = self._keyring.active[KeyRole.PIN]
        encrypt = partial(self._hsm_token.encrypt_block, label)
        pans = [owner.record.pan for owner in owners]
        blocks = iso4.encipher_all(pins, pans, self._hsm_token.random, encrypt)
        return [
            SealedPin(self._pack(label, block, _of_pin(owner, label, block)))
            for owner, block in zip(owners, blocks, strict=True)
        ]

    def seal_value(self, value: Value, kind: ValueKind, owner: PinOf) -> SealedValue:
        """Seal a PIN verification value, filled up with spaces to 256 bytes."""
        label = self._keyring.active[KeyRole.VALUES]
        body = self._encipher(label, value.reveal().ljust(VALUE_FIELD_BYTES))
        return SealedValue(self._pack(label, body, _of_value(owner, kind, label, body)))

    def open_value(self, sealed: SealedValue, kind: ValueKind, owner: PinOf) -> Value:
        """Open a PIN verification value.

        Raises:
            SealBroken: it was not sealed here for this card, its holder and this counter as a value
                of this kind.
        """
        envelope = unpack(sealed, KeyRole.VALUES)
        self._verify(envelope, _of_value(owner, kind, envelope.label, envelope.body))
        return Value(self._decipher(envelope).rstrip())

    def seal_tzpk(self, tzpk: Secret[bytes], grant: Grant, control_token: str) -> SealedTzpk:
        """Seal a TZPK, 16 bytes, for a control token."""
        label = self._keyring.active[KeyRole.TZPK]
        body = self._encipher(label, tzpk.reveal())
        return SealedTzpk(self._pack(label, body, _of_token(grant, control_token, label, body)))

    def open_tzpk(self, sealed: SealedTzpk, grant: Grant, control_token: str) -> Secret[bytes]:
        """Open a TZPK.

        Raises:
            SealBroken: it was not sealed here for this grant and control token.
        """
        envelope = unpack(sealed, KeyRole.TZPK)
        self._verify(envelope, _of_token(grant, control_token, envelope.label, envelope.body))
        return Secret(self._decipher(envelope))

    def _verified_pin(self, sealed: SealedPin, owner: PinOf) -> Envelope:
        envelope = unpack(sealed, KeyRole.PIN)
        self._verify(envelope, _of_pin(owner, envelope.label, envelope.body))
        return envelope

    def _encipher(self, label: KeyLabel, field: bytes) -> bytes:
        nonce = self._hsm_token.random(GCM_NONCE_BYTES)
        return nonce + self._hsm_token.encrypt_gcm(label, nonce, field)

    def _decipher(self, envelope: Envelope) -> bytes:
        nonce, ciphertext = envelope.body[:GCM_NONCE_BYTES], envelope.body[GCM_NONCE_BYTES:]
        return self._hsm_token.decrypt_gcm(envelope.label, nonce, ciphertext)

    def _pack(self, label: KeyLabel, body: bytes, mac_input: bytes) -> bytes:
        cmac = self._keyring.mac(label.of(MAC_ROLES[label.role]), mac_input)
        return pack(Envelope(label, body, cmac))

    def _verify(self, envelope: Envelope, mac_input: bytes) -> None:
        if not compare_digest(self._keyring.mac(envelope.mac_label, mac_input), envelope.cmac):
            raise SealBroken


def _of_token(grant: Grant, control_token: str, label: KeyLabel, body: bytes) -> bytes:
    return tzpk_mac_input(grant.grant_id, digest(control_token), grant.purpose, label, body)


def _of_pin(owner: PinOf, label: KeyLabel, block: bytes) -> bytes:
    return pin_mac_input(owner.card, owner.record.holder, owner.counter, label, block)


def _of_value(owner: PinOf, kind: ValueKind, label: KeyLabel, body: bytes) -> bytes:
    return value_mac_input(owner.card, owner.record.holder, owner.counter, kind, label, body)

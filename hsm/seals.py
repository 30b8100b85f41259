"""Sealing and opening of card records, PINs and PIN verification values with keys of the HSM token.

Opening checks the CMAC before anything else, so that a GCM error always means a broken HSM token.
"""

from hmac import compare_digest

from crypto.errors import CryptoError
from crypto.pinblock import iso4
from crypto.secret import Secret
from crypto.types import Pin
from hsm.errors import SealBroken
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


class Seals:
    """Seals under the newest key of a role, opens under a key of any generation.

    The layouts are those of :mod:`hsm.sealed`. Every method may raise ``VaultUnavailable``: the
    HSM token does not answer, or lacks the key.
    """

    def __init__(self, hsm_token: HsmToken, keyring: Keyring) -> None:
        self._hsm_token = hsm_token
        self._active = keyring.active

    def seal_record(self, record: CardRecord, card: CardRef) -> SealedRecord:
        """Seal the record of *card*."""
        label = self._active[KeyRole.RECORD]
        body = self._encipher(label, write_record(record))
        return SealedRecord(self._pack(label, body, record_mac_input(card, label, body)))

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
        label = self._active[KeyRole.PIN]

        def encrypt(iv: bytes, fields: bytes) -> bytes:
            return self._hsm_token.encrypt_cbc(label, iv, fields)

        block = iso4.encipher(pin, record.pan, self._hsm_token.random, encrypt)
        mac_input = pin_mac_input(card, record.holder, counter, label, block)
        return SealedPin(self._pack(label, block, mac_input))

    def open_pin(self, sealed: SealedPin, record: CardRecord, card: CardRef, counter: int) -> Pin:
        """Open a PIN.

        Raises:
            SealBroken: it was not sealed here for this card, its PAN, its holder and this counter.
        """
        envelope = unpack(sealed, KeyRole.PIN)
        label, body = envelope.label, envelope.body
        self._verify(envelope, pin_mac_input(card, record.holder, counter, label, body))

        def decrypt(block: bytes) -> bytes:
            return self._hsm_token.decrypt_block(label, block)

        try:
            return iso4.decipher(body, record.pan, decrypt)
        except CryptoError:
            # The CMAC was right: this PIN was sealed for another PAN of the same card.
            raise SealBroken from None

    def seal_value(self, value: Value, kind: ValueKind, card: CardRef, counter: int) -> SealedValue:
        """Seal a PIN verification value, filled up with spaces to 256 bytes."""
        label = self._active[KeyRole.VALUES]
        body = self._encipher(label, value.reveal().ljust(VALUE_FIELD_BYTES))
        return SealedValue(
            self._pack(label, body, value_mac_input(card, counter, kind, label, body))
        )

    def open_value(
        self, sealed: SealedValue, kind: ValueKind, card: CardRef, counter: int
    ) -> Value:
        """Open a PIN verification value.

        Raises:
            SealBroken: it was not sealed here for this card and counter as a value of this kind.
        """
        envelope = unpack(sealed, KeyRole.VALUES)
        label, body = envelope.label, envelope.body
        self._verify(envelope, value_mac_input(card, counter, kind, label, body))
        return Value(self._decipher(envelope).rstrip())

    def seal_tzpk(self, tzpk: Secret[bytes], grant: Grant, control_token: str) -> SealedTzpk:
        """Seal a TZPK, 16 bytes, for a control token."""
        label = self._active[KeyRole.TZPK]
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

    def _encipher(self, label: KeyLabel, field: bytes) -> bytes:
        nonce = self._hsm_token.random(GCM_NONCE_BYTES)
        return nonce + self._hsm_token.encrypt_gcm(label, nonce, field)

    def _decipher(self, envelope: Envelope) -> bytes:
        nonce, ciphertext = envelope.body[:GCM_NONCE_BYTES], envelope.body[GCM_NONCE_BYTES:]
        return self._hsm_token.decrypt_gcm(envelope.label, nonce, ciphertext)

    def _pack(self, label: KeyLabel, body: bytes, mac_input: bytes) -> bytes:
        cmac = self._hsm_token.mac(label.of(MAC_ROLES[label.role]), mac_input)
        return pack(Envelope(label, body, cmac))

    def _verify(self, envelope: Envelope, mac_input: bytes) -> None:
        if not compare_digest(self._hsm_token.mac(envelope.mac_label, mac_input), envelope.cmac):
            raise SealBroken


def _of_token(grant: Grant, control_token: str, label: KeyLabel, body: bytes) -> bytes:
    return tzpk_mac_input(grant.grant_id, digest(control_token), grant.purpose, label, body)

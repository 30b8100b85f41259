"""Sealing and opening of PANs, PINs and verification values with keys of the token.

Opening checks the CMAC before anything else.
"""

from hmac import compare_digest

from crypto.errors import CryptoError
from crypto.pinblock import iso4
from crypto.types import Pan, Pin
from hsm.errors import SealBroken
from hsm.pkcs11.hsm_token import HsmToken
from hsm.pkcs11.keyring import Keyring
from hsm.pkcs11.keys import MAC_ROLES, KeyLabel, KeyRole
from hsm.port import CardRef, SealedPan, SealedPin, SealedValue, ValueKind
from hsm.sealed import (
    NONCE_BYTES,
    PAN_FIELD_BYTES,
    VALUE_FIELD_BYTES,
    Envelope,
    pack,
    pan_mac_input,
    pin_mac_input,
    unpack,
    value_mac_input,
)
from hsm.verification import Value


class Seals:
    """Seals under the newest key of a role, opens under any.

    Every method that opens raises ``SealBroken`` for what was not sealed here for the same card,
    counter and kind.
    """

    def __init__(self, hsm_token: HsmToken, keyring: Keyring) -> None:
        self._hsm_token = hsm_token
        self._active = keyring.active

    def seal_pan(self, pan: Pan, card: CardRef) -> SealedPan:
        """Seal a PAN; its field hides how many digits it has."""
        label = self._active[KeyRole.PAN]
        digits = pan.reveal()
        field = (bytes((len(digits),)) + digits.encode()).ljust(PAN_FIELD_BYTES, b"\0")
        body = self._encipher(label, field)
        return SealedPan(self._pack(label, body, pan_mac_input(card, label, body)))

    def open_pan(self, sealed: SealedPan, card: CardRef) -> Pan:
        """Open a PAN."""
        envelope = unpack(sealed, KeyRole.PAN)
        self._verify(envelope, pan_mac_input(card, envelope.label, envelope.body))
        field = self._decipher(envelope)
        return Pan(field[1 : 1 + field[0]].decode("ascii"))

    def seal_pin(self, pin: Pin, pan: Pan, card: CardRef, counter: int) -> SealedPin:
        """Seal a PIN as a format-4 block."""
        label = self._active[KeyRole.PIN]
        block = iso4.encipher(
            pin,
            pan,
            self._hsm_token.random,
            lambda clear: self._hsm_token.encrypt_block(label, clear),
        )
        return SealedPin(self._pack(label, block, pin_mac_input(card, counter, label, block)))

    def open_pin(self, sealed: SealedPin, pan: Pan, card: CardRef, counter: int) -> Pin:
        """Open a PIN."""
        envelope = unpack(sealed, KeyRole.PIN)
        self._verify(envelope, pin_mac_input(card, counter, envelope.label, envelope.body))
        label = envelope.label
        try:
            return iso4.decipher(
                envelope.body, pan, lambda block: self._hsm_token.decrypt_block(label, block)
            )
        except CryptoError:
            # The CMAC was right: this PIN was sealed for another PAN of the same card.
            raise SealBroken from None

    def seal_value(self, value: Value, kind: ValueKind, card: CardRef, counter: int) -> SealedValue:
        """Seal a verification value."""
        label = self._active[KeyRole.VALUES]
        body = self._encipher(label, value.reveal().ljust(VALUE_FIELD_BYTES))
        return SealedValue(
            self._pack(label, body, value_mac_input(card, counter, kind, label, body))
        )

    def open_value(
        self, sealed: SealedValue, kind: ValueKind, card: CardRef, counter: int
    ) -> Value:
        """Open a verification value."""
        envelope = unpack(sealed, KeyRole.VALUES)
        label, body = envelope.label, envelope.body
        self._verify(envelope, value_mac_input(card, counter, kind, label, body))
        return Value(self._decipher(envelope).rstrip())

    def _encipher(self, label: KeyLabel, field: bytes) -> bytes:
        nonce = self._hsm_token.random(NONCE_BYTES)
        return nonce + self._hsm_token.encrypt_gcm(label, nonce, field)

    def _decipher(self, envelope: Envelope) -> bytes:
        nonce, ciphertext = envelope.body[:NONCE_BYTES], envelope.body[NONCE_BYTES:]
        return self._hsm_token.decrypt_gcm(envelope.label, nonce, ciphertext)

    def _pack(self, label: KeyLabel, body: bytes, mac_input: bytes) -> bytes:
        cmac = self._hsm_token.mac(label.of(MAC_ROLES[label.role]), mac_input)
        return pack(Envelope(label, body, cmac))

    def _verify(self, envelope: Envelope, mac_input: bytes) -> None:
        if not compare_digest(self._hsm_token.mac(envelope.mac_label, mac_input), envelope.cmac):
            raise SealBroken

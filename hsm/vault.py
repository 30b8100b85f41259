"""PinVault over a Token: clear PINs and PANs are born and die in this file.

Opening a sealed value checks its CMAC before anything else. Every failure of a JWE or a PIN
block is the one ``PinRejected``.
"""

import hashlib
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from hmac import compare_digest
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from crypto.errors import CryptoError, JweError, JwsError, PinBlockError, WeakPinError
from crypto.jose import json_object, jwe, jws
from crypto.jose.jwk import EcPublicKey, Point, public_jwk, thumbprint
from crypto.pinblock import PinBlockFormat, iso0, iso4
from crypto.translation import permit
from crypto.types import Pan, Pin, PinBlock
from crypto.weak_pins import check
from hsm.config import ConfigReader, Iso0Wire, PolicyBody, RecipientBody, WireProfile, seal
from hsm.errors import (
    CardIdHoldsPan,
    ConfigRefused,
    LuhnInvalid,
    PanRejected,
    PinRejected,
    SealBroken,
    TypeNotOffered,
    VaultUnavailable,
    WeakPinRefused,
)
from hsm.keys import OWN_ROLES, KeyKind, KeyLabel, KeyRole, Usage
from hsm.port import (
    CardRef,
    ConfigKind,
    PinBlockType,
    SealedCard,
    SealedConfig,
    SealedPan,
    SealedPin,
    VaultConfig,
)
from hsm.sealed import (
    MAC_ROLES,
    NONCE_BYTES,
    PAN_FIELD_BYTES,
    Envelope,
    pack,
    pan_mac_input,
    pin_mac_input,
    unpack,
)
from hsm.token import Token

HEARTBEAT_BYTES: Final = 16


class Vault:
    """The :class:`hsm.port.PinVault` of this service. Used from one thread only.

    Raises:
        VaultUnavailable: at construction, when a role has no key on the token.
    """

    def __init__(self, token: Token, now: Callable[[], datetime]) -> None:
        self._token = token
        self._active = _active_labels(token)
        self._public = {
            label: _public_key(token.public_point(label))
            for label in token.labels()
            if label.role.kind is KeyKind.EC_P256
        }
        self._by_kid = {key.kid: label for label, key in self._public.items()}
        self._configs = ConfigReader(token.mac, now)

    def seal_pan(self, jwe: str, card: CardRef) -> SealedCard:
        """Take in a PAN: a JWE to our intake key."""
        try:
            members = self._open_jwe(jwe, KeyRole.INTAKE)
            pan = Pan(_text(members, "pan"))
        except CryptoError:
            raise PanRejected from None
        if not pan.luhn_valid:
            raise LuhnInvalid
        if pan.reveal() in card.card_id:
            raise CardIdHoldsPan
        return SealedCard(self._seal_pan(pan, card), pan.last_four)

    def set_pin_from_jwe(
        self,
        jwe: str,
        block_type: PinBlockType,
        config: VaultConfig,
        card: CardRef,
        sealed_pan: SealedPan,
        counter: int,
    ) -> SealedPin:
        """Take in the PIN of *card* from D1's JWE and seal it for change *counter*."""
        if block_type is not PinBlockType.ISO0:
            raise TypeNotOffered
        wire = self._configs.read(ConfigKind.WIRE, WireProfile, config, card.issuer_id)
        policy = self._configs.read(ConfigKind.POLICY, PolicyBody, config, card.issuer_id)
        pan = self._open_pan(sealed_pan, card)
        try:
            members = self._open_jwe(jwe, KeyRole.D1, wire.jwe.extra)
            pin = _pin_of(members, wire.iso0, pan)
            check(pin, policy.policy)
        except WeakPinError:
            raise WeakPinRefused from None
        except CryptoError:
            raise PinRejected from None
        return self._seal_pin(pin, pan, card, counter)

    def export_jwe(
        self,
        sealed_pin: SealedPin,
        sealed_pan: SealedPan,
        config: VaultConfig,
        card: CardRef,
        counter: int,
    ) -> str:
        """Hand out the PIN as an ISO-0 block in a JWE to the configured recipient."""
        wire = self._configs.read(ConfigKind.WIRE, WireProfile, config, card.issuer_id)
        recipient = self._configs.read(ConfigKind.RECIPIENT, RecipientBody, config, card.issuer_id)
        permit(PinBlockFormat.ISO4, PinBlockFormat.ISO0, same_pan=True)
        pan = self._open_pan(sealed_pan, card)
        block = iso0.encode(self._open_pin(sealed_pin, pan, card, counter), pan)
        plaintext = _iso0_plaintext(block, wire.iso0)
        ephemeral = ec.generate_private_key(ec.SECP256R1())
        return jwe.encrypt(plaintext, recipient.key, ephemeral=ephemeral, random=self._token.random)

    def seal_config(self, config: SealedConfig) -> SealedConfig:
        """Check *config* and return it with the active key label and its CMAC."""
        sealed = seal(config, self._active[KeyRole.CONFIG_MAC], self._token.mac)
        if config.kind is ConfigKind.RECIPIENT:
            recipient = RecipientBody.model_validate_json(config.body).key
            if thumbprint(recipient.x, recipient.y) in self._by_kid:
                raise ConfigRefused("refused members: jwk is one of our own keys")
        return sealed

    def sign_token(self, claims: Mapping[str, object]) -> str:
        """Sign *claims* as an ES256 JWT of type ``at+jwt``."""
        label = self._active[KeyRole.TOKEN_SIGN]
        signing_input = jws.signing_input(claims, self._public[label].kid, "at+jwt")
        digest = hashlib.sha256(signing_input).digest()
        return jws.attach(signing_input, self._token.sign(label, digest))

    def public_jwks(self, role: KeyRole) -> Mapping[str, list[dict[str, str]]]:
        """List the public keys of *role*, newest generation first."""
        use = "sig" if role.usage is Usage.SIGN else "enc"
        labels = sorted(
            (label for label in self._public if label.role is role),
            key=lambda label: label.generation,
            reverse=True,
        )
        return {"keys": [public_jwk(self._public[label], use) for label in labels]}

    def health(self) -> None:
        """Use every active key once and compare what comes back."""
        for label in self._active.values():
            if not self._answers(label):
                raise VaultUnavailable("the token's answer is wrong")

    def _answers(self, label: KeyLabel) -> bool:
        token, block = self._token, self._token.random(HEARTBEAT_BYTES)
        match label.role.usage:
            case Usage.MAC:
                return token.mac(label, block) == token.mac(label, block)
            case Usage.ENCRYPT:
                return token.decrypt_block(label, token.encrypt_block(label, block)) == block
            case Usage.AGREE:
                return self._reads_a_jwe(label, block)
            case Usage.SIGN:
                return self._signs(label)
            case Usage.ENCRYPT_ONLY | Usage.DECRYPT:
                return False  # of shared keys only, and none of those is ever active

    def _reads_a_jwe(self, label: KeyLabel, block: bytes) -> bool:
        ephemeral = ec.generate_private_key(ec.SECP256R1())
        text = jwe.encrypt(
            block, self._public[label], ephemeral=ephemeral, random=self._token.random
        )
        try:
            return jwe.decrypt(jwe.parse(text), partial(self._agree, label.role)).reveal() == block
        except JweError:
            return False

    def _signs(self, label: KeyLabel) -> bool:
        key = self._public[label]
        try:
            jws.verify(self.sign_token({}), {key.kid: key}, "at+jwt")
        except JwsError:
            return False
        return True

    def _open_jwe(
        self, text: str, role: KeyRole, extra_members: frozenset[str] = frozenset()
    ) -> dict[str, object]:
        """Decrypt a JWE to one of our keys of *role* and read its JSON object."""
        message = jwe.parse(text, extra_members)
        plaintext = jwe.decrypt(message, partial(self._agree, role))
        return json_object.parse(plaintext.reveal())

    def _agree(self, role: KeyRole, kid: str, point: Point, other_info: bytes) -> bytes:
        label = self._by_kid.get(kid)
        if label is None or label.role is not role:
            raise JweError
        return self._token.agree(label, point, other_info)

    def _seal_pan(self, pan: Pan, card: CardRef) -> SealedPan:
        label = self._active[KeyRole.PAN]
        nonce = self._token.random(NONCE_BYTES)
        digits = pan.reveal()
        field = (bytes((len(digits),)) + digits.encode()).ljust(PAN_FIELD_BYTES, b"\0")
        body = nonce + self._token.encrypt_gcm(label, nonce, field)
        cmac = self._token.mac(label.of(KeyRole.PAN_MAC), pan_mac_input(card, label, body))
        return SealedPan(pack(Envelope(label, body, cmac)))

    def _open_pan(self, sealed: SealedPan, card: CardRef) -> Pan:
        envelope = unpack(sealed, KeyRole.PAN)
        self._verify(envelope, pan_mac_input(card, envelope.label, envelope.body))
        nonce, ciphertext = envelope.body[:NONCE_BYTES], envelope.body[NONCE_BYTES:]
        field = self._token.decrypt_gcm(envelope.label, nonce, ciphertext)
        return Pan(field[1 : 1 + field[0]].decode("ascii"))

    def _seal_pin(self, pin: Pin, pan: Pan, card: CardRef, counter: int) -> SealedPin:
        label = self._active[KeyRole.PIN]
        block = iso4.encipher(
            pin, pan, self._token.random, lambda clear: self._token.encrypt_block(label, clear)
        )
        mac_input = pin_mac_input(card, counter, label, block)
        cmac = self._token.mac(label.of(KeyRole.PIN_MAC), mac_input)
        return SealedPin(pack(Envelope(label, block, cmac)))

    def _open_pin(self, sealed: SealedPin, pan: Pan, card: CardRef, counter: int) -> Pin:
        envelope = unpack(sealed, KeyRole.PIN)
        self._verify(envelope, pin_mac_input(card, counter, envelope.label, envelope.body))
        label = envelope.label
        try:
            return iso4.decipher(
                envelope.body, pan, lambda block: self._token.decrypt_block(label, block)
            )
        except CryptoError:
            # The CMAC was right: this PIN was sealed for another PAN of the same card.
            raise SealBroken from None

    def _verify(self, envelope: Envelope, mac_input: bytes) -> None:
        if not compare_digest(self._token.mac(envelope.mac_label, mac_input), envelope.cmac):
            raise SealBroken


def _active_labels(token: Token) -> dict[KeyRole, KeyLabel]:
    """Choose the highest generation of each role; sealing roles need their MAC key beside it."""
    labels = set(token.labels())
    active = {
        role: max((x for x in labels if x.role is role), key=lambda x: x.generation, default=None)
        for role in OWN_ROLES
    }
    complete = {role: label for role, label in active.items() if label is not None}
    partners = {complete[role].of(mac) for role, mac in MAC_ROLES.items() if role in complete}
    if len(complete) != len(OWN_ROLES) or not partners <= labels:
        raise VaultUnavailable("a key is not on the token")
    return complete


def _public_key(point: Point) -> EcPublicKey:
    return EcPublicKey(thumbprint(point.x, point.y), point.x, point.y)


def _pin_of(members: Mapping[str, object], wire: Iso0Wire, pan: Pan) -> Pin:
    """Read the PIN from the plaintext of an ISO-0 JWE; a PAN in it must be the card's."""
    names = members.keys() & {wire.field, *wire.aliases}
    if len(names) != 1 or members.get(wire.pan_field, pan.reveal()) != pan.reveal():
        raise PinBlockError
    return iso0.decode(PinBlock.from_hex(_text(members, names.pop())), pan)


def _iso0_plaintext(block: PinBlock, wire: Iso0Wire) -> bytes:
    text = block.reveal().hex()
    return b'{"%b":"%b"}' % (
        wire.field.encode(),
        (text.upper() if wire.hex_case == "upper" else text).encode(),
    )


def _text(members: Mapping[str, object], name: str) -> str:
    value = members.get(name)
    return value if isinstance(value, str) else ""

"""PinVault over a Token: a verb opens what it needs, works, and seals; nothing clear is kept.

Every failure of a JWE or a PIN block is a ``PinRejected``.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from hmac import compare_digest
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from crypto import pin_image
from crypto.errors import CryptoError, JweError, JwkError, JwsError, PinBlockError, WeakPinError
from crypto.jose import json_object, jwe, jws
from crypto.jose.jwk import EcPublicKey, Point, parse_public, public_jwk, thumbprint
from crypto.pin_image import ImageStyle
from crypto.pinblock import PinBlockFormat, iso0, iso1
from crypto.seccos.card import CardData
from crypto.seccos.profile import SeccosProfile
from crypto.translation import permit
from crypto.types import PIN_DIGITS_MAX, Pan, Pin, PinBlock
from crypto.weak_pins import check
from hsm.config.kinds import parse_body
from hsm.config.policy import PolicyBody
from hsm.config.recipient import RecipientBody
from hsm.config.sealing import ConfigReader, with_cmac
from hsm.config.verification import VerificationBody
from hsm.config.wire import Iso0Wire, WireProfile
from hsm.errors import (
    CardIdHoldsPan,
    ConfigRefused,
    LuhnInvalid,
    PageKeyRejected,
    PanRejected,
    PinRejected,
    TextNotOffered,
    TypeNotOffered,
    VaultUnavailable,
    WeakPinRefused,
)
from hsm.pkcs11.hsm_token import HsmToken
from hsm.pkcs11.keyring import Keyring
from hsm.pkcs11.keys import KeyKind, KeyLabel, KeyRole, Usage
from hsm.port import (
    CardFacts,
    CardRef,
    ConfigKind,
    PinBlockType,
    SealedCard,
    SealedChange,
    SealedConfig,
    SealedPan,
    SealedPin,
    SealedValue,
    ValueKind,
    VaultConfig,
)
from hsm.sealed import VALUE_FIELD_BYTES
from hsm.seals import Seals
from hsm.seccos import Accepted, SeccosReader
from hsm.verification import Maker, Value

HEARTBEAT_BYTES: Final = 16


class Vault:
    """The :class:`hsm.port.PinVault` of this service. Used from one thread only.

    Raises:
        VaultUnavailable: at construction, when a role has no key on the token.
    """

    def __init__(self, hsm_token: HsmToken, now: Callable[[], datetime]) -> None:
        self._hsm_token = hsm_token
        self._keyring = Keyring(hsm_token)
        self._active = self._keyring.active
        self._seals = Seals(hsm_token, self._keyring)
        self._public = {
            label: _public_key(hsm_token.public_point(label))
            for label in hsm_token.labels()
            if label.role.kind is KeyKind.EC_P256
        }
        self._by_kid = {key.kid: label for label, key in self._public.items()}
        self._configs = ConfigReader(hsm_token.mac, now)

    def seal_pan(self, jwe: str, card: CardRef, other_ids: Sequence[str] = ()) -> SealedCard:
        """Take in a PAN: a JWE to our intake key."""
        try:
            members = self._open_jwe(jwe, KeyRole.INTAKE)
            pan = Pan(_text(members, "pan"))
        except CryptoError:
            raise PanRejected from None
        if not pan.luhn_valid:
            raise LuhnInvalid
        if any(pan.reveal() in name for name in (card.card_id, *other_ids)):
            raise CardIdHoldsPan
        return SealedCard(self._seals.seal_pan(pan, card), pan.last_four)

    def set_pin_from_jwe(
        self,
        jwe: str,
        block_type: PinBlockType,
        config: VaultConfig,
        card: CardRef,
        sealed_pan: SealedPan,
        counter: int,
        facts: CardFacts,
    ) -> SealedChange:
        """Take in the PIN of *card* from D1's JWE and seal it for change *counter*."""
        rules = self._rules(config, card.issuer_id)
        reader = None if block_type is PinBlockType.ISO0 else self._reader(rules, card.issuer_id)
        data = _card_data(self._seals.open_pan(sealed_pan, card), facts)
        try:
            members = self._open_jwe(jwe, KeyRole.D1, rules.wire.jwe.extra)
            if reader is None:
                taken = Accepted(_pin_of(members, rules.wire.iso0, data.pan), {})
            else:
                taken = reader.read(members, data, _changes_before(counter))
            if taken.pin is not None:
                check(taken.pin, rules.policy.for_d1)
        except WeakPinError:
            raise WeakPinRefused from None
        except CryptoError:
            raise PinRejected from None
        # Format 2 must not become format 0, nor anything else that a PIN could be shown from.
        return self._change(taken, rules, data, card, counter, keep_pin=reader is None)

    def set_pin_from_page(
        self,
        jwe: str,
        sid: str,
        config: VaultConfig,
        card: CardRef,
        sealed_pan: SealedPan,
        counter: int,
        facts: CardFacts,
    ) -> SealedChange:
        """Take in the PIN of *card* from a page's JWE and seal it for change *counter*."""
        rules = self._rules(config, card.issuer_id)
        data = _card_data(self._seals.open_pan(sealed_pan, card), facts)
        permit(PinBlockFormat.ISO1, PinBlockFormat.ISO4, same_pan=False)
        try:
            members = self._open_jwe(jwe, KeyRole.PAGE)
            block = PinBlock.from_hex(_text(members, "block"))
            if not compare_digest(_text(members, "sid").encode(), sid.encode()):
                raise PinRejected
            pin = iso1.decode(block)
            check(pin, rules.policy.for_pages)
        except WeakPinError:
            raise WeakPinRefused from None
        except CryptoError:
            raise PinRejected from None
        return self._change(Accepted(pin, {}), rules, data, card, counter, keep_pin=True)

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
        pan = self._seals.open_pan(sealed_pan, card)
        block = iso0.encode(self._seals.open_pin(sealed_pin, pan, card, counter), pan)
        plaintext = _iso0_plaintext(block, wire.iso0)
        return self._encrypt(plaintext, recipient.key)

    def render_image(
        self,
        sealed_pin: SealedPin,
        sealed_pan: SealedPan,
        style: ImageStyle,
        card: CardRef,
        counter: int,
    ) -> bytes:
        """Draw the PIN as a PNG."""
        pan = self._seals.open_pan(sealed_pan, card)
        pin = self._seals.open_pin(sealed_pin, pan, card, counter)
        return pin_image.render(pin, style, self._hsm_token.random)

    def digits_jwe(
        self,
        sealed_pin: SealedPin,
        sealed_pan: SealedPan,
        sid: str,
        key: Mapping[str, object],
        config: VaultConfig,
        card: CardRef,
        counter: int,
    ) -> str:
        """Hand out the digits in a JWE to a page that asked for text."""
        policy = self._configs.read(ConfigKind.POLICY, PolicyBody, config, card.issuer_id)
        if not policy.text_reveal:
            raise TextNotOffered
        page_key = self._page_key(key)
        pan = self._seals.open_pan(sealed_pan, card)
        pin = self._seals.open_pin(sealed_pin, pan, card, counter)
        return self._encrypt(_digits_plaintext(pin, sid), page_key)

    def export_values(
        self,
        values: Mapping[ValueKind, SealedValue],
        config: VaultConfig,
        card: CardRef,
        counter: int,
    ) -> str:
        """Hand out verification values in a JWE to the configured authorisation host."""
        kind = ConfigKind.VERIFICATION_HOST
        host = self._configs.read(kind, RecipientBody, config, card.issuer_id)
        opened = {
            kind: self._seals.open_value(sealed, kind, card, counter)
            for kind, sealed in values.items()
        }
        return self._encrypt(_values_plaintext(opened, card, counter), host.key)

    def seal_config(self, config: SealedConfig) -> SealedConfig:
        """Check *config* and return it with the active key label and its CMAC."""
        sealed = with_cmac(config, self._active[KeyRole.CONFIG_MAC], self._hsm_token.mac)
        body = parse_body(sealed.kind, sealed.body)
        if isinstance(body, RecipientBody):
            recipient = body.key
            if thumbprint(recipient.x, recipient.y) in self._by_kid:
                raise ConfigRefused("refused members: jwk is one of our own keys")
        return sealed

    def sign_token(self, claims: Mapping[str, object]) -> str:
        """Sign *claims* as an ES256 JWT of type ``at+jwt``."""
        label = self._active[KeyRole.TOKEN_SIGN]
        signing_input = jws.signing_input(claims, self._public[label].kid, "at+jwt")
        digest = hashlib.sha256(signing_input).digest()
        return jws.attach(signing_input, self._hsm_token.sign(label, digest))

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
        hsm_token, block = self._hsm_token, self._hsm_token.random(HEARTBEAT_BYTES)
        match label.role.usage:
            case Usage.MAC:
                return hsm_token.mac(label, block) == hsm_token.mac(label, block)
            case Usage.ENCRYPT:
                return (
                    hsm_token.decrypt_block(label, hsm_token.encrypt_block(label, block)) == block
                )
            case Usage.AGREE:
                return self._reads_a_jwe(label, block)
            case Usage.SIGN:
                return self._signs(label)
            case Usage.ENCRYPT_ONLY | Usage.DECRYPT | Usage.DERIVE:
                return False  # of shared keys only, and none of those is ever active

    def _reads_a_jwe(self, label: KeyLabel, block: bytes) -> bool:
        ephemeral = ec.generate_private_key(ec.SECP256R1())
        text = jwe.encrypt(
            block, self._public[label], ephemeral=ephemeral, random=self._hsm_token.random
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
        return self._hsm_token.agree(label, point, other_info)

    def _change(
        self,
        taken: Accepted,
        rules: "_Rules",
        data: CardData,
        card: CardRef,
        counter: int,
        *,
        keep_pin: bool,
    ) -> SealedChange:
        """Make the verification values and seal everything for change *counter*."""
        maker = Maker(self._hsm_token, self._keyring, card.issuer_id, rules.asked, rules.seccos)
        values = maker.complete(taken.values, taken.pin, data, _changes_before(counter))
        sealed_pin = None
        if keep_pin and taken.pin is not None:
            sealed_pin = self._seals.seal_pin(taken.pin, data.pan, card, counter)
        sealed_value = partial(self._seals.seal_value, card=card, counter=counter)
        return SealedChange(
            sealed_pin, {kind: sealed_value(value, kind) for kind, value in values.items()}
        )

    def _page_key(self, jwk: Mapping[str, object]) -> EcPublicKey:
        try:
            key = parse_public(jwk)
        except JwkError:
            raise PageKeyRejected from None
        # A kid of the page's choice would show in the length of the JWE.
        kid = thumbprint(key.x, key.y)
        if kid in self._by_kid:
            raise PageKeyRejected
        return EcPublicKey(kid, key.x, key.y)

    def _encrypt(self, plaintext: bytes, recipient: EcPublicKey) -> str:
        ephemeral = ec.generate_private_key(ec.SECP256R1())
        return jwe.encrypt(plaintext, recipient, ephemeral=ephemeral, random=self._hsm_token.random)

    def _rules(self, config: VaultConfig, issuer_id: str) -> "_Rules":
        read, find = self._configs.read, self._configs.find
        asked = find(ConfigKind.VERIFICATION, VerificationBody, config, issuer_id)
        return _Rules(
            read(ConfigKind.WIRE, WireProfile, config, issuer_id),
            read(ConfigKind.POLICY, PolicyBody, config, issuer_id),
            find(ConfigKind.SECCOS, SeccosProfile, config, issuer_id),
            asked or VerificationBody(),
        )

    def _reader(self, rules: "_Rules", issuer_id: str) -> SeccosReader:
        if rules.seccos is None:
            raise TypeNotOffered
        return SeccosReader(self._hsm_token, self._keyring, issuer_id, rules.seccos)


@dataclass(frozen=True, slots=True)
class _Rules:
    """What an issuer's configuration says of setting a PIN."""

    wire: WireProfile
    policy: PolicyBody
    seccos: SeccosProfile | None
    asked: VerificationBody


def _public_key(point: Point) -> EcPublicKey:
    return EcPublicKey(thumbprint(point.x, point.y), point.x, point.y)


def _changes_before(counter: int) -> int:
    """Count the changes before this one; a PIN that comes with its card is change 0."""
    return max(counter - 1, 0)


def _card_data(pan: Pan, facts: CardFacts) -> CardData:
    month, year = facts.expiry[:2], facts.expiry[2:]
    return CardData(pan, facts.psn, year + month)


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


def _digits_plaintext(pin: Pin, sid: str) -> bytes:
    digits = pin.reveal()
    plaintext = json_object.serialize({"sid": sid, "digits": digits})
    # Spaces behind the object hide how many digits there are.
    return plaintext.ljust(len(plaintext) + PIN_DIGITS_MAX - len(digits))


def _values_plaintext(values: Mapping[ValueKind, Value], card: CardRef, counter: int) -> bytes:
    members: dict[str, object] = {
        "issuerId": card.issuer_id,
        "cardId": card.card_id,
        "counter": counter,
    }
    members |= {kind: json.loads(value.reveal()) for kind, value in values.items()}
    # Its length tells which values there are, and not how many digits the PIN has.
    return json.dumps(members).encode().ljust(VALUE_FIELD_BYTES * (1 + len(values)))


def _text(members: Mapping[str, object], name: str) -> str:
    value = members.get(name)
    return value if isinstance(value, str) else ""

"""The port of the vault: what the rest of the service may ask of it.

What crosses it is sealed, public, or finished and fit for a wire. No verb returns a clear PIN,
none translates with a PAN from a caller, none answers whether a PIN is right. Every sealed
value comes with the card and the change counter it was sealed for; a value of another card or
of another counter does not open.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, NewType, Protocol

from crypto.pin_image import ImageStyle
from crypto.types import PSN_MAX
from hsm.keys import KeyRole

ISSUER_ID_CHARS: Final = 10
EXPIRY_PATTERN: Final = re.compile("(?:0[1-9]|1[0-2])[0-9]{2}")
CARD_ID_PATTERN: Final = re.compile(r"[A-Za-z0-9_-]{1,48}")

SealedPin = NewType("SealedPin", bytes)
"""Version, key label, format-4 block under an AES key of the token, AES-CMAC."""

SealedPan = NewType("SealedPan", bytes)
"""Version, key label, nonce, AES-GCM ciphertext and tag, AES-CMAC."""

SealedValue = NewType("SealedValue", bytes)
"""The same of a verification value, bound to its kind too."""


@dataclass(frozen=True, slots=True)
class CardRef:
    """A card of an issuer.

    Raises:
        ValueError: an issuer id that is not 10 characters, or a card id that is not 1 to 48 of
            letters, digits, ``_`` and ``-`` (Thales D1 PIN Management API, path parameters).
    """

    issuer_id: str
    card_id: str

    def __post_init__(self) -> None:
        if len(self.issuer_id) != ISSUER_ID_CHARS or not CARD_ID_PATTERN.fullmatch(self.card_id):
            raise ValueError("not a card reference")


class PinBlockType(StrEnum):
    """The forms in which Thales D1 sends a PIN."""

    ISO0 = "ISO0"
    SECCOS = "SECCOS"


class ValueKind(StrEnum):
    """What is kept of a PIN for those who check it; each is an oracle for the PIN."""

    PVV = "pvv"
    """The Visa PIN verification value."""
    OFFSET_3624 = "offset-3624"
    """The IBM 3624 offset."""
    PRW = "prw"
    """The PIN reference value, D1's or the issuer's own, with its random."""
    SCRIPT = "script"
    """The enciphered block and the MAC of a SECCOS payload, for the card itself."""


class ConfigKind(StrEnum):
    """The kinds of vault configuration."""

    WIRE = "wire"
    POLICY = "policy"
    RECIPIENT = "recipient"
    SECCOS = "seccos"
    VERIFICATION = "verification"
    VERIFICATION_HOST = "verification-host"


@dataclass(frozen=True, slots=True)
class SealedConfig:
    """A configuration as stored: *body* is JSON, *cmac* covers every other field.

    It is valid from *valid_from* until just before *valid_until*, both UTC.
    """

    issuer_id: str
    kind: ConfigKind
    version: int
    valid_from: datetime
    valid_until: datetime
    key_label: str
    body: bytes
    cmac: bytes


VaultConfig = Mapping[ConfigKind, SealedConfig]
"""The configurations of one issuer that hold now, at most one of each kind."""


@dataclass(frozen=True, slots=True)
class SealedCard:
    """A sealed PAN and its last four digits."""

    sealed_pan: SealedPan
    last_four: str


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What verification values know of a card beside its PAN: PSN, expiry as MMYY.

    Raises:
        ValueError: the PSN is not 0 to 99, or the expiry is not a month and a year. The message is
            the name of the field.
    """

    psn: int
    expiry: str

    def __post_init__(self) -> None:
        if not 0 <= self.psn <= PSN_MAX:
            raise ValueError("psn")
        if not EXPIRY_PATTERN.fullmatch(self.expiry):
            raise ValueError("expiry")


@dataclass(frozen=True, slots=True)
class SealedChange:
    """A PIN change, sealed; what is not in it is cleared."""

    sealed_pin: SealedPin | None
    """None when the PIN came as SECCOS: it is kept only as :attr:`values`."""
    values: Mapping[ValueKind, SealedValue]


class PinVault(Protocol):
    """The vault. Every verb is synchronous and raises errors of :mod:`hsm.errors` only.

    Any verb may raise ``VaultUnavailable``: nothing was changed and the call may be repeated.
    Verbs that take configuration raise ``ConfigRefused`` when its seal or dates fail; verbs
    that take sealed values raise ``SealBroken`` when those are not of this card and counter.
    """

    def seal_pan(self, jwe: str, card: CardRef, other_ids: Sequence[str] = ()) -> SealedCard:
        """Take in a PAN: a JWE to our intake key, plaintext ``{"pan": "<8 to 19 digits>"}``.

        Args:
            jwe: the JWE.
            card: the card whose PAN it is.
            other_ids: what else the card will be called by, in the clear.

        Raises:
            PanRejected: not such a JWE, or not a PAN.
            LuhnInvalid: the check digit is wrong.
            CardIdHoldsPan: the card id, or another of its ids, contains the PAN.
        """
        ...

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
        """Take in the PIN of *card* from D1's JWE and seal it for change *counter*.

        Raises:
            PinRejected: the JWE, the block or the PIN cannot be used; one answer for all ways.
                Its subclasses tell whom a SECCOS payload that failed counts against.
            WeakPinRefused: the policy forbids the PIN.
            TypeNotOffered: the issuer's configuration does not take this block type.
            ValueNotPossible: it asks for a verification value that this PIN cannot give.
            CounterExhausted: the SECCOS profile does not count that far.
        """
        ...

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
        """Take in the PIN of *card* from a page's JWE and seal it for change *counter*.

        The JWE is to a key of role ``page``, its plaintext ``{"sid", "block"}``: a format-1 block
        in 16 hexadecimal digits that was made in the page, and the hash of the page session, which
        must be *sid*.

        Raises:
            PinRejected, WeakPinRefused, ValueNotPossible, CounterExhausted: as for
                :meth:`set_pin_from_jwe`.
        """
        ...

    def export_jwe(
        self,
        sealed_pin: SealedPin,
        sealed_pan: SealedPan,
        config: VaultConfig,
        card: CardRef,
        counter: int,
    ) -> str:
        """Hand out the PIN as an ISO-0 block in a compact JWE to the configured recipient."""
        ...

    def render_image(
        self,
        sealed_pin: SealedPin,
        sealed_pan: SealedPan,
        style: ImageStyle,
        card: CardRef,
        counter: int,
    ) -> bytes:
        """Draw the PIN as a PNG; every PNG of a style has the same size (crypto.pin_image)."""
        ...

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
        """Hand out the digits to a page that asked for text.

        The answer is a compact JWE (ECDH-ES, A256GCM) to *key*, the page's ephemeral public JWK;
        its ``kid`` is the key's thumbprint. The plaintext is the JSON object ``{"sid", "digits"}``
        with spaces behind it, to the length that it has with 12 digits: every JWE of a *sid* is
        of one length.

        Raises:
            TextNotOffered: the issuer's policy has no ``text_reveal``.
            PageKeyRejected: *key* is no P-256 public key for ECDH, holds a private member, or is
                one of our own. Members that we do not know are ignored.
        """
        ...

    def export_values(
        self,
        values: Mapping[ValueKind, SealedValue],
        config: VaultConfig,
        card: CardRef,
        counter: int,
    ) -> str:
        """Hand out verification values in a compact JWE to the issuer's authorisation host.

        The plaintext is JSON: ``issuerId``, ``cardId``, ``counter``, and a member for each of
        *values*, named as its kind.
        """
        ...

    def seal_config(self, config: SealedConfig) -> SealedConfig:
        """Check *config* and return it with the active key label and its CMAC filled in.

        Raises:
            ConfigRefused: the body is not of its kind, or names one of our own keys as recipient.
        """
        ...

    def sign_token(self, claims: Mapping[str, object]) -> str:
        """Sign *claims* as an ES256 JWT of type ``at+jwt`` (RFC 9068)."""
        ...

    def public_jwks(self, role: KeyRole) -> Mapping[str, list[dict[str, str]]]:
        """List the public keys of an EC *role* as a JWK set, newest generation first."""
        ...

    def health(self) -> None:
        """Prove by a compared round trip that the token answers and no key is missing."""
        ...

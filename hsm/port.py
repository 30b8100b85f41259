"""The port of the vault: what the rest of the service may ask of it.

What crosses it is sealed, public, or finished and fit for a wire. No verb returns a clear PIN,
none translates with a PAN from a caller, none answers whether a PIN is right. Every sealed
value comes with the card and the change counter it was sealed for; a value of another card or
of another counter does not open.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, NewType, Protocol

from hsm.keys import KeyRole

ISSUER_ID_CHARS: Final = 10
CARD_ID_PATTERN: Final = re.compile(r"[A-Za-z0-9_-]{1,48}")

SealedPin = NewType("SealedPin", bytes)
"""Version, key label, format-4 block under an AES key of the token, AES-CMAC."""

SealedPan = NewType("SealedPan", bytes)
"""Version, key label, nonce, AES-GCM ciphertext and tag, AES-CMAC."""


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


class ConfigKind(StrEnum):
    """The kinds of vault configuration."""

    WIRE = "wire"
    POLICY = "policy"
    RECIPIENT = "recipient"


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


class PinVault(Protocol):
    """The vault. Every verb is synchronous and raises errors of :mod:`hsm.errors` only.

    Any verb may raise ``VaultUnavailable``: nothing was changed and the call may be repeated.
    Verbs that take configuration raise ``ConfigRefused`` when its seal or dates fail; verbs
    that take sealed values raise ``SealBroken`` when those are not of this card and counter.
    """

    def seal_pan(self, jwe: str, card: CardRef) -> SealedCard:
        """Take in a PAN: a JWE to our intake key, plaintext ``{"pan": "<8 to 19 digits>"}``.

        Raises:
            PanRejected: not such a JWE, or not a PAN.
            LuhnInvalid: the check digit is wrong.
            CardIdHoldsPan: the card id contains the PAN.
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
    ) -> SealedPin:
        """Take in the PIN of *card* from D1's JWE and seal it for change *counter*.

        Raises:
            PinRejected: the JWE, the block or the PIN cannot be used; one answer for all ways.
            WeakPinRefused: the policy forbids the PIN.
            TypeNotOffered: the vault does not take this block type.
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

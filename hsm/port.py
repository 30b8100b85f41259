"""What crosses the port of the vault: names of cards, sealed values, what the vault hands out.

The verbs that take and return these are in :mod:`hsm.verbs`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Generic, NewType, TypeVar

ISSUER_ID_CHARS: Final = 10
CARD_ID_PATTERN: Final = re.compile(r"[A-Za-z0-9_-]{1,48}")
MAILERS_MAX: Final = 20
"""In one batch for the bureau. A worker does nothing else meanwhile, and each PIN takes some seven
calls of the HSM token: with one that needs 10 ms for a call, a batch takes 1.4 s."""
FILE_ID_PATTERN: Final = re.compile(r"[0-9a-f]{32}")
CLIENT_WINDOW_SECONDS: Final = 60
"""Within which a client's failures count; those of a card do for a day."""
RESEAL_CARDS_MAX: Final = 100
"""In a call of ``reseal``."""
ACCESS_TOKEN_TYPE: Final = "at+jwt"  # noqa: S105 - the JWT's typ (RFC 9068, section 2.1)
ATC_BYTES: Final = 2
ARQC_BYTES: Final = 8

T = TypeVar("T")

SealedPin = NewType("SealedPin", bytes)
"""Version, key label, format-4 block under an AES key of the HSM token, AES-CMAC."""

SealedRecord = NewType("SealedRecord", bytes)
"""Version, key label, nonce, AES-GCM ciphertext and tag of a card record, AES-CMAC."""

SealedValue = NewType("SealedValue", bytes)
"""Version, key label, nonce, AES-GCM ciphertext and tag of a PIN verification value, AES-CMAC."""

SealedGrant = NewType("SealedGrant", bytes)
"""Version, key label, what a control token is good for, AES-CMAC (:mod:`hsm.grants`)."""

SealedTzpk = NewType("SealedTzpk", bytes)
"""Version, key label, nonce, AES-GCM ciphertext and tag of a temporary zone PIN key, AES-CMAC."""


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


class PublicKeyRole(StrEnum):
    """What a public key of the vault is for; the value is also the role in its label."""

    D1 = "d1"
    """ECDH: Thales D1 encrypts PIN blocks to it."""
    PAGE = "page"
    """ECDH: pages encrypt PIN blocks to it."""
    INTAKE = "intake"
    """ECDH: PANs are encrypted to it on their way in."""
    TOKEN_SIGN = "token-sign"  # noqa: S105 - a role, not a password
    """ECDSA: it verifies the access tokens of the OAuth endpoint."""


class Face(StrEnum):
    """The API dialects that hand out control tokens."""

    HOSTED = "hosted"
    PINCONTROL = "pincontrol"


class Purpose(StrEnum):
    """What a control token is good for."""

    VIEW = "view"
    SET = "set"


LIFE_SECONDS: Final[Mapping[Face, int]] = {Face.HOSTED: 600, Face.PINCONTROL: 30}
"""How long a control token is good for, until it is consumed."""
SESSION_SECONDS_MAX: Final = 1200
"""How long a page session lasts from opening, however often it is extended."""


class ValueKind(StrEnum):
    """The PIN verification values. Whoever may try PINs against one of them finds the PIN."""

    PVV = "pvv"
    """The PIN verification value (PVV) of Visa."""
    OFFSET_3624 = "offset-3624"
    """The IBM 3624 offset."""
    PRW = "prw"
    """The PIN reference value, made by D1 or by the issuer, with its random bytes."""
    SCRIPT = "script"
    """The enciphered block and the MAC of a SECCOS payload, for the card itself."""


@dataclass(frozen=True, slots=True)
class SealedCard:
    """A card of a feed: its sealed record, and what of it the database may know."""

    card: CardRef
    sealed_record: SealedRecord
    last_four: str
    """Of the PAN."""
    psn: int
    expiry: str
    """MMYY."""
    plastic_id: str | None
    cardholder_id: str | None
    others: Mapping[str, str | bool]
    """Members that the vault did not read (:mod:`hsm.feed_cards`)."""


@dataclass(frozen=True, slots=True)
class RefusedCard:
    """A card of a feed that is not taken, and why; no value is shown."""

    reason: str


@dataclass(frozen=True, slots=True)
class SealedChange:
    """A PIN change, sealed. Whoever stores it deletes the values that it does not contain."""

    sealed_pin: SealedPin | None
    """None when the PIN came as SECCOS: then only :attr:`values` are stored."""
    values: Mapping[ValueKind, SealedValue]
    receipt: str
    """Names the line of it in the vault's log (:mod:`hsm.log.lines`)."""
    script_due: bool = False
    """Whether the chip is to get the PIN by a script (:meth:`hsm.verbs.PinVault.build_script`)."""


@dataclass(frozen=True, slots=True)
class ChipTransaction:
    """The transaction of a chip card in whose answer a script goes to the card.

    Raises:
        ValueError: *atc* is not 2 bytes, or *arqc* is not 8.
    """

    atc: bytes
    """Application transaction counter, tag 9F36."""
    arqc: bytes
    """Application cryptogram, tag 9F26."""

    def __post_init__(self) -> None:
        if (len(self.atc), len(self.arqc)) != (ATC_BYTES, ARQC_BYTES):
            raise ValueError("not an ATC of 2 bytes and an ARQC of 8")


@dataclass(frozen=True, slots=True)
class HandOut(Generic[T]):
    """What the vault hands out, when a line in its log tells of it and is on the disk."""

    value: T = field(repr=False)
    receipt: str
    """Names that line (:mod:`hsm.log.lines`)."""


@dataclass(frozen=True, slots=True)
class StoredPin:
    """A sealed PIN, with what it opens by.

    Raises:
        ValueError: a negative counter.
    """

    card: CardRef
    counter: int
    sealed_pin: SealedPin
    sealed_record: SealedRecord

    def __post_init__(self) -> None:
        if self.counter < 0:
            raise ValueError("not a change counter")


@dataclass(frozen=True, slots=True)
class BatchPart:
    """Which part of a file for the bureau a batch is. All of it goes into the batch.

    Raises:
        ValueError: *file_id* or *number* is not as below.
    """

    file_id: str
    """Of the file: 32 hexadecimal digits in lower case, drawn when it is begun."""
    number: int
    """Counted from 1."""
    is_last: bool

    def __post_init__(self) -> None:
        if not FILE_ID_PATTERN.fullmatch(self.file_id) or self.number < 1:
            raise ValueError("not a part of a file")


@dataclass(frozen=True, slots=True)
class MailerBatch:
    """PINs for the personalisation bureau."""

    text: str = field(repr=False)
    """Lines of ASCII, with a MAC over all of them (:mod:`hsm.mailers`)."""
    refused: Sequence[str]
    """Card ids whose PIN or record does not open: they are not in it."""


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """What the web tier vouches for of a client certificate whose chain it verified."""

    thumbprint: str
    """SHA-256 as base64url (RFC 8705, section 3.1)."""
    subject: str
    """Empty: it has none."""
    names: frozenset[str]
    """All by which it may be registered, as :mod:`hsm.manifest.certificate_names` writes them."""


@dataclass(frozen=True, slots=True)
class IssuedAccessToken:
    """An access token and when it expires, in seconds since 1970."""

    access_token: str = field(repr=False)
    expires_at: int


@dataclass(frozen=True, slots=True)
class KeyUse:
    """How often a key was used at this host, and how often it may be (:mod:`hsm.key_budgets`)."""

    label: str
    """Of the key (:mod:`hsm.pkcs11.keys`)."""
    unit: str
    """``tdes-blocks`` or ``gcm-invocations``."""
    uses: int
    uses_max: int


@dataclass(frozen=True, slots=True)
class GrantedToken:
    """A new control token, and the vault's grant for it, which is good with that token only."""

    control_token: str = field(repr=False)
    """A UUID in its usual form (:mod:`crypto.control_tokens`)."""
    grant: SealedGrant
    grant_id: str
    """What the page puts into a JWE for the vault, and the vault into one for the page."""


@dataclass(frozen=True, slots=True)
class KeyGeneration:
    """A key, what it may be used for, and how it was used at this host."""

    label: str
    """As :mod:`hsm.pkcs11.keys` writes it."""
    state: str
    """As :mod:`hsm.manifest.generation_table` names it; empty: the table does not name the key."""
    since: str
    """ISO 8601; empty: there is no table, or it does not name the key."""
    is_there: bool
    """Whether it is on the HSM token."""
    kid: str
    """Its JWK thumbprint, of an EC key; else empty."""
    jwes: int
    """How many it opened here (:mod:`hsm.kid_uses`)."""
    last_jwe: str
    """When the last, ISO 8601; empty: never."""


@dataclass(frozen=True, slots=True)
class KeyGenerations:
    """The keys of a host, by label, and what decides what they may be used for."""

    version: int
    """Of the table of key generations; 0: there is none."""
    keys: Sequence[KeyGeneration]


@dataclass(frozen=True, slots=True)
class DeviceBlock:
    """A PIN for a cardholder's device."""

    tzpk: bytes = field(repr=False)
    """The temporary zone PIN key, 16 bytes, enciphered to the device (:mod:`crypto.device_key`)."""
    block: bytes = field(repr=False)
    """A format-1 block under it, 8 bytes."""


@dataclass(frozen=True, slots=True)
class DeviceKey:
    """A temporary zone PIN key, under which a cardholder's device sends a PIN."""

    tzpk: bytes = field(repr=False)
    """As in :class:`DeviceBlock`."""
    sealed_tzpk: SealedTzpk = field(repr=False)
    """The same, for the vault."""


@dataclass(frozen=True, slots=True)
class StoredCard:
    """All that is stored of a card under keys of the vault.

    Raises:
        ValueError: a negative counter.
    """

    card: CardRef
    counter: int
    """The change that its PIN and values were sealed for."""
    sealed_record: SealedRecord
    sealed_pin: SealedPin | None
    values: Mapping[ValueKind, SealedValue]

    def __post_init__(self) -> None:
        if self.counter < 0:
            raise ValueError("not a counter")


class CardPart(StrEnum):
    """A part of :class:`StoredCard`, as :attr:`ResealedCard.refused` names it."""

    RECORD = "record"
    PIN = "pin"
    PVV = ValueKind.PVV
    OFFSET_3624 = ValueKind.OFFSET_3624
    PRW = ValueKind.PRW
    SCRIPT = ValueKind.SCRIPT


@dataclass(frozen=True, slots=True)
class ResealedCard:
    """Of a stored card, the parts that were resealed. A part that is not here stays as it is."""

    sealed_record: SealedRecord | None
    sealed_pin: SealedPin | None
    values: Mapping[ValueKind, SealedValue]
    refused: Mapping[CardPart, str]
    """Parts under another key that were not resealed, with the name of the error that says why."""


@dataclass(frozen=True, slots=True)
class Beginnings:
    """How every value begins that is sealed under an active key: version and key label."""

    record: bytes
    pin: bytes
    values: bytes


@dataclass(frozen=True, slots=True)
class Resealing:
    """What became of each card, in their order, and how what is resealed begins."""

    cards: Sequence[ResealedCard]
    beginnings: Beginnings

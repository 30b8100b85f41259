"""The port of the vault: what the rest of the service may ask of it.

What crosses it is sealed, public, or finished and fit for a wire. No verb returns a clear PIN,
none translates with a PAN from a caller, none answers whether a PIN is right. Every sealed
value comes with the card and the change counter it was sealed for; a value of another card or
of another counter does not open.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Generic, NewType, Protocol, TypeVar

from crypto.pin_image import ImageStyle
from crypto.secret import Secret

if TYPE_CHECKING:
    from hsm.manifest.model import Manifest

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
    """Whether the chip is to get the PIN by a script that :meth:`PinVault.build_script` builds."""


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


class PinVault(Protocol):
    """The vault. Every verb is synchronous and raises errors of :mod:`hsm.errors` only.

    Any verb may raise ``VaultUnavailable``: nothing was changed and the call may be repeated.
    What an issuer decides is in its manifest, which the vault keeps: verbs that need it raise
    ``ManifestRefused`` when there is none, or none that is in force. Verbs that take sealed values
    raise ``SealBroken`` when those are not of this card and counter. Of a verb that takes a grant,
    that is the grant's card and counter. Verbs that set or hand out anything write a line of it
    into the log of this host; where that cannot be written they raise ``LogUnavailable``, a
    ``VaultUnavailable``, and return nothing.

    A grant is for one control token, and the vault makes both only for whoever it has itself heard:
    a cardholder's access token, or the password of an issuer's own server. No other verb shows a
    PIN, or takes one from a page. It is not for this when it was made for another control token or
    purpose, the client that asked for it is no longer in the manifest, or the record says that
    somebody else holds the card; and no longer 60 s after the last session could have ended.
    """

    def seal_cards(self, feed: str, issuer_id: str) -> Sequence[SealedCard | RefusedCard]:
        """Take in the cards of a feed (:mod:`hsm.feeds`), in their order; a bad one is refused.

        Raises:
            FeedRefused: it is not signed by a feed of the issuer's manifest, not encrypted to a key
                of role ``intake``, for another issuer, too old or too large.
        """
        ...

    def keeps_pin(self, before: SealedRecord, after: SealedRecord, card: CardRef) -> bool:
        """Tell whether a card that gets the record *after* keeps its PIN: same PAN, same holder.

        Of a record *before* that does not open, or whose key is compromised or destroyed, it does
        not.

        Raises:
            KeyNotInUse: the key of one of them is not in use here, and may be again.
        """
        ...

    def set_pin_from_jwe(
        self,
        jwe: str,
        block_type: PinBlockType,
        card: CardRef,
        sealed_record: SealedRecord,
        counter: int,
        client_id: str | None,
    ) -> SealedChange:
        """Take in the PIN of *card* from D1's JWE and seal it for change *counter*.

        What fails is counted by this host, as the issuer's policy says (:mod:`hsm.budgets`).

        Args:
            jwe: the compact JWE.
            block_type: what form the PIN in it has.
            card: the card.
            sealed_record: its record.
            counter: that of the change; 0 is a PIN that comes with its card.
            client_id: the client of D1's face that sent it; None: an operator brings it.

        Raises:
            PinRejected: the JWE, the block or the PIN cannot be used; one answer for all causes.
                ``NotGenuine`` and ``WrongPinData`` say what was guessed at, ``CardRefusesForm``
                that nothing was tried, since too many PINs of the card failed.
            ClientLimited: nothing was tried, since too many PINs of the client failed.
            CallerRefused: the manifest has no such client.
            WeakPinRefused: the issuer's policy forbids the PIN: its length, or one easy to guess.
            TypeNotOffered: the issuer does not take this block type.
            ValueNotPossible: it asks for a PIN verification value that cannot be made of this PIN.
            CounterExhausted: the SECCOS profile does not count that far.
            CountsUnavailable: this host cannot count. Nothing is said of the PIN.
        """
        ...

    def forget_failures(self, card: CardRef) -> None:
        """Forget that PINs of *card* failed, on this host."""
        ...

    def set_pin_from_page(
        self,
        grant: SealedGrant,
        control_token: str,
        jwe: str,
        sealed_record: SealedRecord,
    ) -> SealedChange:
        """Take in a PIN from a page's JWE and seal it for the change after the grant's counter.

        The JWE is to a key of role ``page``, its plaintext ``{"grantId", "controlToken",
        "block"}``: a format-1 block in 16 hexadecimal digits that was made in the page, the id of
        *grant*, and the control token, so that no row can have the page write for another grant.

        Args:
            grant: that the control token may set the PIN of a card.
            control_token: the control token, which the page keeps.
            jwe: what the page sent.
            sealed_record: the record of the grant's card.

        Raises:
            GrantRefused: *grant* is not for this, or no longer.
            LimitReached: this was done with the grant, the card, by the client or for the issuer as
                often as may be (:mod:`hsm.hand_outs`).
            PinRejected: the JWE, what it names, the block or the PIN cannot be used.
            WeakPinRefused: the issuer's policy forbids the PIN on a page.
            ValueNotPossible: the issuer asks for a PIN verification value that cannot be
                made of this PIN.
            CounterExhausted: the SECCOS profile does not count that far.
        """
        ...

    def verify_bearer(self, bearer: Secret[str], issuer_id: str, *, for_pin: bool = False) -> str:
        """Return the cardholder's id: the subject of an access token of the identity provider.

        The identity provider is that of the issuer's manifest (:mod:`hsm.bearers`).

        Args:
            bearer: the access token.
            issuer_id: the issuer of the app that sent it.
            for_pin: whether a PIN is to be shown or set then.

        Raises:
            BearerRefused: the access token is not one of that provider for us, or not in force.
            StepUpMissing: with *for_pin*, as :meth:`grant_bearer` raises it.
        """
        ...

    def grant_bearer(
        self,
        bearer: Secret[str],
        client_id: str,
        purpose: Purpose,
        card: CardRef,
        sealed_record: SealedRecord,
        counter: int,
    ) -> GrantedToken:
        """Make a control token of the hosted face for a card, and its grant.

        Args:
            bearer: the cardholder's access token.
            client_id: an app of the manifest.
            purpose: what the control token is good for.
            card: the card.
            sealed_record: its record.
            counter: its change counter now.

        Raises:
            BearerRefused: as :meth:`verify_bearer` raises it.
            StepUpMissing: the cardholder's authentication is not as strong, or as recent, as the
                manifest wants.
            EvidenceRefused: the manifest has no such app, or the card is another cardholder's; one
                answer for all causes.
        """
        ...

    def grant_server(
        self,
        user: str,
        secret: Secret[str],
        plastic_id: str,
        purpose: Purpose,
        card: CardRef,
        sealed_record: SealedRecord,
        counter: int,
    ) -> GrantedToken:
        """Make a control token of the pincontrol face for a card, and its grant.

        Args:
            user: the client id of an issuer's own server.
            secret: its password.
            plastic_id: the card's name at this face.
            purpose: what the control token is good for.
            card: the card.
            sealed_record: its record.
            counter: its change counter now.

        Raises:
            EvidenceRefused: the manifest has no such server, *secret* is wrong or past its end, or
                the card has another plastic id; one answer for all causes.
        """
        ...

    def export_jwe(
        self,
        sealed_pin: SealedPin,
        sealed_record: SealedRecord,
        card: CardRef,
        counter: int,
    ) -> HandOut[str]:
        """Hand out the PIN as an ISO-0 block in a compact JWE to the manifest's recipient.

        The plaintext is a JSON object of one member, named by the wire profile. Where the profile
        says so, the block is also under the issuer's zone PIN key (:mod:`hsm.zone_blocks`).
        """
        ...

    def render_image(
        self,
        grant: SealedGrant,
        control_token: str,
        sealed_pin: SealedPin,
        sealed_record: SealedRecord,
        style: ImageStyle,
    ) -> HandOut[bytes]:
        """Draw the PIN as a PNG; every PNG of a style has the same size (crypto.pin_image).

        Args:
            grant: that the control token may show the PIN of a card.
            control_token: the control token.
            sealed_pin: the PIN of the grant's card and counter.
            sealed_record: the record of that card.
            style: of the image.

        Raises:
            GrantRefused: *grant* is not for this, or no longer.
            LimitReached: this was done with the grant, the card, by the client or for the issuer as
                often as may be (:mod:`hsm.hand_outs`).
        """
        ...

    def digits_jwe(
        self,
        grant: SealedGrant,
        control_token: str,
        sealed_pin: SealedPin,
        sealed_record: SealedRecord,
        key: Mapping[str, object],
    ) -> HandOut[str]:
        """Hand out the digits to a page that asked for text.

        The answer is a compact JWE (ECDH-ES, A256GCM) to *key*, the page's ephemeral public JWK;
        its ``kid`` is the key's thumbprint. The plaintext is the JSON object
        ``{"grantId", "digits"}`` with spaces behind it, to the length that it has with 12 digits:
        every JWE is of one length.

        Args:
            grant: that the control token may show the PIN of a card.
            control_token: the control token, which the page keeps.
            sealed_pin: the PIN of the grant's card and counter.
            sealed_record: the record of that card.
            key: of the page.

        Raises:
            GrantRefused: *grant* is not for this, or no longer.
            LimitReached: this was done with the grant, the card, by the client or for the issuer as
                often as may be (:mod:`hsm.hand_outs`).
            TextNotOffered: the issuer's policy has no ``text_reveal``.
            PageKeyRejected: *key* is no P-256 public key for ECDH, holds a private member, or is
                one of our own. Members that we do not know are ignored.
        """
        ...

    def export_values(
        self,
        values: Mapping[ValueKind, SealedValue],
        card: CardRef,
        counter: int,
    ) -> HandOut[str]:
        """Hand out PIN verification values in a compact JWE to the authorisation host.

        The plaintext is JSON: ``issuerId``, ``cardId``, ``counter``, and a member for each of
        *values*, named as its kind.
        """
        ...

    def generate_pin(
        self, card: CardRef, sealed_record: SealedRecord, counter: int
    ) -> SealedChange:
        """Make a PIN of *card* and seal it for change *counter*; nobody sees it.

        It is random, from the HSM token, has as many digits as the issuer's policy asks for at
        least, and is none that the policy calls easy to guess (:mod:`crypto.random_pin`).

        Args:
            card: the card.
            sealed_record: its record.
            counter: that of the change; 0 is a PIN that comes with its card.

        Raises:
            ValueNotPossible: the issuer asks for a PIN verification value that cannot be made of
                this PIN.
            CounterExhausted: the SECCOS profile does not count that far.
        """
        ...

    def export_mailers(
        self, issuer_id: str, pins: Sequence[StoredPin], part: BatchPart
    ) -> MailerBatch:
        """Hand out PINs as a batch to the personalisation bureau, under its key in the manifest.

        Each is counted for the issuer, and has a line of the log. PINs that do not open, or are of
        another issuer's cards, are named and left out.

        Args:
            issuer_id: whose cards.
            pins: up to :data:`MAILERS_MAX`.
            part: what the batch is a part of.

        Raises:
            ManifestRefused: the manifest names no bureau, or a key of it is of another kind.
            KeyMissing: a key of it was not imported.
            LimitReached: the bureau gets no more as many PINs today.
            CountsUnavailable: this host cannot count.
        """
        ...

    def build_script(
        self,
        sealed_pin: SealedPin,
        sealed_record: SealedRecord,
        card: CardRef,
        counter: int,
        transaction: ChipTransaction,
    ) -> HandOut[bytes]:
        """Hand out the PIN as a command for the chip: PIN CHANGE/UNBLOCK (EMV 4.3, Book 3, 6.5.10).

        ``84 24 00 02 Lc ‖ enciphered format-2 block ‖ MAC``. The chip takes it in the answer to
        *transaction* and in no other. The issuer's manifest says how it is made
        (:mod:`hsm.scripts`).

        Raises:
            ManifestRefused: the manifest has no scripts, or names a key of another kind.
            KeyMissing: a key that it names is not on the HSM token.
            LimitReached: this host built as many for the card today as may be.
        """
        ...

    def reverse_pin(
        self,
        sealed_pin: SealedPin,
        earlier_pin: SealedPin,
        sealed_record: SealedRecord,
        card: CardRef,
        counter: int,
    ) -> SealedChange:
        """Seal the PIN before change *counter* anew, for the change after it.

        Args:
            sealed_pin: the PIN of change *counter*, which proves that this change was made.
            earlier_pin: the PIN of the change before.
            sealed_record: the record of the card.
            card: the card.
            counter: of the change that is reversed, from 1.

        Raises:
            ManifestRefused: the manifest has no scripts: nothing was on its way to a chip.
            ValueNotPossible: the issuer asks for a PIN verification value that cannot be made of
                this PIN.
            CounterExhausted: the SECCOS profile does not count that far.
        """
        ...

    def reseal(self, cards: Sequence[StoredCard]) -> Resealing:
        """Seal what is stored of cards anew, where that is not under the active keys.

        Each part is opened as every verb opens it, so that one of another card, counter or holder,
        or one under a key that may not be used, is refused; the other parts and cards go on. What
        comes back is for the same card, counter and holder. With no cards it only says how what is
        sealed now begins.

        Args:
            cards: at most :data:`RESEAL_CARDS_MAX`.

        Raises:
            MessageRefused: there are more.
        """
        ...

    def load_manifest(self, text: str) -> int:
        """Take a manifest as operators signed it; return its version. The newest may come again.

        Raises:
            ManifestRefused: too few operators who count signed it, it is older than the newest, not
                in force now or malformed, it names one of our own keys as a recipient, or the
                identity provider and audience of another issuer, or this host has no minimum
                versions.
        """
        ...

    def load_minimum_versions(self, text: str) -> None:
        """Take a list of minimum versions as operators signed it, on a host that has none.

        Raises:
            ManifestRefused: too few operators who count signed it, it is not good now or malformed,
                or this host has one.
        """
        ...

    def manifest_version(self, issuer_id: str) -> int:
        """Return the version of the newest manifest, in force or not; 0 if there is none."""
        ...

    def read_manifest(self, issuer_id: str) -> "Manifest":
        """Return the manifest that is in force. All of it is public."""
        ...

    def issue_token(
        self, client_id: str, secret: Secret[str], certificate: CertificateFacts
    ) -> IssuedAccessToken:
        """Issue an access token of D1 (RFC 9068) to a client that gave its secret.

        The manifest is that of the issuer with whose id *client_id* begins. The vault writes every
        claim (:mod:`hsm.access_tokens`).

        Raises:
            CallerRefused: there is no such client at D1's face, *certificate* is not registered for
                it, or *secret* is wrong or past its end; one answer for all causes.
        """
        ...

    def public_jwks(
        self, role: PublicKeyRole, own_kids: Mapping[str, int] = ...
    ) -> Mapping[str, list[dict[str, str]]]:
        """List the public keys of *role* as a JWK set (RFC 7517, 5), newest generation first.

        Args:
            role: what the keys are for.
            own_kids: a ``kid`` and the generation that it names, as ``{"bank-2026": 1}``; the
                ``kid`` of any other key is its thumbprint.
        """
        ...

    def health(self) -> None:
        """Prove that the HSM token answers: use every active key once and compare the result.

        Raises:
            VaultUnavailable: a key is missing, an answer is wrong, or this host cannot count or
                write its log.
        """
        ...

    def metrics(self) -> str:
        """Show what all processes of this vault counted, as Prometheus reads it.

        Its labels are verbs, classes of errors and the like: nothing of a call is in it, and there
        is no more of it the more there are of issuers or cards.
        """
        ...

    def load_generations(self, text: str) -> int:
        """Take a table of key generations as operators signed it; return its version.

        The newest may come again. Whether the database still needs a key that it retires, the
        caller finds out before.

        Raises:
            ManifestRefused: too few operators who count signed it, it is older than the newest, not
                in force now or malformed, it cannot follow the newest, has a key in use that is not
                on the HSM token, or takes one out of use under which files of this host stand; or
                files that would get a MAC of another key are not signed by operators who count now.
        """
        ...

    def read_generations(self) -> KeyGenerations:
        """List the keys of this host, by label.

        Raises:
            CountsUnavailable: how they were used cannot be read.
        """
        ...

    def key_uses(self) -> Sequence[KeyUse]:
        """List how often keys were used at this host: TDES keys, and keys of AES-GCM.

        Of other workers it lacks up to 1,000 uses, or those of 10 s.

        Raises:
            CountsUnavailable: it cannot be read.
        """
        ...

    # The PIN operations of the pincontrol face. Each of the next five raises ``TypeNotOffered``
    # where the manifest does not have it on, or names no such key of the server.

    def export_server_block(
        self,
        user: str,
        secret: Secret[str],
        plastic_id: str,
        zpk_index: str,
        card: CardRef,
        sealed_pin: SealedPin,
        sealed_record: SealedRecord,
        counter: int,
    ) -> HandOut[bytes]:
        """Hand out the PIN to an issuer's own server: a format-1 block under their ZPK, 8 bytes.

        Args:
            user: the client id of the server.
            secret: its password.
            plastic_id: the card's name at this face.
            zpk_index: what the server calls the key.
            card: the card.
            sealed_pin: its PIN.
            sealed_record: its record.
            counter: its change counter now.

        Raises:
            EvidenceRefused: as :meth:`grant_server` raises it.
            LimitReached: the card, the client or the issuer has had as many as may be on a day.
        """
        ...

    def set_pin_from_server(
        self,
        user: str,
        secret: Secret[str],
        plastic_id: str,
        zpk_index: str,
        block: bytes,
        card: CardRef,
        sealed_record: SealedRecord,
        counter: int,
    ) -> SealedChange:
        """Take in a PIN from an issuer's own server and seal it for change *counter*.

        *block* is of format 1, under their ZPK. It is neither fresh nor bound to the card: who
        recorded it and has the password can send it again, and for another card.

        Raises:
            EvidenceRefused: as :meth:`grant_server` raises it.
            PinRejected: *block* cannot be used; ``WrongPinData`` is counted,
                ``CardRefusesForm`` says that nothing was tried.
            ClientLimited: too many blocks of the client could not be used.
            WeakPinRefused: the issuer's policy forbids the PIN on a page.
            LimitReached: the card, the client or the issuer has had as many as may be on a day.
            ValueNotPossible: as :meth:`set_pin_from_page` raises it, and ``CounterExhausted``.
        """
        ...

    def export_device_block(
        self,
        grant: SealedGrant,
        control_token: str,
        public_key: bytes,
        sealed_pin: SealedPin,
        sealed_record: SealedRecord,
    ) -> HandOut[DeviceBlock]:
        """Hand out the PIN to a cardholder's device, under a key that only the device can open.

        Whose *public_key* is, DER, the vault cannot tell: it is the device's if the issuer's
        server says the truth. A grant is for this while its control token lives.

        Raises:
            GrantRefused: *grant* is not for this, or no longer.
            LimitReached: as :meth:`render_image` raises it.
            PageKeyRejected: *public_key* is none that a device may have.
        """
        ...

    def make_device_key(
        self,
        grant: SealedGrant,
        control_token: str,
        public_key: bytes,
        sealed_record: SealedRecord,
    ) -> DeviceKey:
        """Make the key under which a cardholder's device sends a PIN for this control token.

        Raises:
            GrantRefused: *grant* is not for this, or no longer, or three were made for it at this
                host.
            PageKeyRejected: *public_key* is none that a device may have.
        """
        ...

    def set_pin_from_device(
        self,
        grant: SealedGrant,
        control_token: str,
        sealed_tzpk: SealedTzpk,
        block: bytes,
        sealed_record: SealedRecord,
    ) -> SealedChange:
        """Take in a PIN from a cardholder's device and seal it for the change after the grant's.

        *block* is of format 1, under the key that was made for this control token.

        Raises:
            GrantRefused: *grant* is not for this, or no longer.
            SealBroken: *sealed_tzpk* was made for another control token.
            PinRejected: *block* cannot be used; it is counted as in :meth:`set_pin_from_server`.
            ClientLimited: too many blocks of the client could not be used.
            WeakPinRefused: the issuer's policy forbids the PIN on a page.
            LimitReached: as :meth:`set_pin_from_page` raises it.
            ValueNotPossible: as :meth:`set_pin_from_page` raises it, and ``CounterExhausted``.
        """
        ...

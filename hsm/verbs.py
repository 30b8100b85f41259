"""The verbs of the vault: what the rest of the service may ask of it, and what each promises.

What crosses is sealed, public, or finished and fit for a wire. No verb returns a clear PIN, none
translates with a PAN from a caller, none answers whether a PIN is right. Every sealed value comes
with the card and the change counter it was sealed for; a value of another card or of another
counter does not open.

They stand in the order of the sockets that take them (:mod:`hsm.messages`).
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from crypto.pin_image import ImageStyle
from crypto.secret import Secret
from hsm.port import (
    BatchPart,
    CardRef,
    CertificateFacts,
    ChipTransaction,
    DeviceBlock,
    DeviceKey,
    GrantedToken,
    HandOut,
    IssuedAccessToken,
    KeyGenerations,
    KeyUse,
    MailerBatch,
    PinBlockType,
    PublicKeyRole,
    Purpose,
    RefusedCard,
    Resealing,
    SealedCard,
    SealedChange,
    SealedGrant,
    SealedPin,
    SealedRecord,
    SealedTzpk,
    SealedValue,
    StoredCard,
    StoredPin,
    ValueKind,
)

if TYPE_CHECKING:
    from hsm.manifest.model import Manifest


class PinVault(Protocol):
    """The vault. Every verb is synchronous and raises errors of :mod:`hsm.errors` only.

    Any verb may raise ``VaultUnavailable``: nothing was changed and the call may be repeated.
    What an issuer decides is in its manifest, which the vault keeps: verbs that need it raise
    ``ManifestRefused`` when there is none, or none that is in force. Verbs that take sealed values
    raise ``SealBroken`` when those are not of this card and counter, or a PIN or its verification
    values of another holder than the record's. Of a verb that takes a grant, that is the grant's
    card and counter. Verbs that set or hand out anything write a line of it into the log of this
    host; where that cannot be written they raise ``LogUnavailable``, a ``VaultUnavailable``, and
    return nothing.

    A grant is for one control token, and the vault makes both only for who has shown it evidence: a
    cardholder's access token, or the password of an issuer's own server. No other verb shows a
    PIN, or takes one from a page. It is not for this when it was made for another control token or
    purpose, the client that asked for it is no longer in the manifest, or the record says that
    somebody else holds the card; and no longer 60 s after the last session could have ended.
    """

    # The socket of D1.

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

    # The socket of cardholders.

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

    # The socket of operators.

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

    def forget_failures(self, card: CardRef) -> None:
        """Forget that PINs of *card* failed, on this host."""
        ...

    def export_values(
        self,
        values: Mapping[ValueKind, SealedValue],
        sealed_record: SealedRecord,
        card: CardRef,
        counter: int,
    ) -> HandOut[str]:
        """Hand out PIN verification values in a compact JWE to the authorisation host.

        Those of a PIN of another holder than the record names do not open.

        The plaintext is JSON: ``issuerId``, ``cardId``, ``counter``, and a member for each of
        *values*, named as its kind.
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
            pins: up to :data:`hsm.port.MAILERS_MAX`.
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
            cards: at most :data:`hsm.port.RESEAL_CARDS_MAX`.

        Raises:
            MessageRefused: there are more.
        """
        ...

    def load_minimum_versions(self, text: str) -> None:
        """Take a list of minimum versions as operators signed it, on a host that has none.

        Raises:
            ManifestRefused: too few operators who count signed it, it is not good now or malformed,
                or this host has one.
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

    # Every socket.

    def load_manifest(self, text: str) -> int:
        """Take a manifest as operators signed it; return its version. The newest may come again.

        Raises:
            ManifestRefused: too few operators who count signed it, it is older than the newest, not
                in force now or malformed, it names one of our own keys as a recipient, or the
                identity provider and audience of another issuer, or this host has no minimum
                versions.
        """
        ...

    def manifest_version(self, issuer_id: str) -> int:
        """Return the version of the newest manifest, in force or not; 0 if there is none."""
        ...

    def read_manifest(self, issuer_id: str) -> "Manifest":
        """Return the manifest that is in force. All of it is public."""
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

    def token_issuer(self) -> str | None:
        """Return the issuer and audience of access tokens; None: this vault issues none."""
        ...

    def key_uses(self) -> Sequence[KeyUse]:
        """List how often keys were used at this host: TDES keys, and keys of AES-GCM.

        Of other workers it lacks up to 1,000 uses, or those of 10 s.

        Raises:
            CountsUnavailable: it cannot be read.
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
        """Show what all processes of this vault counted, as Prometheus reads it, and its own keys.

        Its labels are verbs, classes of errors, key labels with check values or thumbprints, and
        the like: nothing of a call is in it, and there is no more of it the more there are of
        issuers or cards.
        """
        ...

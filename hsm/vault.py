"""The verbs of the port over an HSM token.

A verb opens what it needs, works, and seals the result; nothing clear is stored between two verbs.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

from crypto import pin_image, random_pin
from crypto.errors import CryptoError, JwkError, PinLengthError, RandomnessError, WeakPinError
from crypto.jose.jwk import EcPublicKey, parse_public, thumbprint
from crypto.pin_image import ImageStyle
from crypto.pinblock import PinBlockFormat, iso1
from crypto.seccos.card import CardData
from crypto.secret import Secret
from crypto.translation import permit
from crypto.types import Pin, PinBlock
from crypto.weak_pins import check
from hsm import exposition, generations, health, key_list, metrics, plaintexts
from hsm.access_tokens import AccessTokens
from hsm.bearers import Bearers
from hsm.budgets import FailureBudgets
from hsm.counts import Counts
from hsm.errors import (
    BearerRefused,
    CallerRefused,
    EvidenceRefused,
    GrantRefused,
    HsmError,
    KeyNotInUse,
    LimitReached,
    ManifestRefused,
    PageKeyRejected,
    PinRejected,
    SealBroken,
    StepUpMissing,
    TextNotOffered,
    TypeNotOffered,
    VaultUnavailable,
    WeakPinRefused,
    WrongPinData,
)
from hsm.feed_cards import FeedCard
from hsm.feeds import read_feed
from hsm.grants import Grant, Grants
from hsm.hand_outs import HandOuts
from hsm.iso1_blocks import Iso1Blocks, from_tzpk, to_device
from hsm.jose_keys import NO_KIDS, JoseKeys
from hsm.key_budgets import KeyBudgets
from hsm.kid_uses import KidUses
from hsm.log.files import DIRECTORY
from hsm.log.lines import Action, Event
from hsm.log.writer import VaultLog
from hsm.mailers import BureauKeys, Mailer
from hsm.manifest.client_secrets import is_secret
from hsm.manifest.clients import AppClient, D1Client, ServerClient
from hsm.manifest.host_files import HostFiles
from hsm.manifest.model import Manifest
from hsm.manifest.scripts import ScriptsBody
from hsm.manifest.store import Manifests
from hsm.manifest.trust import read_trust
from hsm.pkcs11.fingerprints import Fingerprints
from hsm.pkcs11.hsm_token import HsmToken
from hsm.pkcs11.keyring import Keyring
from hsm.pkcs11.keys import KeyLabel, KeyRole
from hsm.port import (
    ISSUER_ID_CHARS,
    BatchPart,
    CardRef,
    CertificateFacts,
    ChipTransaction,
    DeviceBlock,
    DeviceKey,
    Face,
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
from hsm.records import CardRecord
from hsm.reseal import Resealer
from hsm.scripts import Scripts
from hsm.seals import NOT_OPEN, Seals
from hsm.seccos import Accepted, SeccosReader
from hsm.verification import ValueMaker
from hsm.zone_blocks import ZoneBlocks

#: The PIN is one, and the issuer does not want it.
POLICY_ERRORS: Final = (PinLengthError, WeakPinError)

#: Whose verification values can be made can have those of every PIN made.
ANY_PIN: Final = Pin("0000")
D1: Final = "d1"
"""The face, as lines of the log name it."""
#: What somebody who may not see or set a PIN is refused with.
TOLD: Final = (BearerRefused, StepUpMissing, EvidenceRefused, GrantRefused, LimitReached)
T = TypeVar("T")
_Sealed: TypeAlias = tuple[SealedPin | None, Mapping[ValueKind, SealedValue], bool]
"""What a change is made of: PIN, PIN verification values, and whether a script is due."""

#: Who may ask for control tokens, by face.
CLIENTS: Final[Mapping[Face, type[AppClient | ServerClient]]] = {
    Face.HOSTED: AppClient,
    Face.PINCONTROL: ServerClient,
}


@dataclass(frozen=True, slots=True)
class _Granted:
    """A grant that is for this, and what it needs beside it."""

    grant: Grant
    manifest: Manifest
    record: CardRecord


class Vault:
    """The :class:`hsm.verbs.PinVault` of this service. Used from one thread only.

    Args:
        hsm_token: the HSM token; its keys are found at construction, and at each new table of key
            generations.
        state_directory: where this host keeps its manifests, what it counts and, in ``log``, its
            log; nobody else may write there.
        trust_file: whose signatures count (:mod:`hsm.manifest.trust`).
        now: the time, UTC, by which manifests and secrets are in force or not.
        token_issuer: issuer and audience of access tokens, which is the service's public URL; None:
            this vault issues none.
        to_disk: as :class:`hsm.log.writer.VaultLog` has it.
        key_budgets: what *hsm_token* tells of uses of its keys; None: it tells nobody here.
        kid_uses: how many JWEs keys opened, over several vaults of a process; None: of this one.

    Raises:
        VaultUnavailable: at construction, when a role has no key on the HSM token.
    """

    def __init__(
        self,
        hsm_token: HsmToken,
        state_directory: Path,
        trust_file: Path,
        now: Callable[[], datetime],
        token_issuer: str | None = None,
        to_disk: Callable[[int], None] = os.fdatasync,
        key_budgets: KeyBudgets | None = None,
        kid_uses: KidUses | None = None,
    ) -> None:
        self._hsm_token = hsm_token
        self._now = now
        self._trust_file = trust_file
        self._generations = generations.of_host(state_directory, hsm_token)
        self._keyring = Keyring(hsm_token, self._generations)
        self._fingerprints = Fingerprints(hsm_token, self._keyring)
        self._counts = Counts(state_directory, now)
        self._kid_uses = kid_uses or KidUses(self._counts, now)
        self._jose_keys = JoseKeys(hsm_token, self._keyring, self._kid_uses.note)
        self._probed_keys = JoseKeys(hsm_token, self._keyring)
        """The same, whose use is none of a partner's and not counted."""
        self._access_tokens = AccessTokens(
            *(hsm_token, self._jose_keys, self._keyring), token_issuer, now
        )
        self._seals = Seals(hsm_token, self._keyring)
        self._iso1_blocks = Iso1Blocks(hsm_token)
        self._resealer = Resealer(self._seals, self._keyring)
        self._key_budgets = key_budgets or KeyBudgets(self._counts)
        self._failure_budgets = FailureBudgets(self._counts)
        self._hand_outs = HandOuts(self._counts)
        self._scripts = Scripts(hsm_token, self._keyring, self._counts)
        self._bearers = Bearers(now)
        self._grants = Grants(hsm_token, self._keyring, now)
        self._manifests = Manifests(
            *(HostFiles(state_directory, self._keyring.mac), trust_file),
            partial(self._active, KeyRole.MANIFEST_MAC),
            now,
        )
        self._log = VaultLog(
            *(state_directory / DIRECTORY, self._keyring.mac),
            partial(self._active, KeyRole.LOG_MAC),
            now,
            to_disk,
        )

    def seal_cards(self, feed: str, issuer_id: str) -> Sequence[SealedCard | RefusedCard]:
        """Take in the cards of a feed."""
        manifest = self._manifests.read(issuer_id)
        cards = read_feed(feed, manifest, self._jose_keys, self._now())
        return [self._sealed(card) if isinstance(card, FeedCard) else card for card in cards]

    def keeps_pin(self, before: SealedRecord, after: SealedRecord, card: CardRef) -> bool:
        """Tell whether a PIN of *card* opens under its new record as it did under the old one."""
        new = self._seals.open_record(after, card)
        try:
            old = self._seals.open_record(before, card)
        except SealBroken:
            return False
        except KeyNotInUse:
            if self._seals.is_lost(before):
                return False
            raise
        return old.pan.reveal() == new.pan.reveal() and old.holder == new.holder

    def set_pin_from_jwe(
        self,
        jwe: str,
        block_type: PinBlockType,
        card: CardRef,
        sealed_record: SealedRecord,
        counter: int,
        client_id: str | None,
    ) -> SealedChange:
        """Take in the PIN of *card* from D1's JWE and seal it for change *counter*."""
        manifest = self._manifests.read(card.issuer_id)
        if not (client_id is None or isinstance(manifest.by_client_id.get(client_id), D1Client)):
            raise CallerRefused
        record = self._seals.open_record(sealed_record, card)
        with self._failure_budgets.one_try(manifest.policy, card, client_id, block_type):
            sealed = self._change_from_jwe(jwe, block_type, manifest, card, record, counter)
        return self._set(sealed, _event(Action.SET, card, counter, D1, client_id))

    def forget_failures(self, card: CardRef) -> None:
        """Forget that PINs of *card* failed."""
        self._failure_budgets.forget(card)

    def set_pin_from_page(
        self,
        grant: SealedGrant,
        control_token: str,
        jwe: str,
        sealed_record: SealedRecord,
    ) -> SealedChange:
        """Take in a PIN from a page's JWE and seal it for the change after the grant's counter."""
        granted = self._granted(grant, control_token, Purpose.SET, sealed_record)
        permit(PinBlockFormat.ISO1, PinBlockFormat.ISO4, same_pan=False)
        try:
            members = self._jose_keys.open_jwe(jwe, KeyRole.PAGE)
            block = PinBlock.from_hex(plaintexts.text_member(members, "block"))
            if not plaintexts.is_of_page(members, granted.grant.grant_id, control_token):
                raise PinRejected
            pin = iso1.decode(block)
            check(pin, granted.manifest.policy.for_pages)
        except POLICY_ERRORS:
            raise WeakPinRefused from None
        except CryptoError:
            raise PinRejected from None
        self._count(granted, Action.SET)
        opened, counter = granted.grant, granted.grant.counter + 1
        sealed = self._change(
            *(Accepted(pin, {}), granted.manifest, granted.record, opened.card, counter),
            keep_pin=True,
        )
        return self._set(sealed, _event_of(Action.SET, opened, counter))

    def verify_bearer(self, bearer: Secret[str], issuer_id: str, *, for_pin: bool = False) -> str:
        """Return the cardholder's id: the subject of an access token of the identity provider."""
        manifest = self._manifests.read(issuer_id)
        with self._telling(manifest, Face.HOSTED):
            verify = self._bearers.subject_for_pin if for_pin else self._bearers.subject
            return verify(bearer, manifest).cardholder_id

    def grant_bearer(
        self,
        bearer: Secret[str],
        client_id: str,
        purpose: Purpose,
        card: CardRef,
        sealed_record: SealedRecord,
        counter: int,
    ) -> GrantedToken:
        """Make a control token of the hosted face for a card, and its grant."""
        manifest = self._manifests.read(card.issuer_id)
        with self._telling(manifest, Face.HOSTED, client_id):
            subject = self._bearers.subject_for_pin(bearer, manifest)
            holder = self._seals.open_record(sealed_record, card).holder
            client = manifest.by_client_id.get(client_id)
            if not isinstance(client, AppClient) or subject.cardholder_id != holder:
                raise EvidenceRefused
        return self._grants.issue(Face.HOSTED, client_id, purpose, card, counter, holder)

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
        """Make a control token of the pincontrol face for a card, and its grant."""
        manifest = self._manifests.read(card.issuer_id)
        record = self._for_server(manifest, user, secret, plastic_id, card, sealed_record)
        return self._grants.issue(*(Face.PINCONTROL, user, purpose, card, counter, record.holder))

    def export_jwe(
        self,
        sealed_pin: SealedPin,
        sealed_record: SealedRecord,
        card: CardRef,
        counter: int,
    ) -> HandOut[str]:
        """Hand out the PIN as an ISO-0 block in a JWE to the manifest's recipient."""
        manifest = self._manifests.read(card.issuer_id)
        if manifest.recipient is None:
            raise ManifestRefused("the manifest names no recipient")
        record = self._seals.open_record(sealed_record, card)
        pin = self._seals.open_pin(sealed_pin, record, card, counter)
        plaintext = self._blocks(manifest, card).write(pin, record.pan)
        jwe = self._jose_keys.encrypt(plaintext, manifest.recipient.key)
        return self._handed_out(jwe, _event(Action.EXPORT, card, counter, D1))

    def render_image(
        self,
        grant: SealedGrant,
        control_token: str,
        sealed_pin: SealedPin,
        sealed_record: SealedRecord,
        style: ImageStyle,
    ) -> HandOut[bytes]:
        """Draw the PIN as a PNG."""
        granted = self._granted(grant, control_token, Purpose.VIEW, sealed_record)
        pin = self._shown(granted, sealed_pin, Action.IMAGE)
        png = pin_image.render(pin, style, self._hsm_token.random)
        opened = granted.grant
        return self._handed_out(png, _event_of(Action.IMAGE, opened, opened.counter))

    def digits_jwe(
        self,
        grant: SealedGrant,
        control_token: str,
        sealed_pin: SealedPin,
        sealed_record: SealedRecord,
        key: Mapping[str, object],
    ) -> HandOut[str]:
        """Hand out the digits in a JWE to a page that asked for text."""
        granted = self._granted(grant, control_token, Purpose.VIEW, sealed_record)
        if not granted.manifest.policy.text_reveal:
            raise TextNotOffered
        page_key = self._page_key(key)
        pin = self._shown(granted, sealed_pin, Action.TEXT)
        opened = granted.grant
        jwe = self._jose_keys.encrypt(plaintexts.write_digits(pin, opened.grant_id), page_key)
        return self._handed_out(jwe, _event_of(Action.TEXT, opened, opened.counter))

    def export_values(
        self,
        values: Mapping[ValueKind, SealedValue],
        card: CardRef,
        counter: int,
    ) -> HandOut[str]:
        """Hand out PIN verification values in a JWE to the manifest's authorisation host."""
        host = self._manifests.read(card.issuer_id).verification_host
        if host is None:
            raise ManifestRefused("the manifest names no authorisation host")
        opened = {
            kind: self._seals.open_value(sealed, kind, card, counter)
            for kind, sealed in values.items()
        }
        jwe = self._jose_keys.encrypt(plaintexts.write_values(opened, card, counter), host.key)
        return self._handed_out(jwe, _event(Action.VALUES, card, counter))

    def generate_pin(
        self, card: CardRef, sealed_record: SealedRecord, counter: int
    ) -> SealedChange:
        """Make a PIN of *card* and seal it for change *counter*; nobody sees it."""
        manifest = self._manifests.read(card.issuer_id)
        record = self._seals.open_record(sealed_record, card)
        try:
            pin = random_pin.draw(manifest.policy.for_d1, self._hsm_token.random)
        except RandomnessError:
            raise VaultUnavailable("the token gives no random digits") from None
        taken = Accepted(pin, {})
        sealed = self._change(taken, manifest, record, card, counter, keep_pin=True)
        return self._set(sealed, _event(Action.SET, card, counter))

    def export_mailers(
        self, issuer_id: str, pins: Sequence[StoredPin], part: BatchPart
    ) -> MailerBatch:
        """Hand out PINs as a batch to the personalisation bureau, under its key in the manifest."""
        manifest = self._manifests.read(issuer_id)
        if (bureau := manifest.bureau) is None:
            raise ManifestRefused("the manifest names no bureau")
        keys = BureauKeys(
            *(self._hsm_token, self._keyring, issuer_id, bureau), self._may_encipher(manifest)
        )
        self._hand_outs.count_mailers(issuer_id, len(pins), bureau.pins_day_max)
        mailers, refused = [], []
        for stored in pins:
            try:
                mailers.append(self._mailer(keys, issuer_id, stored))
            except NOT_OPEN:
                refused.append(stored.card.card_id)
        receipts = [
            # What one of them has on the disk, all before it have too.
            self._log.append(
                _event(Action.MAILER, mailer.card, mailer.counter), durable=mailer is mailers[-1]
            )
            for mailer in mailers
        ]
        text = keys.batch(issuer_id, part, self._now(), mailers, receipts)
        return MailerBatch(text, refused)

    def build_script(
        self,
        sealed_pin: SealedPin,
        sealed_record: SealedRecord,
        card: CardRef,
        counter: int,
        transaction: ChipTransaction,
    ) -> HandOut[bytes]:
        """Hand out the PIN as a command for the chip."""
        manifest = self._manifests.read(card.issuer_id)
        body = _scripts(manifest)
        record = self._seals.open_record(sealed_record, card)
        pin = self._seals.open_pin(sealed_pin, record, card, counter)
        keys = self._scripts.keys(card.issuer_id, body, self._may_encipher(manifest))
        with self._telling(manifest):
            self._scripts.count(body, card)
        command = self._scripts.pin_change(pin, _card_data(record), body, keys, transaction)
        return self._handed_out(command, _event(Action.SCRIPT, card, counter))

    def reverse_pin(
        self,
        sealed_pin: SealedPin,
        earlier_pin: SealedPin,
        sealed_record: SealedRecord,
        card: CardRef,
        counter: int,
    ) -> SealedChange:
        """Seal the PIN before change *counter* anew, for the change after it."""
        manifest = self._manifests.read(card.issuer_id)
        _scripts(manifest)
        record = self._seals.open_record(sealed_record, card)
        self._seals.open_pin(sealed_pin, record, card, counter)
        pin = self._seals.open_pin(earlier_pin, record, card, counter - 1)
        with self._telling(manifest):
            self._scripts.count_reversal(card)
        after = counter + 1
        sealed = self._change(Accepted(pin, {}), manifest, record, card, after, keep_pin=True)
        return self._set(sealed, _event(Action.SET, card, after))

    def load_manifest(self, text: str) -> int:
        """Take a manifest as operators signed it; return its version."""
        manifest = self._manifests.verified(text)
        for body in (manifest.recipient, manifest.verification_host):
            if body is not None and self._jose_keys.has(body.key):
                raise ManifestRefused("a recipient is one of our own keys")
        if any(self._jose_keys.has(feed.key) for feed in manifest.feeds):
            raise ManifestRefused("a feed's key is one of our own keys")
        self._jose_keys.check_own_kids(KeyRole.D1, manifest.wire.jwe.own_kids)
        self._manifests.keep(text, manifest)
        return manifest.version

    def load_minimum_versions(self, text: str) -> None:
        """Take a list of minimum versions as operators signed it, on a host that has none."""
        self._manifests.begin(text)
        # A host that lacks its table of key generations begins its log when it takes one.
        with suppress(ManifestRefused):
            self._keyring.follow()
            self._log.begin()

    def manifest_version(self, issuer_id: str) -> int:
        """Return the version of the newest manifest, in force or not; 0 if there is none."""
        return self._manifests.version(issuer_id)

    def read_manifest(self, issuer_id: str) -> Manifest:
        """Return the manifest that is in force."""
        return self._manifests.read(issuer_id)

    def issue_token(
        self, client_id: str, secret: Secret[str], certificate: CertificateFacts
    ) -> IssuedAccessToken:
        """Issue an access token of D1 to a client that gave its secret."""
        manifest = self._manifests.read(client_id[:ISSUER_ID_CHARS])
        return self._access_tokens.issue(manifest, client_id, secret, certificate)

    def public_jwks(
        self, role: PublicKeyRole, own_kids: Mapping[str, int] = NO_KIDS
    ) -> Mapping[str, list[dict[str, str]]]:
        """List the public keys of *role*, newest generation first."""
        self._keyring.follow()
        return self._jose_keys.public_jwks(KeyRole(role), own_kids)

    def health(self) -> None:
        """Use every active key once and compare what comes back."""
        health.check(
            *(self._hsm_token, self._probed_keys, self._keyring.active.values()),
            self._fingerprints.read(),
        )
        self._counts.check()
        self._log.check()

    def metrics(self) -> str:
        """Show what all processes of this vault counted, and which keys of its own it has."""
        keys: Mapping[KeyLabel, str] = {}
        with suppress(HsmError):  # what was counted is shown without an HSM token too
            keys = self._fingerprints.read()
        return exposition.text(metrics.KeyInfo(keys))

    def load_generations(self, text: str) -> int:
        """Take a table of key generations as operators signed it; return its version."""
        table = generations.verified(text, self._trust_file, self._now())
        self._hsm_token.find_keys()
        there = {x for x in self._hsm_token.labels() if self._hsm_token.is_as_expected(x)}
        generations.keep(self._generations, text, read_trust(self._trust_file), there)
        self._keyring.follow()
        self._log.begin()
        digest = hashlib.sha256(table.canonical()).hexdigest()
        self._log.append(Event(Action.TABLE, record=digest), durable=True)
        return table.version

    def read_generations(self) -> KeyGenerations:
        """List the keys of this host, each with its state, and how it was used."""
        return key_list.read(
            self._keyring, self._jose_keys, self._generations.table(), self._kid_uses.read()
        )

    def _active(self, role: KeyRole) -> KeyLabel:
        return self._keyring.active[role]

    def key_uses(self) -> Sequence[KeyUse]:
        """List how often keys were used at this host."""
        return self._key_budgets.read()

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
        """Hand out the PIN to an issuer's own server, under their ZPK."""
        manifest = self._manifests.read(card.issuer_id)
        record = self._for_server(manifest, user, secret, plastic_id, card, sealed_record)
        label = self._server_zpk(manifest, user, zpk_index)
        self._may_encipher(manifest)(label)
        pin = self._seals.open_pin(sealed_pin, record, card, counter)
        block = self._iso1_blocks.under_zpk(pin, label)
        self._count_for_server(manifest, card, user)
        return self._handed_out(block, _event(Action.SERVER, card, counter, Face.PINCONTROL, user))

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
        """Take in a PIN from an issuer's own server and seal it for change *counter*."""
        manifest = self._manifests.read(card.issuer_id)
        record = self._for_server(manifest, user, secret, plastic_id, card, sealed_record)
        label = self._server_zpk(manifest, user, zpk_index)
        with self._failure_budgets.one_iso1(manifest.policy, card, user):
            pin = self._iso1_blocks.from_zpk(block, label, manifest.policy.for_pages)
        self._count_for_server(manifest, card, user)
        sealed = self._change(Accepted(pin, {}), manifest, record, card, counter, keep_pin=True)
        return self._set(sealed, _event(Action.SET, card, counter, Face.PINCONTROL, user))

    def export_device_block(
        self,
        grant: SealedGrant,
        control_token: str,
        public_key: bytes,
        sealed_pin: SealedPin,
        sealed_record: SealedRecord,
    ) -> HandOut[DeviceBlock]:
        """Hand out the PIN to a cardholder's device, under a key that only the device can open."""
        granted = self._for_device(grant, control_token, Purpose.VIEW, sealed_record)
        tzpk = self._iso1_blocks.new_tzpk()
        enciphered = to_device(tzpk, public_key)
        pin, opened = self._shown(granted, sealed_pin, Action.DEVICE), granted.grant
        made = DeviceBlock(enciphered, self._iso1_blocks.under_tzpk(pin, tzpk))
        return self._handed_out(made, _event_of(Action.DEVICE, opened, opened.counter))

    def make_device_key(
        self,
        grant: SealedGrant,
        control_token: str,
        public_key: bytes,
        sealed_record: SealedRecord,
    ) -> DeviceKey:
        """Make the key under which a cardholder's device sends a PIN for this control token."""
        granted = self._for_device(grant, control_token, Purpose.SET, sealed_record)
        opened, tzpk = granted.grant, self._iso1_blocks.new_tzpk()
        enciphered = to_device(tzpk, public_key)
        with self._telling(granted.manifest, opened.face, opened.client_id):
            self._hand_outs.count_device_key(opened)
        return DeviceKey(enciphered, self._seals.seal_tzpk(tzpk, opened, control_token))

    def set_pin_from_device(
        self,
        grant: SealedGrant,
        control_token: str,
        sealed_tzpk: SealedTzpk,
        block: bytes,
        sealed_record: SealedRecord,
    ) -> SealedChange:
        """Take in a PIN from a cardholder's device, sealed for the change after the grant's."""
        granted = self._for_device(grant, control_token, Purpose.SET, sealed_record)
        opened, manifest, counter = granted.grant, granted.manifest, granted.grant.counter + 1
        tzpk = self._seals.open_tzpk(sealed_tzpk, opened, control_token)
        with self._failure_budgets.one_iso1(manifest.policy, opened.card, opened.client_id):
            pin = from_tzpk(block, tzpk, manifest.policy.for_pages)
        self._count(granted, Action.SET)
        sealed = self._change(
            *(Accepted(pin, {}), manifest, granted.record, opened.card, counter), keep_pin=True
        )
        return self._set(sealed, _event_of(Action.SET, opened, counter))

    def reseal(self, cards: Sequence[StoredCard]) -> Resealing:
        """Seal what is stored of cards under the active keys, where it is not."""
        resealing, event = self._resealer.reseal(cards)
        if event is not None:
            self._log.append(event, durable=False)
        return resealing

    def _sealed(self, described: FeedCard) -> SealedCard:
        card, record = described.card, described.record
        return SealedCard(
            card,
            self._seals.seal_record(record, card),
            record.pan.last_four,
            record.psn,
            record.expiry,
            record.plastic_id,
            record.cardholder_id,
            described.others,
        )

    def _change_from_jwe(
        self,
        jwe: str,
        block_type: PinBlockType,
        manifest: Manifest,
        card: CardRef,
        record: CardRecord,
        counter: int,
    ) -> _Sealed:
        """Take the PIN out of the JWE and seal it; a try, which is counted when it fails."""
        reader = None if block_type is PinBlockType.ISO0 else self._reader(manifest)
        data = _card_data(record)
        try:
            members = self._jose_keys.open_jwe(
                jwe, KeyRole.D1, manifest.wire.jwe.extra, manifest.wire.jwe.own_kids
            )
        except CryptoError:
            raise PinRejected from None
        try:
            if reader is None:
                blocks, policy = self._blocks(manifest, card), manifest.policy.for_d1
                taken = Accepted(blocks.read(members, data.pan, policy), {})
            else:
                taken = reader.read(members, data, _changes_before(counter))
            if taken.pin is not None:
                check(taken.pin, manifest.policy.for_d1)
        except CryptoError as error:
            if reader is None:
                # What no PIN of this card can get is said of a wrong block too: said of right ones
                # only, it would tell that the PAN was guessed.
                self._value_maker(manifest).complete({}, ANY_PIN, data, _changes_before(counter))
            if isinstance(error, POLICY_ERRORS):
                raise WeakPinRefused from None
            raise (WrongPinData if reader is None else PinRejected) from None
        # Format 2 must not become format 0, nor anything else that a PIN could be shown from.
        return self._change(taken, manifest, record, card, counter, keep_pin=reader is None)

    def _for_server(
        self,
        manifest: Manifest,
        user: str,
        secret: Secret[str],
        plastic_id: str,
        card: CardRef,
        sealed_record: SealedRecord,
    ) -> CardRecord:
        """Open the record of a plastic for an issuer's own server that gave its password.

        Raises:
            EvidenceRefused: there is no such server, or this is not its plastic.
        """
        now = self._now().timestamp()
        with self._telling(manifest, Face.PINCONTROL, user):
            server = manifest.by_client_id.get(user)
            if not isinstance(server, ServerClient) or not is_secret(secret, server.secrets, now):
                raise EvidenceRefused
            record = self._seals.open_record(sealed_record, card)
            if record.plastic_id != plastic_id:
                raise EvidenceRefused
        return record

    def _server_zpk(self, manifest: Manifest, user: str, zpk_index: str) -> KeyLabel:
        generation = manifest.pin_operations.generation(user, zpk_index)
        if generation is None:
            raise TypeNotOffered
        return self._keyring.shared(KeyRole.ZPK_SERVER, manifest.issuer_id, generation)

    def _count_for_server(self, manifest: Manifest, card: CardRef, user: str) -> None:
        with self._telling(manifest, Face.PINCONTROL, user):
            self._hand_outs.count_without_grant(manifest.limits, card, user)

    def _for_device(
        self,
        grant: SealedGrant,
        control_token: str,
        purpose: Purpose,
        sealed_record: SealedRecord,
    ) -> _Granted:
        """Do as :meth:`_granted` at the pincontrol face, for what begins no page session.

        Raises:
            GrantRefused: the grant is not for this, or its control token is over.
            TypeNotOffered: the issuer has no PKI on.
        """
        granted = self._granted(grant, control_token, purpose, sealed_record)
        opened, manifest = granted.grant, granted.manifest
        with self._telling(manifest, opened.face, opened.client_id):
            is_over = self._now().timestamp() >= opened.token_ends_at
            if opened.face is not Face.PINCONTROL or is_over:
                raise GrantRefused
        if not manifest.pin_operations.pki:
            raise TypeNotOffered
        return granted

    def _granted(
        self,
        grant: SealedGrant,
        control_token: str,
        purpose: Purpose,
        sealed_record: SealedRecord,
    ) -> _Granted:
        """Open a grant and the record of its card, and compare both with the manifest in force.

        Raises:
            GrantRefused: it is not for this, or no longer.
        """
        with self._telling():
            opened = self._grants.open(grant, control_token, purpose)
        manifest = self._manifests.read(opened.card.issuer_id)
        with self._telling(manifest, opened.face, opened.client_id):
            client = manifest.by_client_id.get(opened.client_id)
            if not isinstance(client, CLIENTS[opened.face]):
                raise GrantRefused
            record = self._seals.open_record(sealed_record, opened.card)
            if record.holder != opened.cardholder_id:
                raise GrantRefused
        return _Granted(opened, manifest, record)

    def _mailer(self, keys: BureauKeys, issuer_id: str, stored: StoredPin) -> Mailer:
        card, counter = stored.card, stored.counter
        if card.issuer_id != issuer_id:
            raise SealBroken
        record = self._seals.open_record(stored.sealed_record, card)
        pin = self._seals.open_pin(stored.sealed_pin, record, card, counter)
        return Mailer(card, counter, record.pan.last_four, keys.encipher(pin, record.pan))

    def _shown(self, granted: _Granted, sealed_pin: SealedPin, what: Action) -> Pin:
        """Open a PIN to show it, which is counted.

        Raises:
            LimitReached: there are too many already.
        """
        grant = granted.grant
        pin = self._seals.open_pin(sealed_pin, granted.record, grant.card, grant.counter)
        self._count(granted, what)
        return pin

    def _count(self, granted: _Granted, what: Action) -> None:
        grant, manifest = granted.grant, granted.manifest
        with self._telling(manifest, grant.face, grant.client_id):
            self._hand_outs.count(manifest.limits, grant, what)

    def _change(
        self,
        taken: Accepted,
        manifest: Manifest,
        record: CardRecord,
        card: CardRef,
        counter: int,
        *,
        keep_pin: bool,
    ) -> _Sealed:
        """Make the PIN verification values and seal everything for change *counter*."""
        value_maker = self._value_maker(manifest)
        values = value_maker.complete(
            taken.values, taken.pin, _card_data(record), _changes_before(counter)
        )
        sealed_pin = None
        if keep_pin and taken.pin is not None:
            sealed_pin = self._seals.seal_pin(taken.pin, record, card, counter)
        sealed_value = partial(self._seals.seal_value, card=card, counter=counter)
        sealed_values = {kind: sealed_value(value, kind) for kind, value in values.items()}
        return sealed_pin, sealed_values, manifest.scripts is not None and sealed_pin is not None

    def _set(self, sealed: _Sealed, event: Event) -> SealedChange:
        """Give a change out when a line that tells of it is written."""
        sealed_pin, values, script_due = sealed
        receipt = self._log.append(event, durable=False)
        return SealedChange(sealed_pin, values, receipt, script_due)

    def _handed_out(self, value: T, event: Event) -> HandOut[T]:
        """Hand out *value* when a line that tells of it is on the disk."""
        return HandOut(value, self._log.append(event, durable=True))

    @contextmanager
    def _telling(
        self,
        manifest: Manifest | None = None,
        face: Face | None = None,
        client_id: str | None = None,
    ) -> Iterator[None]:
        """Tell the log of a refusal, and of *client_id* only if the manifest names it."""
        try:
            yield
        except TOLD as error:
            issuer_id = None if manifest is None else manifest.issuer_id
            if manifest is None or client_id not in manifest.by_client_id:
                client_id = None
            reason = type(error).__name__
            error.receipt = self._log.refuse(reason, issuer_id, face, client_id)
            raise

    def _blocks(self, manifest: Manifest, card: CardRef) -> ZoneBlocks:
        return ZoneBlocks(
            self._hsm_token,
            self._keyring,
            card.issuer_id,
            manifest.wire.iso0,
            self._may_encipher(manifest),
        )

    def _may_encipher(self, manifest: Manifest) -> Callable[[KeyLabel], None]:
        """Return what raises ``KeyUsedUp`` for a TDES key that may encipher no more."""
        blocks_max = manifest.limits.tdes_blocks_max
        return partial(self._key_budgets.check, tdes_blocks_max=blocks_max)

    def _page_key(self, jwk: Mapping[str, object]) -> EcPublicKey:
        try:
            key = parse_public(jwk)
        except JwkError:
            raise PageKeyRejected from None
        if self._jose_keys.has(key):
            raise PageKeyRejected
        # A kid of the page's choice would show in the length of the JWE.
        return EcPublicKey(thumbprint(key.x, key.y), key.x, key.y)

    def _value_maker(self, manifest: Manifest) -> ValueMaker:
        return ValueMaker(
            self._hsm_token,
            self._keyring,
            manifest.issuer_id,
            manifest.verification,
            manifest.seccos,
            self._may_encipher(manifest),
        )

    def _reader(self, manifest: Manifest) -> SeccosReader:
        if manifest.seccos is None:
            raise TypeNotOffered
        return SeccosReader(self._hsm_token, self._keyring, manifest.issuer_id, manifest.seccos)


def _scripts(manifest: Manifest) -> ScriptsBody:
    if manifest.scripts is None:
        raise ManifestRefused("the manifest has no scripts")
    return manifest.scripts


def _changes_before(counter: int) -> int:
    """Count the changes before this one; a PIN that comes with its card is change 0."""
    return max(counter - 1, 0)


def _event(
    what: Action,
    card: CardRef,
    counter: int,
    face: str | None = None,
    client_id: str | None = None,
) -> Event:
    return Event(what, card.issuer_id, card.card_id, face, client_id, counter=counter)


def _event_of(what: Action, grant: Grant, counter: int) -> Event:
    """Tell of what was done against a grant."""
    card = grant.card
    return Event(
        *(what, card.issuer_id, card.card_id, grant.face, grant.client_id),
        grant_id=grant.grant_id,
        counter=counter,
    )


def _card_data(record: CardRecord) -> CardData:
    month, year = record.expiry[:2], record.expiry[2:]
    return CardData(record.pan, record.psn, year + month)

"""The verbs of the port over an HSM token.

A verb opens what it needs, works, and seals the result; nothing clear is stored between two verbs.
"""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from crypto import pin_image, random_pin
from crypto.errors import RandomnessError
from crypto.pin_image import ImageStyle
from crypto.secret import Secret
from crypto.types import Pin
from hsm import exposition, generations, health, key_list, metrics, plaintexts
from hsm.access_tokens import AccessTokens
from hsm.bearers import Bearers
from hsm.budgets import FailureBudgets
from hsm.counts import Counts
from hsm.d1_pins import D1Pins
from hsm.errors import (
    CallerRefused,
    HsmError,
    KeyNotInUse,
    ManifestRefused,
    SealBroken,
    TextNotOffered,
    TypeNotOffered,
    VaultUnavailable,
)
from hsm.evidence import Evidence, Granted
from hsm.feed_cards import FeedCard
from hsm.feeds import read_feed
from hsm.grants import Grants
from hsm.hand_outs import HandOuts
from hsm.iso1_blocks import Iso1Blocks, from_tzpk, to_device
from hsm.jose_keys import NO_KIDS, JoseKeys
from hsm.key_budgets import KeyBudgets
from hsm.kid_uses import KidUses
from hsm.log.files import DIRECTORY
from hsm.log.lines import Action, Event
from hsm.log.refusals import telling
from hsm.log.writer import VaultLog
from hsm.mailers import Mailers
from hsm.manifest.clients import D1Client
from hsm.manifest.host_files import HostFiles
from hsm.manifest.model import Manifest
from hsm.manifest.scripts import ScriptsBody
from hsm.manifest.store import Manifests
from hsm.manifest.trust import read_trust
from hsm.page_pins import PagePins
from hsm.pin_changes import PinChanges
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
from hsm.reseal import Resealer
from hsm.scripts import Scripts
from hsm.seals import PinOf, Seals
from hsm.seccos import Accepted

D1: Final = "d1"
"""The face, as lines of the log name it."""
T = TypeVar("T")


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
        self._page_pins = PagePins(self._jose_keys)
        self._resealer = Resealer(self._seals, self._keyring)
        self._key_budgets = key_budgets or KeyBudgets(self._counts)
        self._failure_budgets = FailureBudgets(self._counts)
        self._hand_outs = HandOuts(self._counts)
        self._scripts = Scripts(hsm_token, self._keyring, self._counts)
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
        self._mailers = Mailers(
            *(hsm_token, self._keyring, self._seals, self._key_budgets, self._hand_outs),
            self._log,
            now,
        )
        self._evidence = Evidence(
            *(self._manifests, self._seals, Bearers(now), self._grants, self._log), now
        )
        self._pin_changes = PinChanges(
            *(hsm_token, self._keyring, self._seals, self._key_budgets, self._log)
        )
        self._d1_pins = D1Pins(
            *(hsm_token, self._keyring, self._jose_keys, self._key_budgets, self._pin_changes)
        )

    def seal_cards(self, feed: str, issuer_id: str) -> Sequence[SealedCard | RefusedCard]:
        """Take in the cards of a feed."""
        manifest = self._manifests.read(issuer_id)
        cards = read_feed(feed, manifest, self._jose_keys, self._now())
        seal = self._seals.seal_record
        return [
            card.sealed(seal(card.record, card.card)) if isinstance(card, FeedCard) else card
            for card in cards
        ]

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
        owner = PinOf(self._seals.open_record(sealed_record, card), card, counter)
        with self._failure_budgets.one_try(manifest.policy, card, client_id, block_type):
            taken = self._d1_pins.read(jwe, block_type, manifest, owner)
        event = Event.of_card(Action.SET, card, counter, D1, client_id)
        # Format 2 must not become format 0, nor anything else that a PIN could be shown from.
        keep_pin = block_type is PinBlockType.ISO0
        return self._pin_changes.seal(taken, manifest, owner, event, keep_pin=keep_pin)

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
        granted = self._evidence.granted(grant, control_token, Purpose.SET, sealed_record)
        policy = granted.manifest.policy.for_pages
        pin = self._page_pins.read(jwe, granted.grant, control_token, policy)
        return self._set(pin, granted)

    def verify_bearer(self, bearer: Secret[str], issuer_id: str, *, for_pin: bool = False) -> str:
        """Return the cardholder's id: the subject of an access token of the identity provider."""
        manifest = self._manifests.read(issuer_id)
        return self._evidence.cardholder(manifest, bearer, for_pin=for_pin)

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
        holder = self._evidence.holder(manifest, bearer, client_id, card, sealed_record)
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
        record = self._evidence.plastic(manifest, user, secret, plastic_id, card, sealed_record)
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
        plaintext = self._d1_pins.blocks(manifest).write(pin, record.pan)
        jwe = self._jose_keys.encrypt(plaintext, manifest.recipient.key)
        return self._handed_out(jwe, Event.of_card(Action.EXPORT, card, counter, D1))

    def render_image(
        self,
        grant: SealedGrant,
        control_token: str,
        sealed_pin: SealedPin,
        sealed_record: SealedRecord,
        style: ImageStyle,
    ) -> HandOut[bytes]:
        """Draw the PIN as a PNG."""
        granted = self._evidence.granted(grant, control_token, Purpose.VIEW, sealed_record)
        pin = self._shown(granted, sealed_pin, Action.IMAGE)
        png = pin_image.render(pin, style, self._hsm_token.random)
        return self._handed_out(png, granted.event(Action.IMAGE))

    def digits_jwe(
        self,
        grant: SealedGrant,
        control_token: str,
        sealed_pin: SealedPin,
        sealed_record: SealedRecord,
        key: Mapping[str, object],
    ) -> HandOut[str]:
        """Hand out the digits in a JWE to a page that asked for text."""
        granted = self._evidence.granted(grant, control_token, Purpose.VIEW, sealed_record)
        if not granted.manifest.policy.text_reveal:
            raise TextNotOffered
        page_key = self._page_pins.read_key(key)
        pin = self._shown(granted, sealed_pin, Action.TEXT)
        digits = plaintexts.write_digits(pin, granted.grant.grant_id)
        jwe = self._jose_keys.encrypt(digits, page_key)
        return self._handed_out(jwe, granted.event(Action.TEXT))

    def export_values(
        self,
        values: Mapping[ValueKind, SealedValue],
        sealed_record: SealedRecord,
        card: CardRef,
        counter: int,
    ) -> HandOut[str]:
        """Hand out PIN verification values in a JWE to the manifest's authorisation host."""
        host = self._manifests.read(card.issuer_id).verification_host
        if host is None:
            raise ManifestRefused("the manifest names no authorisation host")
        owner = PinOf(self._seals.open_record(sealed_record, card), card, counter)
        opened = {
            kind: self._seals.open_value(sealed, kind, owner) for kind, sealed in values.items()
        }
        jwe = self._jose_keys.encrypt(plaintexts.write_values(opened, card, counter), host.key)
        return self._handed_out(jwe, Event.of_card(Action.VALUES, card, counter))

    def generate_pin(
        self, card: CardRef, sealed_record: SealedRecord, counter: int
    ) -> SealedChange:
        """Make a PIN of *card* and seal it for change *counter*; nobody sees it."""
        manifest = self._manifests.read(card.issuer_id)
        owner = PinOf(self._seals.open_record(sealed_record, card), card, counter)
        try:
            pin = random_pin.draw(manifest.policy.for_d1, self._hsm_token.random)
        except RandomnessError:
            raise VaultUnavailable("the token gives no random digits") from None
        event = Event.of_card(Action.SET, card, counter)
        return self._pin_changes.seal(Accepted(pin, {}), manifest, owner, event)

    def export_mailers(
        self, issuer_id: str, pins: Sequence[StoredPin], part: BatchPart
    ) -> MailerBatch:
        """Hand out PINs as a batch to the personalisation bureau, under its key in the manifest."""
        return self._mailers.export(self._manifests.read(issuer_id), pins, part)

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
        keys = self._scripts.keys(
            card.issuer_id, body, self._key_budgets.may_encipher(manifest.limits)
        )
        with telling(self._log, manifest):
            self._scripts.count(body, card)
        command = self._scripts.pin_change(pin, record.card_data, body, keys, transaction)
        return self._handed_out(command, Event.of_card(Action.SCRIPT, card, counter))

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
        with telling(self._log, manifest):
            self._scripts.count_reversal(card)
        owner = PinOf(record, card, counter + 1)
        event = Event.of_card(Action.SET, card, owner.counter)
        return self._pin_changes.seal(Accepted(pin, {}), manifest, owner, event)

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

    def token_issuer(self) -> str | None:
        """Return the issuer and audience of access tokens."""
        return self._access_tokens.token_issuer

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
            self._fingerprints,
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
        record = self._evidence.plastic(manifest, user, secret, plastic_id, card, sealed_record)
        label = self._server_zpk(manifest, user, zpk_index)
        self._key_budgets.may_encipher(manifest.limits)(label)
        pin = self._seals.open_pin(sealed_pin, record, card, counter)
        block = self._iso1_blocks.under_zpk(pin, label)
        self._count_for_server(manifest, card, user)
        event = Event.of_card(Action.SERVER, card, counter, Face.PINCONTROL, user)
        return self._handed_out(block, event)

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
        record = self._evidence.plastic(manifest, user, secret, plastic_id, card, sealed_record)
        label = self._server_zpk(manifest, user, zpk_index)
        with self._failure_budgets.one_iso1(manifest.policy, card, user):
            pin = self._iso1_blocks.from_zpk(block, label, manifest.policy.for_pages)
        self._count_for_server(manifest, card, user)
        event = Event.of_card(Action.SET, card, counter, Face.PINCONTROL, user)
        owner = PinOf(record, card, counter)
        return self._pin_changes.seal(Accepted(pin, {}), manifest, owner, event)

    def export_device_block(
        self,
        grant: SealedGrant,
        control_token: str,
        public_key: bytes,
        sealed_pin: SealedPin,
        sealed_record: SealedRecord,
    ) -> HandOut[DeviceBlock]:
        """Hand out the PIN to a cardholder's device, under a key that only the device can open."""
        granted = self._evidence.granted_device(grant, control_token, Purpose.VIEW, sealed_record)
        tzpk = self._iso1_blocks.new_tzpk()
        enciphered = to_device(tzpk, public_key)
        pin = self._shown(granted, sealed_pin, Action.DEVICE)
        made = DeviceBlock(enciphered, self._iso1_blocks.under_tzpk(pin, tzpk))
        return self._handed_out(made, granted.event(Action.DEVICE))

    def make_device_key(
        self,
        grant: SealedGrant,
        control_token: str,
        public_key: bytes,
        sealed_record: SealedRecord,
    ) -> DeviceKey:
        """Make the key under which a cardholder's device sends a PIN for this control token."""
        granted = self._evidence.granted_device(grant, control_token, Purpose.SET, sealed_record)
        opened, tzpk = granted.grant, self._iso1_blocks.new_tzpk()
        enciphered = to_device(tzpk, public_key)
        with telling(self._log, granted.manifest, opened.face, opened.client_id):
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
        granted = self._evidence.granted_device(grant, control_token, Purpose.SET, sealed_record)
        opened, policy = granted.grant, granted.manifest.policy
        tzpk = self._seals.open_tzpk(sealed_tzpk, opened, control_token)
        with self._failure_budgets.one_iso1(policy, opened.card, opened.client_id):
            pin = from_tzpk(block, tzpk, policy.for_pages)
        return self._set(pin, granted)

    def reseal(self, cards: Sequence[StoredCard]) -> Resealing:
        """Seal what is stored of cards under the active keys, where it is not."""
        resealing, event = self._resealer.reseal(cards)
        if event is not None:
            self._log.append(event, durable=False)
        return resealing

    def _server_zpk(self, manifest: Manifest, user: str, zpk_index: str) -> KeyLabel:
        generation = manifest.pin_operations.generation(user, zpk_index)
        if generation is None:
            raise TypeNotOffered
        return self._keyring.shared(KeyRole.ZPK_SERVER, manifest.issuer_id, generation)

    def _count_for_server(self, manifest: Manifest, card: CardRef, user: str) -> None:
        with telling(self._log, manifest, Face.PINCONTROL, user):
            self._hand_outs.count_without_grant(manifest.limits, card, user)

    def _shown(self, granted: Granted, sealed_pin: SealedPin, what: Action) -> Pin:
        """Open a PIN to show it, which is counted.

        Raises:
            LimitReached: there are too many already.
        """
        grant = granted.grant
        pin = self._seals.open_pin(sealed_pin, granted.record, grant.card, grant.counter)
        self._count(granted, what)
        return pin

    def _count(self, granted: Granted, what: Action) -> None:
        grant, manifest = granted.grant, granted.manifest
        with telling(self._log, manifest, grant.face, grant.client_id):
            self._hand_outs.count(manifest.limits, grant, what)

    def _set(self, pin: Pin, granted: Granted) -> SealedChange:
        """Seal a PIN for the change after the grant's counter, which is counted.

        Raises:
            LimitReached: there are too many already.
        """
        self._count(granted, Action.SET)
        owner = granted.pin_of(granted.grant.counter + 1)
        event = granted.event(Action.SET, owner.counter)
        return self._pin_changes.seal(Accepted(pin, {}), granted.manifest, owner, event)

    def _handed_out(self, value: T, event: Event) -> HandOut[T]:
        """Hand out *value* when a line that tells of it is on the disk."""
        return HandOut(value, self._log.append(event, durable=True))


def _scripts(manifest: Manifest) -> ScriptsBody:
    if manifest.scripts is None:
        raise ManifestRefused("the manifest has no scripts")
    return manifest.scripts

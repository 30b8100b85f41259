"""Batches of PINs for the personalisation bureau, which puts them on chips and into letters.

A batch is ASCII: a line for itself, one for each PIN and one that ends it, each a JSON object
without spaces and a line feed. Members stand in this order::

    {"layout":1,"issuerId":"…","file":"…","part":1,"last":true,"madeAt":"…","block":"ISO-4",
     "pinKeyGeneration":1,"macAlgorithm":"aes-cmac","macKeyGeneration":1}
    {"cardId":"…","lastFour":"1234","counter":0,"receipt":"…","block":"…"}
    {"count":1,"mac":"…"}

``file`` names the file of which this is a part, counted from 1; its ``last`` part says so.
``madeAt`` is ISO 8601, UTC. ``receipt`` names the line of the vault's log that tells of this PIN,
and ``lastFour`` is of the PAN, which the bureau has. Blocks and MAC are hexadecimal, upper case::

    ISO-4   format 4 under the AES key bureau-pin-aes   32 digits   another one each time
    ISO-0   format 0, TDES in ECB mode, bureau-pin      16 digits
    mac     of the bytes of the batch up to and without ,"mac":
            aes-cmac: bureau-mac, 32 digits; iso9797-alg3: bureau-mac-retail, 16 digits

ISO 9564-1:2017, 9.4 and 9.3. Both formats are bound to the PAN, as the sealed PIN is, so that one
may become the other (PCI PIN 3-3).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Final

from crypto import retail_mac
from crypto.jose import json_object
from crypto.pinblock import PinBlockFormat, iso0, iso4
from crypto.translation import permit
from crypto.types import Pan, Pin
from hsm.errors import ManifestRefused, SealBroken
from hsm.hand_outs import HandOuts
from hsm.key_budgets import KeyBudgets
from hsm.log.lines import Action, Event
from hsm.log.writer import VaultLog
from hsm.manifest.bureau import BureauBody
from hsm.manifest.model import Manifest
from hsm.pkcs11.hsm_token import HsmToken
from hsm.pkcs11.keyring import Keyring
from hsm.pkcs11.keys import LEFT_ROLES, KeyLabel, KeyRole
from hsm.port import BatchPart, CardRef, MailerBatch, StoredPin
from hsm.seals import NOT_OPEN, Seals

LAYOUT: Final = 1
_BLOCKS: Final = {
    "iso4": (PinBlockFormat.ISO4, KeyRole.BUREAU_PIN_AES, "ISO-4"),
    "iso0": (PinBlockFormat.ISO0, KeyRole.BUREAU_PIN, "ISO-0"),
}
_MACS: Final = {"aes-cmac": KeyRole.BUREAU_MAC, "iso9797-alg3": KeyRole.BUREAU_MAC_RETAIL}


@dataclass(frozen=True, slots=True)
class Mailer:
    """A PIN for the bureau: its block is enciphered."""

    card: CardRef
    counter: int
    last_four: str
    block: bytes


class BureauKeys:
    """The keys that an issuer shares with its bureau.

    Raises:
        KeyMissing: at construction, when one was not imported.
        KeyUsedUp: at construction, when one of TDES may encipher no more. A batch that has begun is
            ended.
        ManifestRefused: at construction, when one is of another kind.
    """

    def __init__(
        self,
        hsm_token: HsmToken,
        keyring: Keyring,
        issuer_id: str,
        body: BureauBody,
        may_encipher: Callable[[KeyLabel], None],
    ) -> None:
        self._hsm_token = hsm_token
        self._body = body
        self._format, pin_role, self._format_name = _BLOCKS[body.block]
        mac_role = _MACS[body.mac]
        self._pin_label = keyring.shared(
            pin_role, issuer_id, body.pin_key_generation, pin_role.kinds
        )
        self._mac_label = keyring.shared(
            mac_role, issuer_id, body.mac_key_generation, mac_role.kinds
        )
        labels = [self._pin_label, self._mac_label]
        if mac_role in LEFT_ROLES:
            left_role, generation = LEFT_ROLES[mac_role], body.mac_key_generation
            labels.append(keyring.shared(left_role, issuer_id, generation))
        for label in labels:
            may_encipher(label)

    def encipher(self, pin: Pin, pan: Pan) -> bytes:
        """Return the block of *pin* under the bureau's key.

        Raises:
            VaultUnavailable: the HSM token does not answer.
        """
        permit(PinBlockFormat.ISO4, self._format, same_pan=True)
        label = self._pin_label
        if self._format is PinBlockFormat.ISO0:
            return self._hsm_token.tdes_encrypt(label, iso0.encode(pin, pan).reveal())
        encrypt_cbc = partial(self._hsm_token.encrypt_cbc, label)
        return iso4.encipher(pin, pan, self._hsm_token.random, encrypt_cbc)

    def batch(
        self,
        issuer_id: str,
        part: BatchPart,
        made_at: datetime,
        mailers: Sequence[Mailer],
        receipts: Sequence[str],
    ) -> str:
        """Write a batch, with its MAC.

        Raises:
            VaultUnavailable: the HSM token does not answer.
        """
        body = self._body
        head: dict[str, object] = {
            "layout": LAYOUT,
            "issuerId": issuer_id,
            "file": part.file_id,
            "part": part.number,
            "last": part.is_last,
            "madeAt": made_at.astimezone(UTC).isoformat(timespec="seconds"),
            "block": self._format_name,
            "pinKeyGeneration": body.pin_key_generation,
            "macAlgorithm": body.mac,
            "macKeyGeneration": body.mac_key_generation,
        }
        lines: list[dict[str, object]] = [head, *map(_line, mailers, receipts)]
        lines.append({"count": len(mailers)})
        text = b"\n".join(map(json_object.serialize, lines)).removesuffix(b"}")
        return f'{text.decode("ascii")},"mac":"{self._mac(text).hex().upper()}"}}\n'

    def _mac(self, text: bytes) -> bytes:
        if self._mac_label.role not in LEFT_ROLES:
            return self._hsm_token.mac(self._mac_label, text)
        return retail_mac.compute(text, self._cbc(self._left_label), self._cbc(self._mac_label))

    @property
    def _left_label(self) -> KeyLabel:
        return self._mac_label.of(LEFT_ROLES[self._mac_label.role])

    def _cbc(self, label: KeyLabel) -> partial[bytes]:
        return partial(self._hsm_token.tdes_encrypt_cbc, label)


class Mailers:
    """Hands out PINs as batches."""

    def __init__(
        self,
        hsm_token: HsmToken,
        keyring: Keyring,
        seals: Seals,
        key_budgets: KeyBudgets,
        hand_outs: HandOuts,
        log: VaultLog,
        now: Callable[[], datetime],
    ) -> None:
        self._hsm_token = hsm_token
        self._keyring = keyring
        self._seals = seals
        self._key_budgets = key_budgets
        self._hand_outs = hand_outs
        self._log = log
        self._now = now

    def export(self, manifest: Manifest, pins: Sequence[StoredPin], part: BatchPart) -> MailerBatch:
        """Make a batch of PINs of an issuer, under the key of the bureau in its manifest.

        Raises:
            ManifestRefused: the manifest names no bureau, or a key of it is of another kind.
            KeyMissing: a key of it was not imported.
            KeyUsedUp: one of TDES may encipher no more.
            LimitReached: the bureau gets no more as many PINs today.
            VaultUnavailable: the HSM token does not answer, or this host cannot count or log.
        """
        if (bureau := manifest.bureau) is None:
            raise ManifestRefused("the manifest names no bureau")
        issuer_id = manifest.issuer_id
        may_encipher = self._key_budgets.may_encipher(manifest.limits)
        keys = BureauKeys(self._hsm_token, self._keyring, issuer_id, bureau, may_encipher)
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
                Event.of_card(Action.MAILER, mailer.card, mailer.counter),
                durable=mailer is mailers[-1],
            )
            for mailer in mailers
        ]
        text = keys.batch(issuer_id, part, self._now(), mailers, receipts)
        return MailerBatch(text, refused)

    def _mailer(self, keys: BureauKeys, issuer_id: str, stored: StoredPin) -> Mailer:
        card, counter = stored.card, stored.counter
        if card.issuer_id != issuer_id:
            raise SealBroken
        record = self._seals.open_record(stored.sealed_record, card)
        pin = self._seals.open_pin(stored.sealed_pin, record, card, counter)
        return Mailer(card, counter, record.pan.last_four, keys.encipher(pin, record.pan))


def _line(mailer: Mailer, receipt: str) -> dict[str, object]:
    return {
        "cardId": mailer.card.card_id,
        "lastFour": mailer.last_four,
        "counter": mailer.counter,
        "receipt": receipt,
        "block": mailer.block.hex().upper(),
    }

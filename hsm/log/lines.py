"""A line of the vault's log: its layout, and what holds it in its place.

A line is a JSON object without spaces and ends with a line feed. Its members, in this order; those
that an event does not have are left out::

    seq          from 1, one more than that of the line before
    at           ISO 8601, UTC, with microseconds
    what         an Action
    issuer_id, card_id, face, client_id, grant_id, counter
    reason       of a refusal, as :mod:`hsm.errors` names it
    count        how many refusals, or resealed cards, the line stands for
    chain        of a chain that begins, its number
    first        of one in the list of chains, SHA-256 of its first line
    record       SHA-256 of the record of a key ceremony, or of a table of keys, hexadecimal
    keys_from    labels of the keys under which cards were, with spaces between them
    keys_to      labels of the keys under which they were resealed
    before       SHA-256 of the bytes of the line before, hexadecimal; 64 zeros in the first
    key          label of the key that makes the MAC
    mac          AES-CMAC, 16 bytes, hexadecimal

The MAC is over :func:`hsm.sealed.length_prefixed` of ``log`` and the line's bytes as they are
without the member ``mac``. A *receipt* is seq and MAC, as in ``17.5f0c…``: each chain of a host has
a line 17, and the MAC tells which is meant. No PIN, PAN or cardholder stands in a line.
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from hmac import compare_digest
from typing import Final, Self, TypeAlias

from crypto.errors import JoseError
from crypto.jose import json_object
from hsm.errors import CeremonyError, LogBroken
from hsm.pkcs11.keys import KeyLabel, KeyRole
from hsm.port import CardRef
from hsm.sealed import length_prefixed

NOTHING_BEFORE: Final = "0" * 64
MAC_MEMBER: Final = b',"mac":"'
MAC_CHARS: Final = 32
MAC_PATTERN: Final = re.compile(f"[0-9a-f]{{{MAC_CHARS}}}")

Mac: TypeAlias = Callable[[KeyLabel, bytes], bytes]
"""Makes an AES-CMAC with the key of a label."""


class Action(StrEnum):
    """What the vault did."""

    BEGAN = "log.began"
    """It began its log: the first line of the list of chains, and no other."""
    CHAIN = "log.chain"
    """It began a chain: the first line of that chain, and one in the list of chains."""
    EXPORT = "pin.export"
    """It handed out a PIN to D1, as a JWE."""
    IMAGE = "pin.image"
    """It handed out a PIN as an image."""
    TEXT = "pin.text"
    """It handed out a PIN as digits, to a page."""
    VALUES = "verification.export"
    """It handed out PIN verification values to the authorisation host."""
    MAILER = "pin.mailer"
    """It handed out a PIN to the personalisation bureau, in a batch."""
    SET = "pin.set"
    """It sealed a PIN; whether that is stored, the database decides. One without a face it made."""
    SCRIPT = "pin.script"
    """It handed out a PIN as a command for the card's chip."""
    CEREMONY = "key.ceremony"
    """Custodians held a key ceremony (:mod:`hsm.ceremonies.ceremony_record`)."""
    TABLE = "key.table"
    """It took a table of key generations (:mod:`hsm.manifest.generation_table`)."""
    SERVER = "pin.server"
    """It handed out a PIN to an issuer's own server, under their ZPK."""
    DEVICE = "pin.device"
    """It handed out a PIN to a cardholder's device, under a TZPK."""
    RESEAL = "cards.resealed"
    """It sealed what is stored of cards under the active keys."""
    REFUSED = "refused"
    """It refused evidence or a grant."""


@dataclass(frozen=True, slots=True)
class Event:
    """What a line tells. All of it is public.

    *reason* and *count* are of a refusal, *chain* and *first* of a chain that begins, *record* is
    of a key ceremony or a table of keys, *count*, *keys_from* and *keys_to* are of cards that were
    resealed.
    """

    what: Action
    issuer_id: str | None = None
    card_id: str | None = None
    face: str | None = None
    client_id: str | None = None
    grant_id: str | None = None
    counter: int | None = None
    reason: str | None = None
    count: int | None = None
    chain: int | None = None
    first: str | None = None
    record: str | None = None
    keys_from: str | None = None
    keys_to: str | None = None

    @classmethod
    def of_card(
        cls,
        what: Action,
        card: CardRef,
        counter: int,
        face: str | None = None,
        client_id: str | None = None,
    ) -> Self:
        """Tell of what was done with a PIN of *card*, without a grant."""
        return cls(what, card.issuer_id, card.card_id, face, client_id, counter=counter)

    def members(self) -> dict[str, object]:
        """Name what the event has, in the order of a line."""
        every: dict[str, object] = {
            "what": self.what.value,
            "issuer_id": self.issuer_id,
            "card_id": self.card_id,
            "face": self.face,
            "client_id": self.client_id,
            "grant_id": self.grant_id,
            "counter": self.counter,
            "reason": self.reason,
            "count": self.count,
            "chain": self.chain,
            "first": self.first,
            "record": self.record,
            "keys_from": self.keys_from,
            "keys_to": self.keys_to,
        }
        return {name: value for name, value in every.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Line:
    """A line that was read. Neither its MAC nor its place was checked yet."""

    text: bytes
    """Its bytes, without the line feed."""
    seq: int
    at: datetime
    event: Event
    before: str
    key: KeyLabel
    mac: str

    @property
    def receipt(self) -> str:
        """Name the line, by its number and its MAC."""
        return f"{self.seq}.{self.mac}"

    def has_mac_of(self, mac: Mac) -> bool:
        """Tell whether its MAC is right.

        Raises:
            VaultUnavailable: the HSM token does not answer, or lacks the key.
        """
        body = self.text[: -len(MAC_MEMBER) - MAC_CHARS - len('"}')] + b"}"
        return self.key.role is KeyRole.LOG_MAC and compare_digest(
            mac(self.key, _mac_input(body)).hex(), self.mac
        )

    @classmethod
    def parse(cls, text: bytes) -> Self:
        """Read the bytes of a line, without its line feed.

        Raises:
            LogBroken: they are none.
        """
        try:
            members = json_object.parse(text)
            seq, at, before, key, mac = (
                members.pop(name) for name in ("seq", "at", "before", "key", "mac")
            )
            event = Event(Action(str(members.pop("what"))), **members)  # type: ignore[arg-type]
            line = cls(
                *(text, int(str(seq)), datetime.fromisoformat(str(at)), event, str(before)),
                *(KeyLabel.parse(str(key)), str(mac)),
            )
            # Written as we write it, so that what is read is what its MAC covers.
            is_line = MAC_PATTERN.fullmatch(line.mac) is not None and line._written() == text
        except (JoseError, CeremonyError, KeyError, TypeError, ValueError, OverflowError):
            is_line = False
        if not is_line:
            raise LogBroken("it cannot be read")
        return line

    def _written(self) -> bytes:
        body = _body(self.event, self.seq, self.at, self.before, self.key)
        return body[:-1] + MAC_MEMBER + self.mac.encode() + b'"}'


def write(event: Event, seq: int, at: datetime, before: str, key: KeyLabel, mac: Mac) -> Line:
    """Make a line, with its MAC.

    Raises:
        VaultUnavailable: the HSM token does not answer, or lacks the key.
    """
    body = _body(event, seq, at, before, key)
    made = mac(key, _mac_input(body)).hex()
    text = body[:-1] + MAC_MEMBER + made.encode() + b'"}'
    return Line(text, seq, at, event, before, key, made)


def digest(text: bytes) -> str:
    """Return SHA-256 of the bytes of a line, as the next one names it."""
    return hashlib.sha256(text).hexdigest()


def _body(event: Event, seq: int, at: datetime, before: str, key: KeyLabel) -> bytes:
    time = at.astimezone(UTC).isoformat(timespec="microseconds")
    return json_object.serialize(
        {"seq": seq, "at": time, **event.members(), "before": before, "key": str(key)}
    )


def _mac_input(body: bytes) -> bytes:
    return length_prefixed(b"log", body)

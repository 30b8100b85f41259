"""A card as a feed describes it, which is one of its ``cards`` (:mod:`hsm.feeds`).

::

    {"cardId": "…", "pan": "…", "psn": 0, "expiry": "MMYY", "plasticId": "1234",
     "cardholder": "…", "state": "active", "cardType": "PHYSICAL", "personalised": true,
     "encryptedPinBlock": "<JWE>", "type": "ISO0", "pinStatus": "W"}

The members of the first line and ``cardholder`` are the card's record, which the vault seals. The
others it does not read: it passes them on. A member that is not one of these is refused: a name
that is misspelt must not pass for one that is absent.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from crypto.errors import PanError
from crypto.pan_text import holds_this_pan
from crypto.types import Pan
from hsm.errors import CardRefused
from hsm.port import CardRef, SealedCard, SealedRecord
from hsm.records import CARDHOLDER_CHARS_MAX, CardRecord

#: The members of a card's record, and what each holds.
RECORD_MEMBERS: Final[Mapping[str, str]] = {
    "cardId": "1 to 48 letters, digits, '-' and '_'",
    "pan": "text of 8 to 19 digits",
    "psn": "a number from 0 to 99; 0 unless given",
    "expiry": "MMYY",
    "plasticId": "a number of up to 38 digits, best written as text",
    "cardholder": f"1 to {CARDHOLDER_CHARS_MAX} characters of ASCII that print",
}
#: The members that are not the vault's.
OTHER_MEMBERS: Final = (
    "state",
    "cardType",
    "personalised",
    "encryptedPinBlock",
    "type",
    "pinStatus",
)
#: What a name looks like; anything else may be a value that stands in the wrong place.
MEMBER_PATTERN: Final = re.compile("[A-Za-z_]{1,40}")
PLASTIC_ID_PATTERN: Final = re.compile("[0-9]{1,38}")
WRONG_CHECK_DIGIT: Final = "the PAN's check digit is wrong"
HOLDS_PAN: Final = "a member beside pan contains the PAN"


@dataclass(frozen=True, slots=True)
class FeedCard:
    """A card of a feed."""

    card: CardRef
    record: CardRecord
    others: Mapping[str, str | bool]
    """Members of :data:`OTHER_MEMBERS`. None of them contains the PAN."""

    def sealed(self, sealed_record: SealedRecord) -> SealedCard:
        """Tell of the card what may leave the vault."""
        record = self.record
        return SealedCard(
            self.card,
            sealed_record,
            record.pan.last_four,
            record.psn,
            record.expiry,
            record.plastic_id,
            record.cardholder_id,
            self.others,
        )


def read_card(issuer_id: str, members: object) -> FeedCard:
    """Read a card.

    Raises:
        CardRefused: it is none, its PAN is none, or another member contains the PAN. The message
            names the member at fault and shows no value.
    """
    if not isinstance(members, dict):
        raise CardRefused("not a JSON object")
    for name in members.keys() - RECORD_MEMBERS.keys() - {*OTHER_MEMBERS}:
        raise _unknown(name)
    given = {name: value for name, value in members.items() if value is not None}
    try:
        card = CardRef(issuer_id, _text(given, "cardId"))
    except ValueError:
        raise _refused("cardId") from None
    record = _record(given)
    others = {name: given[name] for name in OTHER_MEMBERS if name in given}
    for name, value in others.items():
        if not isinstance(value, str | bool):
            raise _refused(name)
    if not record.pan.luhn_valid:
        raise CardRefused(WRONG_CHECK_DIGIT)
    texts = (card.card_id, record.plastic_id or "", record.holder, *map(str, others.values()))
    if any(holds_this_pan(text, record.pan) for text in texts):
        raise CardRefused(HOLDS_PAN)
    return FeedCard(card, record, others)


def _record(given: Mapping[str, object]) -> CardRecord:
    try:
        pan = Pan(_text(given, "pan"))
    except PanError:
        raise _refused("pan") from None
    psn = given.get("psn", 0)
    if type(psn) is not int:
        raise _refused("psn")
    plastic_id = _number(given, "plasticId") if "plasticId" in given else None
    cardholder_id = _text(given, "cardholder") if "cardholder" in given else None
    try:
        return CardRecord(pan, psn, _text(given, "expiry"), plastic_id, cardholder_id)
    except ValueError as error:
        raise _refused(str(error)) from None


def _text(given: Mapping[str, object], name: str) -> str:
    if name not in given:
        raise CardRefused(_described("missing member: ", name))
    value = given[name]
    if not isinstance(value, str):
        raise _refused(name)
    return value


def _number(given: Mapping[str, object], name: str) -> str:
    """Read a number without leading zeros, written as text or as JSON writes one.

    As text it may have more digits than some writers of JSON keep.
    """
    value = given[name]
    text = str(value) if type(value) is int else _text(given, name)
    if not PLASTIC_ID_PATTERN.fullmatch(text):
        raise _refused(name)
    return text.lstrip("0") or "0"


def _unknown(name: str) -> CardRefused:
    shown = f": {name}" if MEMBER_PATTERN.fullmatch(name) else ""
    known = ", ".join((*RECORD_MEMBERS, *OTHER_MEMBERS))
    return CardRefused(f"unknown member{shown} (known are {known})")


def _refused(name: str) -> CardRefused:
    return CardRefused(_described("refused member: ", name))


def _described(fault: str, name: str) -> str:
    what = RECORD_MEMBERS.get(name)
    return fault + name + (f" ({what})" if what else "")

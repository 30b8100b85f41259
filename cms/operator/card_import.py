"""Cards come in: one by one, or in bulk as JSON lines.

::

    {"cardId": "…", "panJwe": "<JWE>", "expiry": "MMYY", "psn": 0, "state": "active",
     "cardholder": "…", "cardType": "PHYSICAL", "plasticId": "1234", "personalised": true,
     "encryptedPinBlock": "<JWE>", "type": "ISO0"}

``panJwe`` is encrypted to the vault's intake key, plaintext ``{"pan": "…"}``. The last two members
are for a card whose PIN is known: they are what PUT pin takes, and the change counter stays 0;
without ``type`` the block is of the wire profile's first ISO-0 type. A member that is not one of
these is refused: a name that is misspelt must not pass for a default.
``state`` is inactive unless given. ``cardholder`` is the identity provider's name of who holds the
card, its subject; ``cardType`` VIRTUAL, PHYSICAL or METAL. ``plasticId`` is the card's name at the
pincontrol face, a number of up to 38 digits, best written as text. ``personalised`` tells whether
there is a plastic whose PIN cannot be set there any more; unless given, a card that is not
inactive is.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from cms.domain.cards import CardState, CardType, parse_plastic_id
from cms.operator.command_line import Refused
from cms.persistence.admin import AdminError, Database, add_card
from crypto.errors import JoseError
from crypto.jose import json_object
from crypto.types import PSN_MAX
from hsm.errors import (
    CardIdHoldsPan,
    CardRefusesForm,
    HsmError,
    LuhnInvalid,
    ManifestRefused,
    PanRejected,
    PinRejected,
    TypeNotOffered,
    ValueNotPossible,
    WeakPinRefused,
    WrongPinData,
)
from hsm.manifest.wire import WireProfile
from hsm.port import CardRef, PinBlockType, PinVault
from hsm.records import CARDHOLDER_CHARS_MAX, EXPIRY_PATTERN, is_cardholder_id

COMMIT_EVERY_ROWS: Final = 200
LINE_BYTES_MAX: Final = 64 * 1024
#: The members of a row, and what each holds.
MEMBERS: Final[Mapping[str, str]] = {
    "cardId": "1 to 48 letters, digits, '-' and '_'",
    "panJwe": "a compact JWE",
    "expiry": "MMYY",
    "psn": "a number from 0 to 99",
    "state": ", ".join(CardState),
    "cardholder": f"1 to {CARDHOLDER_CHARS_MAX} characters of ASCII that print",
    "cardType": ", ".join(CardType),
    "plasticId": "a number of up to 38 digits",
    "personalised": "true or false",
    "encryptedPinBlock": "a compact JWE",
    "type": "text, as in PUT pin",
}
#: What a name looks like; anything else may be a value that stands in the wrong place.
MEMBER_PATTERN: Final = re.compile("[A-Za-z_]{1,40}")
BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
REASONS: Final[Mapping[type[HsmError], str]] = {
    LuhnInvalid: "the PAN's check digit is wrong",
    CardIdHoldsPan: "the card id, the plastic id or the cardholder contains the PAN",
    PanRejected: "panJwe does not hold a PAN encrypted to the intake key",
    PinRejected: "encryptedPinBlock cannot be used",
    WrongPinData: "encryptedPinBlock cannot be used",
    CardRefusesForm: "too many PINs of this card failed",
    WeakPinRefused: "the PIN policy forbids this PIN",
    TypeNotOffered: "this type of PIN block is not offered",
    ValueNotPossible: "a card of this issuer does not take a PIN in this form",
    ManifestRefused: "a PIN needs a manifest of the issuer that is in force on this host",
}


class RowRefused(Refused):
    """A card that is not taken in; the message says why and shows no value."""


@dataclass(frozen=True, slots=True)
class NewCard:
    """A card as it comes in."""

    card: CardRef
    pan_jwe: str
    psn: int
    expiry: str
    state: CardState
    pin_jwe: str | None
    pin_literal: str | None
    cardholder_id: str | None
    card_type: CardType
    plastic_id: str | None
    personalised: bool


@dataclass(frozen=True, slots=True)
class LineResult:
    """What became of one line, counted from 1; *refused* is None for a card that is stored."""

    line: int
    refused: str | None


@dataclass(frozen=True, slots=True)
class CardImport:
    """Takes cards of one issuer, whose wire profile is *wire*, into the database."""

    database: Database
    vault: PinVault
    wire: WireProfile

    def run(self, issuer_id: str, lines: Iterable[bytes]) -> Iterator[LineResult]:
        """Take each line in; a bad one stores nothing and does not stop the others."""
        for number, given in enumerate(lines, start=1):
            line = given.removeprefix(BYTE_ORDER_MARK) if number == 1 else given
            if not line.strip():
                continue
            try:
                self.add(read_line(issuer_id, line))
            except RowRefused as error:
                yield LineResult(number, str(error))
            else:
                yield LineResult(number, None)
            if number % COMMIT_EVERY_ROWS == 0:
                self.database.commit()
        self.database.commit()

    def add(self, new: NewCard) -> None:
        """Seal and store one card.

        Raises:
            RowRefused: the vault or the database does not take it.
            VaultUnavailable: the HSM token is unavailable.
        """
        try:
            sealed = self.vault.seal_record(
                *(new.pan_jwe, new.card, new.psn, new.expiry, new.plastic_id, new.cardholder_id)
            )
            change = None
            if new.pin_jwe is not None:
                first = self.wire.put_pin.iso0[0]
                literal = first if new.pin_literal is None else new.pin_literal
                block_type = self.wire.block_type(literal)
                if block_type is None:
                    raise RowRefused("unknown type of PIN block")
                if block_type is not PinBlockType.ISO0:
                    # A SECCOS PIN is made for one change of the card, and this is none.
                    raise RowRefused(REASONS[TypeNotOffered])
                change = self.vault.set_pin_from_jwe(
                    new.pin_jwe,
                    block_type,
                    new.card,
                    sealed.sealed_record,
                    0,
                    None,
                )
            add_card(
                self.database,
                new.card,
                sealed_record=sealed.sealed_record,
                last_four=sealed.last_four,
                expiry=new.expiry,
                psn=new.psn,
                state=new.state.value,
                cardholder_id=new.cardholder_id,
                card_type=new.card_type.value,
                plastic_id=new.plastic_id,
                personalised=new.personalised,
                change=change,
            )
        except AdminError as error:
            raise RowRefused(str(error)) from None
        except tuple(REASONS) as error:
            raise RowRefused(REASONS[type(error)]) from None


def wire_profile(vault: PinVault, issuer_id: str) -> WireProfile:
    """Return the issuer's wire profile; without a manifest the defaults, as only PINs need one."""
    try:
        return vault.read_manifest(issuer_id).wire
    except ManifestRefused:
        return WireProfile()


def read_line(issuer_id: str, line: bytes) -> NewCard:
    """Read one line.

    Raises:
        RowRefused: it is not such a row; the message names the member at fault.
    """
    try:
        members = json_object.parse(line if len(line) <= LINE_BYTES_MAX else b"")
    except JoseError:
        raise RowRefused("not a JSON object") from None
    for name in members.keys() - MEMBERS:
        known = ", ".join(MEMBERS)
        shown = f": {name}" if MEMBER_PATTERN.fullmatch(name) else ""
        raise RowRefused(f"unknown member{shown} (known are {known})")
    if members.get("type") is not None and "encryptedPinBlock" not in members:
        raise _missing("encryptedPinBlock")
    psn = members.get("psn", 0)
    if type(psn) is not int:
        raise _refused("psn")
    personalised = members.get("personalised")
    if personalised is not None and type(personalised) is not bool:
        raise _refused("personalised")
    return new_card(
        issuer_id,
        _text(members, "cardId"),
        pan_jwe=_text(members, "panJwe"),
        expiry=_text(members, "expiry"),
        psn=psn,
        state=_text(members, "state", CardState.INACTIVE.value),
        pin_jwe=_text_or_none(members, "encryptedPinBlock"),
        pin_literal=_text_or_none(members, "type"),
        cardholder_id=_text_or_none(members, "cardholder"),
        card_type=_text(members, "cardType", CardType.PHYSICAL.value),
        plastic_id=_number_or_none(members, "plasticId"),
        personalised=personalised,
    )


def new_card(
    issuer_id: str,
    card_id: str,
    *,
    pan_jwe: str,
    expiry: str,
    psn: int,
    state: str,
    pin_jwe: str | None = None,
    pin_literal: str | None = None,
    cardholder_id: str | None = None,
    card_type: str = CardType.PHYSICAL.value,
    plastic_id: str | None = None,
    personalised: bool | None = None,
) -> NewCard:
    """Parse the values of a card.

    Raises:
        RowRefused: naming the member at fault.
    """
    try:
        card = CardRef(issuer_id, card_id)
    except ValueError:
        raise _refused("cardId") from None
    if not 0 <= psn <= PSN_MAX:
        raise _refused("psn")
    if not EXPIRY_PATTERN.fullmatch(expiry):
        raise _refused("expiry")
    if state not in set(CardState):
        raise _refused("state")
    if cardholder_id is not None and not is_cardholder_id(cardholder_id):
        raise _refused("cardholder")
    if card_type not in set(CardType):
        raise _refused("cardType")
    plastic = None if plastic_id is None else parse_plastic_id(plastic_id)
    if plastic_id is not None and plastic is None:
        raise _refused("plasticId")
    return NewCard(
        card,
        pan_jwe,
        psn,
        expiry,
        CardState(state),
        pin_jwe,
        pin_literal,
        cardholder_id,
        CardType(card_type),
        plastic,
        state != CardState.INACTIVE if personalised is None else personalised,
    )


def _refused(name: str) -> RowRefused:
    return RowRefused(f"refused member: {name} ({MEMBERS[name]})")


def _missing(name: str) -> RowRefused:
    return RowRefused(f"missing member: {name} ({MEMBERS[name]})")


def _text(members: Mapping[str, object], name: str, default: str | None = None) -> str:
    value = members.get(name, default)
    if value is None and default is None:
        raise _missing(name)
    if not isinstance(value, str):
        raise _refused(name)
    return value


def _number_or_none(members: Mapping[str, object], name: str) -> str | None:
    """Read a number, as JSON writes one or as text: more digits than some readers of JSON keep."""
    value = members.get(name)
    return str(value) if type(value) is int else _text_or_none(members, name)


def _text_or_none(members: Mapping[str, object], name: str) -> str | None:
    return None if members.get(name) is None else _text(members, name)

"""Card records: what the vault believes of a card. The database's columns are indexes of them.

The field that is sealed, always of one size, so that it tells nothing of what is in it::

    PAN         number of digits 1, digits 19
    PSN         1, binary
    expiry      4, MMYY
    plastic id  number of digits 1, digits 38
    cardholder  number of characters 1, characters 255

Texts are ASCII, filled up with zero bytes; a number of 0 stands for none.
"""

import re
from dataclasses import dataclass
from typing import Final

from crypto.seccos.card import CardData
from crypto.types import PAN_DIGITS_MAX, PSN_MAX, Pan

EXPIRY_PATTERN: Final = re.compile("(?:0[1-9]|1[0-2])[0-9]{2}")
PLASTIC_ID_PATTERN: Final = re.compile("0|[1-9][0-9]{0,37}")
PLASTIC_ID_DIGITS_MAX: Final = 38
CARDHOLDER_CHARS_MAX: Final = 255
"""OpenID Connect Core, section 2: a subject."""
EXPIRY_CHARS: Final = 4
FIELD_BYTES: Final = 1 + PAN_DIGITS_MAX + 1 + EXPIRY_CHARS + 1 + PLASTIC_ID_DIGITS_MAX + 256


@dataclass(frozen=True, slots=True)
class CardRecord:
    """A card, as its issuer described it.

    Raises:
        ValueError: a value is not one. The message is the name of its member in a feed.
    """

    pan: Pan
    psn: int
    """The PAN sequence number, 0 to 99."""
    expiry: str
    """MMYY."""
    plastic_id: str | None = None
    """The card's name at the pincontrol face: a number without leading zeros."""
    cardholder_id: str | None = None
    """Who holds the card: the identity provider's subject."""

    def __post_init__(self) -> None:
        if not 0 <= self.psn <= PSN_MAX:
            raise ValueError("psn")
        if not EXPIRY_PATTERN.fullmatch(self.expiry):
            raise ValueError("expiry")
        if self.plastic_id is not None and not PLASTIC_ID_PATTERN.fullmatch(self.plastic_id):
            raise ValueError("plasticId")
        if self.cardholder_id is not None and not is_cardholder_id(self.cardholder_id):
            raise ValueError("cardholder")

    @property
    def holder(self) -> str:
        """The cardholder's id; of a card that nobody holds it is empty."""
        return self.cardholder_id or ""

    @property
    def card_data(self) -> CardData:
        """The card, as what is computed of it and a PIN takes it."""
        return CardData(self.pan, self.psn, self.expiry[2:] + self.expiry[:2])


def is_cardholder_id(text: str) -> bool:
    """Tell whether *text* can be a subject: 1 to 255 characters of ASCII that print.

    Two that look alike must not be two.
    """
    return 0 < len(text) <= CARDHOLDER_CHARS_MAX and text.isascii() and text.isprintable()


def write_record(record: CardRecord) -> bytes:
    """Write the field that is sealed, 320 bytes."""
    return b"".join(
        (
            _write_text(record.pan.reveal(), PAN_DIGITS_MAX),
            bytes((record.psn,)),
            record.expiry.encode(),
            _write_text(record.plastic_id or "", PLASTIC_ID_DIGITS_MAX),
            _write_text(record.holder, CARDHOLDER_CHARS_MAX),
        )
    )


def read_record(field: bytes) -> CardRecord:
    """Read what :func:`write_record` wrote."""
    pan, rest = _read_text(field, PAN_DIGITS_MAX)
    psn, expiry = rest[0], rest[1 : 1 + EXPIRY_CHARS].decode()
    plastic_id, rest = _read_text(rest[1 + EXPIRY_CHARS :], PLASTIC_ID_DIGITS_MAX)
    cardholder_id, _ = _read_text(rest, CARDHOLDER_CHARS_MAX)
    return CardRecord(Pan(pan), psn, expiry, plastic_id or None, cardholder_id or None)


def _write_text(text: str, chars_max: int) -> bytes:
    return bytes((len(text),)) + text.encode("ascii").ljust(chars_max, b"\0")


def _read_text(field: bytes, chars_max: int) -> tuple[str, bytes]:
    return field[1 : 1 + field[0]].decode("ascii"), field[1 + chars_max :]

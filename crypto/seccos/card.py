"""The data of a card that goes into PRW and MAC.

NOT PUBLIC: OUR DESIGN, after IBM CCA, "DK PIN methods" (card_p_data and card_t_data)::

    PAN   ASCII digits
    CDp   permanent card data, by default the PSN in 2 bytes
    CDt   card data that changes, by default the expiry date as YYMM in BCD, then the counter
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from crypto.errors import CardDataError
from crypto.seccos.profile import COUNTER_PARTS, PrwProfile, SeccosProfile, card_parts
from crypto.types import PSN_MAX, Pan

ISO12_DIGITS: Final = 12
HEX_PREFIX: Final = "hex:"
_YYMM: Final = re.compile("[0-9]{2}(?:0[1-9]|1[0-2])")


@dataclass(frozen=True, slots=True)
class CardData:
    """A card: its PAN, its PSN (0 to 99) and its expiry date (4 digits, YYMM).

    >>> CardData(Pan("4111111111111111"), psn=1, expiry_yymm="2912")
    CardData(pan=Pan(***), psn=1, expiry_yymm='2912')

    Raises:
        CardDataError: the PSN is not 0 to 99, or the expiry date is not YYMM.
    """

    pan: Pan
    psn: int
    expiry_yymm: str

    def __post_init__(self) -> None:
        if not 0 <= self.psn <= PSN_MAX or not _YYMM.fullmatch(self.expiry_yymm):
            raise CardDataError


_RENDERERS: Final[Mapping[str, Callable[[CardData], bytes]]] = {
    "{psn:u8}": lambda card: card.psn.to_bytes(1),
    "{psn:u16}": lambda card: card.psn.to_bytes(2),
    "{psn:bcd}": lambda card: bytes.fromhex(f"{card.psn:02d}"),
    "{psn:ascii}": lambda card: f"{card.psn:02d}".encode("ascii"),
    "{expiry:yymm}": lambda card: bytes.fromhex(card.expiry_yymm),
    "{expiry:ascii}": lambda card: card.expiry_yymm.encode("ascii"),
}


def pan_text(card: CardData, prw: PrwProfile) -> bytes:
    """Return the PAN in ASCII: all of it, or the 12 digits left of its check digit."""
    digits = card.pan.reveal()
    if prw.pan == "iso12":
        digits = digits[-ISO12_DIGITS - 1 : -1].rjust(ISO12_DIGITS, "0")
    return digits.encode("ascii")


def cdp(card: CardData, prw: PrwProfile) -> bytes:
    """Return CDp, the permanent card data, 2 to 256 bytes.

    >>> card = CardData(Pan("4111111111111111"), psn=1, expiry_yymm="2912")
    >>> cdp(card, PrwProfile()).hex()
    '0001'
    """
    return _render(prw.cdp, card)


def cdt(card: CardData, counter: int, profile: SeccosProfile) -> bytes:
    """Return CDt, the card data that changes, and the counter behind it if the profile says so.

    >>> card = CardData(Pan("4111111111111111"), psn=1, expiry_yymm="2912")
    >>> cdt(card, 7, SeccosProfile()).hex()
    '29120007'
    """
    suffix = b""
    if profile.prw.counter_binding == "cdt_suffix":
        suffix = counter.to_bytes(profile.counter.width)
    return _render(profile.prw.cdt, card) + suffix


def common_part(part: str, card: CardData, counter: int, profile: SeccosProfile) -> bytes:
    """Return the bytes of a part that PRW and MAC share: PAN, card data, counter or literal."""
    if part in COUNTER_PARTS:
        return counter.to_bytes(COUNTER_PARTS[part])
    if part.startswith(HEX_PREFIX):
        return bytes.fromhex(part.removeprefix(HEX_PREFIX))
    return {
        "pan": pan_text(card, profile.prw),
        "cdp": cdp(card, profile.prw),
        "cdt": cdt(card, counter, profile),
    }[part]


def _render(template: str, card: CardData) -> bytes:
    return b"".join(
        _RENDERERS[part](card) if part in _RENDERERS else bytes.fromhex(part)
        for part in card_parts(template)
    )

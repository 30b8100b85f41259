"""What of a card can be set anew: its holder, its plastic id, its expiry and its PSN."""

from typing import Final

from cms.domain.cards import parse_plastic_id
from cms.operator.card_import import MEMBERS
from cms.operator.command_line import Refused
from crypto.pan_text import holds_pan_ending
from hsm.records import is_cardholder_id

#: Stand for what is not set: the two are parsed together.
ANY_PSN: Final = 0
ANY_EXPIRY: Final = "0100"


def changes(
    last_four: str,
    *,
    cardholder: str | None,
    plastic_id: str | None,
    expiry: str | None,
    psn: int | None,
) -> dict[str, str | int | None]:
    """Name the columns to be set; a holder or a plastic id that is empty is taken away.

    Args:
        last_four: of the card's PAN.
        cardholder: the identity provider's subject.
        plastic_id: the card's name at the pincontrol face.
        expiry: MMYY.
        psn: 0 to 99.

    Raises:
        Refused: a value is not one, may contain the PAN, or there is none.
    """
    found: dict[str, str | int | None] = {}
    if psn is not None:
        found["psn"] = psn
    if expiry is not None:
        found["expiry"] = expiry
    if cardholder is not None:
        if cardholder and not is_cardholder_id(cardholder):
            raise Refused(f"refused: cardholder ({MEMBERS['cardholder']})")
        found["cardholder_id"] = cardholder or None
    if plastic_id is not None:
        found["plastic_id"] = parse_plastic_id(plastic_id)
        if plastic_id and found["plastic_id"] is None:
            raise Refused(f"refused: plasticId ({MEMBERS['plasticId']})")
    if not found:
        raise Refused("nothing to change: see --help")
    if any(holds_pan_ending(text, last_four) for text in (cardholder or "", plastic_id or "")):
        raise Refused("the cardholder or the plastic id may contain the PAN")
    return found

r"""Which PIN block format may be translated into which.

Source: PCI PIN Security 3.1, requirement 3-3, after ISO 9564-1::

    from \ to   0 3 4       1     2
    0 3 4       same PAN    no    card script
    1           yes         yes   card script
    2           no          no    no

Where an issuer says so, a block bound to the PAN may become format 1, to convey the PIN to its
cardholder: the table does not allow that, and it is for the issuer to answer for.
"""

from typing import Final

from crypto.errors import TranslationError
from crypto.pinblock import PinBlockFormat

PAN_BOUND: Final = frozenset({PinBlockFormat.ISO0, PinBlockFormat.ISO3, PinBlockFormat.ISO4})


def permit(
    source: PinBlockFormat,
    target: PinBlockFormat,
    *,
    same_pan: bool,
    for_card_script: bool = False,
    for_cardholder: bool = False,
) -> None:
    """Return if a block of format *source* may be translated into format *target*, else raise.

    >>> permit(PinBlockFormat.ISO0, PinBlockFormat.ISO4, same_pan=True)
    >>> permit(PinBlockFormat.ISO2, PinBlockFormat.ISO0, same_pan=True)
    Traceback (most recent call last):
    crypto.errors.TranslationError

    Args:
        source: format of the block at hand.
        target: format of the block wanted.
        same_pan: whether both blocks are for the same PAN.
        for_card_script: whether the new block goes to the chip and to nobody else.
        for_cardholder: whether the new block conveys the PIN to its cardholder, as its issuer wants
            it against the table.

    Raises:
        TranslationError: the table above does not allow it.
    """
    allowed = (
        source in PAN_BOUND and target in PAN_BOUND and same_pan,
        source is PinBlockFormat.ISO1 and target is not PinBlockFormat.ISO2,
        source is not PinBlockFormat.ISO2 and target is PinBlockFormat.ISO2 and for_card_script,
        source in PAN_BOUND and target is PinBlockFormat.ISO1 and same_pan and for_cardholder,
    )
    if not any(allowed):
        raise TranslationError

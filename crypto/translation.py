r"""Which PIN block format may become which.

Source: PCI PIN Security 3.1, requirement 3-3, after ISO 9564-1::

    from \ to   0 3 4       1     2
    0 3 4       same PAN    no    card script
    1           yes         yes   card script
    2           no          no    no
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
) -> None:
    """Pass if a block of *source* may become one of *target*.

    Args:
        source: format of the block at hand.
        target: format of the block wanted.
        same_pan: both blocks belong to one PAN.
        for_card_script: the new block goes to the chip and nowhere else.

    Raises:
        TranslationError: the table does not list the pair.
    """
    allowed = (
        source in PAN_BOUND and target in PAN_BOUND and same_pan,
        source is PinBlockFormat.ISO1 and target is not PinBlockFormat.ISO2,
        source is not PinBlockFormat.ISO2 and target is PinBlockFormat.ISO2 and for_card_script,
    )
    if not any(allowed):
        raise TranslationError

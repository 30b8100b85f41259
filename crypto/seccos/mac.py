"""The MAC of a SECCOS payload, over the enciphered block: checking it does not need the PIN.

NOT PUBLIC: OUR DESIGN. The profile lists the parts of the input, which follow one another without
lengths. The default is the card's script command::

    8424000210 ‖ counter, 2 bytes ‖ enciphered block
"""

from crypto.seccos.card import CardData, common_part
from crypto.seccos.profile import SeccosProfile
from crypto.types import Mac


def compute(
    block: bytes,
    card: CardData,
    counter: int,
    profile: SeccosProfile,
    mac: Mac,
    *,
    prw: bytes = b"",
    random: bytes = b"",
) -> bytes:
    """Return the MAC: the leftmost bytes, as many as the profile says.

    Args:
        block: the enciphered PIN block.
        card: the card whose PIN it is.
        counter: the change counter that D1 computes with.
        profile: the input and the length.
        mac: the profile's algorithm under the MAC key, or under its session key.
        prw: the PRW of the payload, if it is part of the input.
        random: the random bytes of the payload, if they are part of the input.
    """
    whole = mac(message(block, card, counter, profile, prw=prw, random=random))
    return whole[: profile.mac.length]


def message(
    block: bytes,
    card: CardData,
    counter: int,
    profile: SeccosProfile,
    *,
    prw: bytes = b"",
    random: bytes = b"",
) -> bytes:
    """Return the input of the MAC.

    >>> from crypto.types import Pan
    >>> card = CardData(Pan("6725901234567890125"), psn=1, expiry_yymm="2912")
    >>> message(bytes.fromhex("1AFE25C0EFA69708"), card, 7, SeccosProfile()).hex()
    '842400021000071afe25c0efa69708'

    Args:
        block: as for :func:`compute`.
        card: as for :func:`compute`.
        counter: as for :func:`compute`.
        profile: as for :func:`compute`.
        prw: as for :func:`compute`.
        random: as for :func:`compute`.
    """
    own = {"pinBlock": block, "prw": prw, "random": random}
    return b"".join(
        own[part] if part in own else common_part(part, card, counter, profile)
        for part in profile.mac.input
    )

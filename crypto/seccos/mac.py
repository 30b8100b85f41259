"""The MAC of a SECCOS payload: over the enciphered block, so that it is checked without the PIN.

NOT PUBLIC: OUR DESIGN. By default the MAC of the card's script command, else what the profile
lists, in its order and without lengths::

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
    """Return the MAC, cut to the profile's length.

    Args:
        block: the enciphered PIN block.
        card: whose PIN.
        counter: the counter that D1 computes with.
        profile: how.
        mac: the profile's algorithm under the (session) key of the MAC.
        prw: the PRW of the payload, if the profile has it in the MAC.
        random: the random of the payload, likewise.
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
    """Lay out what the MAC is over."""
    own = {"pinBlock": block, "prw": prw, "random": random}
    return b"".join(
        own[part] if part in own else common_part(part, card, counter, profile)
        for part in profile.mac.input
    )

"""The PIN reference value (PRW): a MAC over the PIN and data of the card.

NOT PUBLIC: OUR DESIGN, after IBM CCA, "DK PIN methods", which names the parts but not their
bytes. Two of the encodings, with lengths in 2 bytes, big-endian::

    lv            50 52 57 31 ‖ len PAN ‖ PAN ‖ len CDp ‖ CDp ‖ len CDt ‖ CDt ‖ 0N PIN F… ‖ random
    ibm-literal   PAN ‖ CDp ‖ CDt ‖ PIN length, 1 byte ‖ PIN in ASCII ‖ random

"random" is 4 random bytes, the counter in 4 bytes, or nothing, as the profile says.
"""

from typing import Final

from crypto.errors import SeccosError
from crypto.pinblock import iso0
from crypto.pinblock.fields import pin_field
from crypto.seccos.card import CardData, cdp, cdt, common_part, pan_text
from crypto.seccos.profile import PRW_RANDOM_BYTES, SeccosProfile
from crypto.secret import Secret
from crypto.types import Mac, Pin

DOMAIN_TAG: Final = b"PRW1"


def compute(
    pin: Pin, card: CardData, counter: int, random: bytes, profile: SeccosProfile, mac: Mac
) -> bytes:
    """Return the PRW of *pin*, 16 or 8 bytes.

    Args:
        pin: the clear PIN.
        card: the card whose PIN it is.
        counter: the change counter that D1 computes with.
        random: ``profile.prw.random_bytes`` bytes: 4, or none.
        profile: the encoding.
        mac: the profile's algorithm under the PRW key; it is called once.

    Raises:
        SeccosError: *random* has another length.
    """
    return mac(message(pin, card, counter, random, profile).reveal())


def message(
    pin: Pin, card: CardData, counter: int, random: bytes, profile: SeccosProfile
) -> Secret[bytes]:
    """Return the input of the PRW; the clear PIN is in it.

    >>> from crypto.types import Pan
    >>> card = CardData(Pan("6725901234567890125"), psn=1, expiry_yymm="2912")
    >>> random = bytes.fromhex("DEADBEEF")
    >>> message(Pin("1234"), card, 7, random, SeccosProfile()).reveal().hex()[-24:]
    '041234ffffffffffdeadbeef'

    Args:
        pin: as for :func:`compute`.
        card: as for :func:`compute`.
        counter: as for :func:`compute`.
        random: as for :func:`compute`.
        profile: as for :func:`compute`.

    Raises:
        SeccosError: *random* has another length than the profile says.
    """
    prw = profile.prw
    if len(random) != prw.random_bytes:
        raise SeccosError
    if prw.counter_binding == "replace_random":
        random = replacement(counter)
    digits = pin.reveal()
    field = pin_field(iso0.CONTROL, pin, iso0.FILL)
    if prw.encoding == "lv":
        parts = (pan_text(card, prw), cdp(card, prw), cdt(card, counter, profile))
        prefixed = b"".join(len(part).to_bytes(2) + part for part in parts)
        return Secret(DOMAIN_TAG + prefixed + field + random)
    own = {
        "length": bytes([len(digits)]),
        "pin": digits.encode("ascii"),
        "pinField": field,
        "random": random,
    }
    ibm_order = ("pan", "cdp", "cdt", "length", "pin", "random")
    order = ibm_order if prw.encoding == "ibm-literal" else prw.template
    return Secret(
        b"".join(
            own[part] if part in own else common_part(part, card, counter, profile)
            for part in order
        )
    )


def replacement(counter: int) -> bytes:
    """Return *counter* in 4 bytes: with ``counter_binding: replace_random`` it is the random."""
    return counter.to_bytes(PRW_RANDOM_BYTES)

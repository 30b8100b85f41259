"""The PIN reference value (PRW): a MAC over PIN and card, from which the PIN does not come back.

NOT PUBLIC: OUR DESIGN, after IBM CCA, "DK PIN methods", which names the parts and not their
bytes. Two of the encodings, lengths in 2 bytes big-endian::

    lv            50 52 57 31 ‖ len PAN ‖ PAN ‖ len CDp ‖ CDp ‖ len CDt ‖ CDt ‖ 0N PIN F… ‖ random
    ibm-literal   PAN ‖ CDp ‖ CDt ‖ PIN length, 1 byte ‖ PIN in ASCII ‖ random

The random is 4 bytes, or the counter in 4 bytes, or missing, as the profile says.
"""

from typing import Final

from crypto.errors import SeccosError
from crypto.pinblock import PinBlockFormat
from crypto.pinblock.fields import FILL_NIBBLES_MAX, pin_field
from crypto.seccos.card import CardData, cdp, cdt, common_part, pan_text
from crypto.seccos.profile import RANDOM_BYTES, SeccosProfile
from crypto.secret import Secret
from crypto.types import Mac, Pin

DOMAIN_TAG: Final = b"PRW1"
FILL: Final = "F"


def compute(
    pin: Pin, card: CardData, counter: int, random: bytes, profile: SeccosProfile, mac: Mac
) -> bytes:
    """Return the PRW of *pin*, 16 or 8 bytes, with one call of *mac*.

    Args:
        pin: the clear PIN.
        card: whose PIN.
        counter: the counter that D1 computes with.
        random: as many bytes as ``profile.prw.random_bytes`` says: 4, or none.
        profile: how.
        mac: the profile's algorithm under the key of the PRW.

    Raises:
        SeccosError: the random has another length.
    """
    return mac(message(pin, card, counter, random, profile).reveal())


def message(
    pin: Pin, card: CardData, counter: int, random: bytes, profile: SeccosProfile
) -> Secret[bytes]:
    """Lay out what the PRW is over: the PIN is in it.

    Raises:
        SeccosError: *random* has not the length that the profile asks for.
    """
    prw = profile.prw
    if len(random) != prw.random_bytes:
        raise SeccosError
    if prw.counter_binding == "replace_random":
        random = replacement(counter)
    digits = pin.reveal()
    field = pin_field(PinBlockFormat.ISO0, pin, FILL * FILL_NIBBLES_MAX)
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
    """Return what stands in for the random with ``counter_binding: replace_random``."""
    return counter.to_bytes(RANDOM_BYTES)

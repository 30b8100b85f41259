"""The personalisation bureau: how it gets PINs, for its chips and for letters to cardholders."""

from typing import Literal

from hsm.manifest.body import Body
from hsm.manifest.limits import HandOutsMax
from hsm.manifest.verification import Generation


class BureauBody(Body):
    """Under which of the keys that the bureau shares it gets PINs (:mod:`hsm.mailers`)."""

    block: Literal["iso4", "iso0"] = "iso4"
    """``iso4``: format 4 under an AES key; ``iso0``: format 0 under a TDES key."""
    pin_key_generation: Generation = 1
    """Of the issuer's key of role ``bureau-pin-aes``, or ``bureau-pin`` with ``iso0``."""
    mac: Literal["aes-cmac", "iso9797-alg3"] = "aes-cmac"
    """Over a batch; ``iso9797-alg3`` is the retail MAC (:mod:`crypto.retail_mac`)."""
    mac_key_generation: Generation = 1
    """Of the issuer's key of role ``bureau-mac``, or ``bureau-mac-retail``."""
    pins_day_max: HandOutsMax = 10_000
    """PINs that each vault host hands out to it on a day (UTC)."""

"""How many PINs may be handed out and set from pages, and how much a TDES key may encipher."""

from typing import Annotated

from pydantic import Field

from hsm.manifest.body import Body

HandOutsMax = Annotated[int, Field(ge=1, le=10_000_000)]


class LimitsBody(Body):
    """Limits, which each vault host counts for itself; those of a day are of a day in UTC.

    An image, digits for a page, and a PIN that is set from a page are one each.
    """

    handouts_card_day_max: HandOutsMax = 20
    """Of one card."""
    handouts_client_day_max: HandOutsMax = 20_000
    """To one client, over all cards."""
    handouts_issuer_day_max: HandOutsMax = 50_000
    """To all clients of the issuer."""
    tdes_blocks_max: Annotated[int, Field(ge=1, le=1 << 20)] | None = None
    """Blocks that may go through a TDES key of the issuer, from which on it enciphers none: what
    needs it is 503. None: that is logged only. Keys that decipher and verify go on."""
